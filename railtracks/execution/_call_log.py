"""The log lines (``CREATED``, ``DONE`` ...), the events and the spans of calls, in order, before the call goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._kinds import is_kind, leaves_of
from railtracks._identifiers import node_id, run_id
from railtracks._log_handlers import class_name
from railtracks._logging import SessionLog
from railtracks.exceptions import LimitExceededError
from railtracks.execution._call_lines import MAX_MEMBERS, budget_text, cause_text, described, one_line, timeout_text
from railtracks.execution._raisers import Raisers
from railtracks.nodes import FunctionNode
from railtracks.pubsub import RTPublisher
from railtracks.state import CallRecord, Reason, Status
from railtracks.state._events import broadcast_event, created_event, end_event
from railtracks.state._records import is_retried, is_reused
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._plain_data import cut_text
from railtracks.state._serialization._shown_arguments import shown_arguments
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # it imports OpenTelemetry
    from railtracks._telemetry._spans import SessionSpans

MAX_ARGUMENTS = 200
"""The number of characters of the arguments of a call that failed, which is shown by default."""
_MAX_SEARCHED = 100
"""The number of exceptions in a group, at all levels, that are read."""


class CallLog:
    """Turns the transitions of records into log lines, events and spans.

    The level of a line says who needs it. A failure is a warning where it was raised, and so is a timeout of a
    top-level call. What says how the session goes on is INFO: its first call, callers that a failure goes through, and
    top-level calls that were cancelled or suspended. All else is DEBUG.

    Args:
        session_id: The identifier on all of them.
        log: Where the lines go.
        publisher: Where the events go.
        redactor: The secrets that the session knows.
        state: The records of its calls.

    Attributes:
        announces_all: Whether each call has to be announced, also without a subscriber. An attribute, because the hot
            path reads it.
        outer: The log of the session in a call of which this one was opened, and the index of that call.
        spans: The spans of the session; None if it is not traced.
        ends: How many calls have ended in each way but success, without those that were replayed or tried again.
        retried: How many calls have failed and were tried again.
        cached: How many calls got the result of an equal call.
        reused: How many calls were replayed.
        left_out: How many calls have ended that batches leave out of the record.
    """

    __slots__ = (
        "_broadcaster", "_exceeded", "_has_started", "_logs_all", "_publisher", "_raisers", "_redactor", "_state",
        "announces_all", "cached", "ends", "left_out", "log", "outer", "retried", "reused", "session_id", "spans",
    )  # fmt: skip

    def __init__(
        self, session_id: str, log: SessionLog, publisher: RTPublisher, redactor: Redactor, state: RTState
    ) -> None:
        self.session_id: str = session_id
        self.log: SessionLog = log
        self._publisher = publisher
        self._redactor = redactor
        self._logs_all = log.is_enabled_for(logging.DEBUG)
        self.announces_all: bool = self._logs_all
        self.spans: SessionSpans | None = None
        self._has_started = False
        self._state = state
        self._raisers = Raisers(state)
        # The call that was the last to broadcast, and its identifiers as a top-level call's and as a node's.
        self._broadcaster: tuple[CallRecord | None, str | None, str | None] = (None, None, None)
        self._exceeded: set[str] = set()  # the limits and options over which a call has failed
        self.outer: tuple[CallLog, int] | None = None
        self.ends: dict[Status, int] = {}
        self.reused: int = 0
        self.retried: int = 0
        self.cached: int = 0
        self.left_out: int = 0

    @property
    def calls(self) -> RTState:
        """The records of the calls."""
        return self._state

    @property
    def is_active(self) -> bool:
        """Whether each call has to be announced. Otherwise only top-level calls, and ends other than success, do."""
        return self.announces_all or self._publisher.watches_calls

    def trace(self, spans: SessionSpans) -> None:
        """Have all calls from now on in ``spans``."""
        self.spans, self.announces_all = spans, True

    def created(self, record: CallRecord, caller: CallRecord | None, node: FunctionNode[..., Any]) -> None:
        """Announce a call that is about to run."""
        if self._publisher.watches_calls:  # first: Ctrl-C may come while a handler of the application runs
            self._publisher.publish(created_event(self.session_id, record))
        if self.spans is not None:
            self.spans.on_created(record, caller, node)
        is_first, self._has_started = not self._has_started, True
        if self._logs_all:
            level = logging.INFO if is_first else logging.DEBUG
            shown = self._shown_arguments(record, node)
            self._log(level, record, "%s CREATED %s(%s)", _caller_name(caller), record.name, shown)
        elif is_first:
            self._log(logging.INFO, record, "%s CREATED %s", _caller_name(caller), record.name)

    def _shown_arguments(self, record: CallRecord, node: FunctionNode[..., Any]) -> str:
        args, kwargs = record.args, record.kwargs
        if node.ignore:
            args, kwargs = node.without_ignored(args, kwargs)
        return shown_arguments(args, kwargs, self._redactor, node.secret_positions)

    def ended(
        self,
        record: CallRecord,
        waiting: Sequence[str] = (),
        failure: BaseException | None = None,
        node: FunctionNode[..., Any] | None = None,
    ) -> None:
        """Announce the end of a call: its result, its exception or its cancellation.

        Args:
            record: The record of the call.
            waiting: Where the innermost calls below a top-level call waited when it timed out.
            failure: The error that ended the session, if one did.
            node: The node of a call that failed, where it is known.
        """
        if self._publisher.watches_calls:  # first, as above
            self._publisher.publish(end_event(self.session_id, record))
        if self.spans is not None:
            self.spans.on_ended(record, None if record.parent is None else self._state.entry(record.parent))
        status, is_top = record.status, record.parent is None
        if is_reused(record):
            shown = "" if status is Status.COMPLETED else f", {status.value.upper()}"
            self._log(logging.DEBUG, record, "%s REUSED%s", record.name, shown)
            return
        if status is Status.COMPLETED:
            is_cached = record.policy is not None and record.policy.cached is not None
            self._log(logging.DEBUG, record, "%s CACHED" if is_cached else "%s DONE", record.name)
            return
        if is_retried(record):
            self.retried += 1
        else:
            self.ends[status] = self.ends.get(status, 0) + 1
        if status is Status.FAILED:
            self._log_failure(record, node)
        elif status is Status.SUSPENDED:
            self._log(logging.INFO if is_top else logging.DEBUG, record, "%s SUSPENDED", record.name)
        else:
            assert record.reason is not None
            level = logging.INFO if is_top else logging.DEBUG
            if is_top and record.reason in (Reason.TIMEOUT, Reason.BUDGET):
                level = logging.WARNING
            if not self.log.is_enabled_for(level):  # many calls may be cancelled at once
                return
            cause = cause_text(record, waiting, failure)
            self._log(level, record, "%s CANCELLED (%s)%s", record.name, record.reason.value, cause)

    def _log_failure(self, record: CallRecord, node: FunctionNode[..., Any] | None) -> None:
        """Log a failure: with arguments, message and line if it has not been logged for a call below this one.

        A failure that is tried again is no warning: the caller knows nothing of it.
        """
        exc, attempt = record.exception, _attempt_text(record)
        assert exc is not None
        if not self.log.is_enabled_for(logging.WARNING):
            return
        members = list(islice(leaves_of(exc), _MAX_SEARCHED))
        raisers = [self._raisers.below(record, each) for each in members]
        new = [each for each, raiser in zip(members, raisers, strict=True) if raiser is None]
        self._note_raisers(record, members, raisers)
        if not new:
            by = ", ".join(islice(dict.fromkeys(map(str, raisers)), MAX_MEMBERS))
            self._log(logging.INFO, record, "%s FAILED %s (raised by %s)%s", record.name, class_name(exc), by, attempt)
            return
        shown = described(exc, self._redactor)
        if len(new) != 1 or new[0] is not exc:  # not by ==, which is code of users
            also = [described(each, self._redactor) for each in new[:MAX_MEMBERS]]
            shown = f"{shown}: {'; '.join(also)}{'; ...' * (len(new) > MAX_MEMBERS)}"
        level = logging.INFO if is_retried(record) else logging.WARNING
        if is_kind(exc, LimitExceededError) and level == logging.WARNING:
            if exc.limit in self._exceeded:  # all calls of a batch that come too late, which may be very many
                level = logging.DEBUG
            else:
                self._exceeded.add(exc.limit)
                attempt += "; the next calls for which that is so are logged for debugging only"
        self._log(level, record, "%s FAILED %s%s", self._called(record, node), shown, attempt)

    def _called(self, record: CallRecord, node: FunctionNode[..., Any] | None) -> str:
        """Return the name of a call, with the beginning of its arguments: many calls may have one name."""
        if node is None or not (record.args or record.kwargs):
            return record.name
        return f"{record.name}({cut_text(self._shown_arguments(record, node), MAX_ARGUMENTS)})"

    def _note_raisers(self, record: CallRecord, members: list[BaseException], raisers: list[str | None]) -> None:
        """Note who has raised what a call has failed with; also for the call that has opened this session."""
        for each, raiser in zip(members, raisers, strict=True):
            self._raisers.note(each, raiser or record.name, record.index)
            if self.outer is not None and record.parent is None:
                log, index = self.outer
                log._raisers.note(each, raiser or record.name, index)

    def brought_home(self, record: CallRecord, caller: CallRecord) -> None:
        """Announce a call that a worker has made. Its lines in the log come from there."""
        if self._publisher.watches_calls:
            self._publisher.publish(created_event(self.session_id, record))
        if self.spans is not None:
            self.spans.on_created(record, caller, None)

    def end_brought_home(self, record: CallRecord) -> None:
        """Announce the end of a call that a worker has made."""
        if self._publisher.watches_calls:
            self._publisher.publish(end_event(self.session_id, record))
        if self.spans is not None:
            self.spans.on_ended(record, self._state.caller(record))
        if record.policy is not None and record.policy.cached is not None:
            self.cached += 1
        if is_reused(record):
            self.reused += 1
        elif is_retried(record):
            self.retried += 1
        elif record.status is not Status.COMPLETED:
            self.ends[record.status] = self.ends.get(record.status, 0) + 1

    def broadcast(self, record: CallRecord | None, item: Any, time: float) -> None:
        """Announce that a call has broadcast an item.

        Args:
            record: The call; None outside calls.
            item: The item.
            time: The time in seconds since the epoch.
        """
        if self.spans is not None:
            self.spans.on_broadcast(record, item, time)
        of = self._broadcaster
        if of[0] is not record:
            session = self.session_id
            of = (record, None, None)
            if record is not None:
                of = (record, run_id(session, record.run), node_id(session, record.index))
            self._broadcaster = of
        self._publisher.publish(broadcast_event(self.session_id, of[1], of[2], item, time))

    def note_raiser(self, exc: BaseException, raiser: CallRecord) -> None:
        """Note which call in a worker has raised an exception that was brought home."""
        self._raisers.note(exc, raiser.name, raiser.index)

    def drop(self, indices: Iterable[int], left: int | None) -> None:
        """Forget calls whose records are dropped. See ``Raisers.drop``."""
        self._raisers.drop(indices, left)

    def timed_out(
        self, name: str, index: int, seconds: float, waiting: Sequence[str], budget: float | None = None
    ) -> None:
        """Warn of a timeout of a top-level call which returned all the same, so that its record does not show it.

        Args:
            name: The name of the node.
            index: The index of its record.
            seconds: The limit.
            waiting: Where the innermost calls below it waited.
            budget: The budget of the session, if that ended the call and not its own limit.
        """
        text = timeout_text(seconds, waiting) if budget is None else budget_text(budget, waiting)
        session = self.session_id
        self.log.log(
            logging.WARNING, "%s TIMED OUT, although its call ended by itself: %s", one_line(name), one_line(text),
            run_id=run_id(session, index), node_id=node_id(session, index),
        )  # fmt: skip

    def abandoned(self, record: CallRecord, executor: str | None = None) -> None:
        """Warn that a cancelled call leaves its worker thread behind, or its work in an executor."""
        if executor is not None:
            self._log(
                logging.WARNING, record,
                "%s was cancelled, but its work goes on in %s, which cannot end it; to wait for it instead, use "
                "@rt.function_node(abandon_on_cancel=False)", record.name, executor,
            )  # fmt: skip
            return
        self._log(
            logging.WARNING, record,
            "%s was cancelled, but its worker thread goes on; to wait for the thread instead, use "
            "@rt.function_node(abandon_on_cancel=False)", record.name,
        )  # fmt: skip

    def _log(self, level: int, record: CallRecord, message: str, *args: str) -> None:
        if not self.log.is_enabled_for(level):
            return
        session = self.session_id
        self.log.log(
            level, message, *map(one_line, args), run_id=run_id(session, record.run),
            node_id=node_id(session, record.index),
        )  # fmt: skip


def _attempt_text(record: CallRecord) -> str:
    """Return which attempt has failed, if the policy of the node allows several, and whether another one follows."""
    policy = record.policy
    if policy is None or not (policy.retry or policy.retried):
        return ""
    return f", attempt {policy.retry + 1}{', is tried again' if policy.retried else ''}"


def _caller_name(caller: CallRecord | None) -> str:
    """Return what stands before CREATED in the line of a call."""
    return "START" if caller is None else caller.name
