"""The texts that describe one call: its name and arguments, its duration, its outcome. They are without secrets."""

from __future__ import annotations

from railtracks._log_handlers import class_name
from railtracks.state._records import CallRecord, PolicyFacts, Status, is_reused
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._guarding import guarded
from railtracks.state._serialization._placeholders import IGNORED, RecordedError
from railtracks.state._serialization._redacted_values import redact_and_cut
from railtracks.state._serialization._shown_arguments import arguments_of, shown_arguments
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._views._user_frames import without_library_frames

_MAX_ARGUMENT = 50
_MAX_ARGUMENTS = 100
_MAX_NAME = 80
_MAX_REASON = 200


def shown_seconds(seconds: float) -> str:
    """Return a duration as people write it: ``250 µs``, ``12.3 ms``, ``1.9 s``, ``3 min 05 s``, ``30 d 04 h``."""
    seconds = max(seconds, 0.0)
    if seconds < 0.000_999_5:
        return f"{seconds * 1e6:.0f} µs"
    for limit, factor, unit in ((0.999_5, 1e3, "ms"), (59.95, 1.0, "s")):
        if seconds < limit:
            value = seconds * factor
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 2 * 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02} h"


def shown_name(record: CallRecord, redactor: Redactor) -> str:
    """Return the name of a call."""
    return shown_label(record.name, redactor)


def shown_label(name: str, redactor: Redactor) -> str:
    """Return the name of a node, or what a user calls something."""
    return shorten(redactor.redact_name(name), _MAX_NAME)


def session_title(session_id: str, name: str | None, flow_name: str | None, redactor: Redactor) -> str:
    """Return what a session is called: by its flow, or by its own name, and by its identifier."""
    if flow_name is not None:
        return f"flow {shorten(redactor.redact_name(flow_name), _MAX_NAME)}, session {session_id}"
    if name is None or name == session_id:
        return f"session {session_id}"
    return f"session {session_id} ({shorten(redactor.redact_name(name), _MAX_NAME)})"


def shown_call(record: CallRecord, redactor: Redactor) -> str:
    """Return a call as it could be written, such as ``fetch(3, limit=2)``, with arguments that are shortened."""
    return f"{shown_name(record, redactor)}({arguments_of(record, redactor, _MAX_ARGUMENTS, _MAX_ARGUMENT)})"


def shown_live_call(record: CallRecord, redactor: Redactor) -> str:
    """Return a call as ``shown_call`` does, while it runs, from any thread.

    Of arguments that are not on record, only texts, numbers, bools and None are shown. Others may change meanwhile, and
    their ``repr`` is code of users that may not expect another thread; there is an ellipsis in place of each.
    """
    if record.inputs is not None:
        return shown_call(record, redactor)
    args = tuple(map(_plain, record.args))
    kwargs = {name: _plain(value) for name, value in record.kwargs.items()}
    text = shorten(shown_arguments(args, kwargs, redactor, (), _MAX_ARGUMENT), _MAX_ARGUMENTS)
    return f"{shown_name(record, redactor)}({text})"


def _plain(value: object) -> object:
    return value if id(type(value)) in SCALAR_IDS else IGNORED


def shown_error(exc: BaseException, redactor: Redactor) -> str:
    """Return the class and the message of an exception, live or loaded, such as ``ValueError: the reason``."""
    if type(exc) is RecordedError:
        name, message = exc.type.rpartition(".")[2], exc.message
    else:
        name, message = class_name(exc), guarded(str, exc)
    message = redact_and_cut(message, _MAX_REASON, redactor, redactor.redact_free_text)
    return shorten(f"{name}: {message}" if message else name, _MAX_REASON)


def shown_status(record: CallRecord) -> str:
    """Return the status of a call with its cause, such as ``Cancelled (timeout)`` or ``Completed (reused)``.

    It also says what the policies of its node have done, as in ``Failed, tried again (attempt 1)``, and what it waits
    for, or was waiting for when it ended, as in ``Open (waiting for limit api)``.
    """
    details = [] if record.reason is None or record.status is Status.SUSPENDED else [record.reason.value]
    if record.policy is not None and record.policy.waiting is not None and record.status is not Status.FAILED:
        details.append(f"waiting for {record.policy.waiting}")
    details += ["reused"] * is_reused(record)
    if record.policy is None:
        return f"{record.status.value} ({', '.join(details)})" if details else record.status.value
    details += _policy_details(record.policy)
    status = f"{record.status.value}, tried again" if record.policy.retried else record.status.value
    return f"{status} ({', '.join(details)})" if details else status


def _policy_details(policy: PolicyFacts) -> list[str]:
    """Return what the policies of its node have done with a call."""
    found = []
    if policy.retry or policy.retried:
        found.append(f"attempt {policy.retry + 1}")
    if policy.cached is not None:
        found.append("cached" if policy.cached == "session" else f"cached in the {policy.cached}")
    if policy.place is not None:
        found.append(f"in a {policy.place}" if policy.place == "process" else f"on {policy.place}")
    return found


def traceback_of(record: CallRecord) -> str:
    """Return the traceback of a failed call that was loaded, without the frames of libraries; "" if there is none."""
    exc = record.exception
    return without_library_frames(exc.traceback) if type(exc) is RecordedError else ""


def printable(text: str) -> str:
    """Return lines of text with escapes in place of control characters."""
    return "\n".join(shorten(line, len(line) + 1) for line in text.split("\n"))
