"""How calls end: they complete, fail, are cancelled, or are replayed. What that changes, records and announces."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import on_replayed, token_budgets
from railtracks._options import ExecutorConfig
from railtracks._policies import Cache, Policies
from railtracks.exceptions import RunSuspended
from railtracks.execution._attempts import Attempts
from railtracks.execution._call_log import CallLog
from railtracks.execution._call_scopes import RootCall
from railtracks.execution._lifecycle import Lifecycle
from railtracks.execution._node_errors import ends_session, reason_of
from railtracks.execution._node_policies import note_waiting
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Reason, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._secret_search import register_secrets
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # not loaded before they are needed, if ever
    from railtracks._resume._matching import Match
    from railtracks.execution._cached_calls import CachedCalls
    from railtracks.execution._mailbox import SessionMailbox
    from railtracks.execution._recording._recorder import Recorder

_COMPLETED = Status.COMPLETED


class EndingSession(Protocol):
    """The ``Coordinator``, as far as this module needs it. It explains these members."""

    session_id: str
    config: ExecutorConfig
    context: dict[str, Any]
    state: RTState
    redactor: Redactor
    call_log: CallLog
    lifecycle: Lifecycle
    policies: Policies | None
    recorder: Recorder | None
    mailbox: SessionMailbox | None
    cached_calls: CachedCalls | None

    def now(self) -> float: ...
    def use_cached_calls(self) -> CachedCalls: ...
    def fail(self, exc: BaseException, /) -> None: ...


def on_cancelled(session: EndingSession, record: CallRecord, root: RootCall, exc: BaseException) -> None:
    """Record the cancellation of a call, and at the first one below a top-level call what waits at a timeout.

    The function that has caught ``exc`` has to call this itself, because the frames from there on are examined.
    """
    state, here = session.state, sys._getframe(1)
    reason = reason_of(exc, root, here)
    limit = None
    if reason is Reason.NODE_TIMEOUT:
        note_waiting(state, root, record, exc, here)
    if reason is Reason.TIMEOUT or reason is Reason.BUDGET:
        if root.waiting is None:
            from railtracks.execution._waiting import waiting_calls  # here, as few programs need it

            traceback = exc.__traceback__
            assert traceback is not None
            root.waiting = waiting_calls(state.live_entries(), record.run, record, traceback.tb_next)
        if record.parent is None:
            limit = root.timeout if root.budget is None else root.budget
    state.cancelled(record, reason, session.now(), limit)
    record_end(session, record, root.waiting or ())


def on_error(
    session: EndingSession,
    record: CallRecord,
    exc: BaseException,
    node: FunctionNode[..., Any],
    attempts: Attempts | None = None,
) -> None:
    """Record the error of a call of a node, and end the session if it has to."""
    if is_kind(exc, RunSuspended):  # a run within this call waits for something, and so does this one
        session.state.suspended(record, session.now())
        record_end(session, record)
        return
    is_retried = attempts is not None and attempts.on_failed(record, exc)
    session.state.failed(record, exc, session.now())
    record_end(session, record, node=node)
    if is_retried:
        return
    if session.lifecycle.failure is None and ends_session(exc, session.config.end_on_error):
        session.fail(exc)


def record_end(
    session: EndingSession,
    record: CallRecord,
    waiting: Sequence[str] = (),
    node: FunctionNode[..., Any] | None = None,
) -> None:
    """Write and announce the end of a call, which the state has already.

    Args:
        session: The session.
        record: The record of the call.
        waiting: Where the innermost calls below its top-level call waited when that timed out.
        node: The node of a call that failed, where it is known.
    """
    if session.recorder is not None:
        session.recorder.on_ended(record)
    elif id(type(record.result)) not in SCALAR_IDS:
        register_secrets(record.result, session.redactor)
    if session.call_log.is_active or record.status is not _COMPLETED:
        session.call_log.ended(record, waiting, session.lifecycle.failure, node)
    if session.mailbox is not None:
        session.mailbox.waiters.on_call_ended()
    if session.state.items is not None and record.is_item:
        item = record.item  # type: ignore[attr-defined]
        if not item.open:
            item.batch.on_item_ended(item)


def replay(
    session: EndingSession, record: CallRecord, match: Match, caller: CallRecord | None, node: FunctionNode[..., Any]
) -> Any:
    """Give a call its recorded result, or raise its recorded exception, instead of running it.

    Args:
        session: The session.
        record: The record of the call.
        match: The recorded call.
        caller: The call that makes it; None for a top-level call.
        node: The node that it calls.
    """
    assert session.recorder is not None
    session.recorder.on_replayed(record, match, session.context)
    if session.cached_calls is not None:
        session.cached_calls.on_replayed(match.changes)
    policies = node.policies if session.policies is None else node.policies_over(session.policies)
    if policies is not None and isinstance(policies.cache, Cache):
        session.use_cached_calls().remember(policies.cache, node, record, match.changes)
    session.call_log.reused += 1 + len(match.descendants)
    if session.call_log.is_active or caller is None:
        session.call_log.created(record, caller, node)
        session.call_log.ended(record)
    notify, budgets = on_replayed.get(), token_budgets.get()
    if notify is not None or budgets:
        records = session.state.records
        replayed = [record, *records[len(records) - len(match.descendants) :]]
        if notify is not None:
            notify(session.session_id, replayed)
        for budget in dict.fromkeys(budgets):  # one may have been entered twice
            budget.count_records(replayed)
    if record.exception is not None:
        raise record.exception
    return match.result


def end_open_records(session: EndingSession) -> None:
    """Record the end of what is still open although nothing runs.

    Ctrl-C has torn it apart, or it failed where the stack was too full to record that.
    """
    for record in session.state.open_records():
        if record.exception is not None:
            session.state.failed(record, record.exception, session.now())
        else:
            session.state.cancelled(record, Reason.OUTSIDE, session.now())
        record_end(session, record)
