"""The texts of log lines about calls: short, on one line, and without secrets, whatever an exception says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from railtracks._log_handlers import class_name
from railtracks.state import CallRecord, Reason
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._guarding import guarded
from railtracks.state._serialization._redacted_values import redact_and_cut

MAX_MESSAGE = 1_000
"""The number of characters of a message that stand in a line."""
MAX_MEMBERS = 3
"""The number of members of an exception group that are described in a line."""
_CAUSES: Mapping[Reason, str] = {
    Reason.BUDGET: ": the session has used up its budget",
    Reason.NODE_TIMEOUT: ": a call above it exceeded the timeout of its node",
    Reason.SESSION_ENDED: ": the session ended before it",
    Reason.RUN_ENDED: ": the top-level call ended before it",
    Reason.REQUEST: ": rt.state.cancel_run was called",
    Reason.HANDLE: ": handle.cancel() was called",
    Reason.BATCH: ": another call of its batch failed",
    Reason.OUTSIDE: ": by the code around it, such as a timeout of its own, or by Ctrl-C",
}


def one_line(text: str) -> str:
    """Return a text with escapes in place of line breaks and of what else is not printed."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def described(exc: BaseException, redactor: Redactor) -> str:
    """Return the class and the message of an exception, as the last line of a traceback has them, and its place."""
    from railtracks.execution._waiting import raised_at  # here, as few programs need it

    message = redact_and_cut(guarded(str, exc), MAX_MESSAGE, redactor, redactor.redact_free_text)
    return f"{class_name(exc)}{': ' if message else ''}{message}{raised_at(exc)}"


def cause_text(record: CallRecord, waiting: Sequence[str], failure: BaseException | None) -> str:
    """Return why a call was cancelled, to stand after the reason.

    Args:
        record: The record of the call.
        waiting: Where the innermost calls below it waited when it timed out; empty for others.
        failure: The error that ended the session, if one did.
    """
    if record.reason is Reason.TIMEOUT and record.timeout is not None:
        return f": {timeout_text(record.timeout, waiting)}"
    if record.reason is Reason.BUDGET and record.timeout is not None:
        return f": {budget_text(record.timeout, waiting)}"
    if record.reason is Reason.END_ON_ERROR and failure is not None:
        return f": {class_name(failure)} ended the session"
    return _CAUSES.get(record.reason, "") if record.reason is not None else ""


def timeout_text(seconds: float, waiting: Sequence[str]) -> str:
    """Return what a top-level call had done when it timed out.

    Args:
        seconds: The limit.
        waiting: Where the innermost calls below it waited.
    """
    return f"it took longer than {seconds:g} s{_where(waiting)}"


def budget_text(seconds: float, waiting: Sequence[str]) -> str:
    """Return why the budget of the session ended a top-level call. The arguments are those of ``timeout_text``."""
    return f"the session has used up its budget of {seconds:g} s{_where(waiting)}"


def _where(waiting: Sequence[str]) -> str:
    return f", waiting in {'; '.join(waiting)}" if waiting else ""
