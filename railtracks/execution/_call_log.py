"""The log lines (``CREATED``, ``DONE`` ...) and the events of calls, made in order, before the call goes on."""

from __future__ import annotations

import logging
from typing import Any

from railtracks._identifiers import node_id, run_id
from railtracks._logging import SessionLog
from railtracks.pubsub import RTPublisher
from railtracks.state import CallCancelled, CallCreated, CallFailed, CallRecord, CallSucceeded, Status
from railtracks.state._records import REUSED


class CallLog:
    """Turns the transitions of records into log lines and events.

    Args:
        session_id: The identifier on all of them.
        origin: Seconds to add to the session's clock to get seconds since the epoch.
        log: Where the lines go.
        publisher: Where the events go.
    """

    __slots__ = ("_logs_calls", "_origin", "_publisher", "log", "session_id")

    def __init__(self, session_id: str, origin: float, log: SessionLog, publisher: RTPublisher) -> None:
        self.session_id = session_id
        self._origin = origin
        self.log = log
        self._publisher = publisher
        self._logs_calls = log.is_enabled_for(logging.INFO)

    @property
    def is_active(self) -> bool:
        """Whether a line would be logged, or an event received."""
        return self._logs_calls or self._publisher.watches_calls

    def created(self, record: CallRecord, caller: CallRecord | None) -> None:
        """Announce a call that is about to run."""
        if self._publisher.watches_calls:  # first: Ctrl-C may come while a handler of the application runs
            fields = self._event_fields(record, record.started_step, record.started)
            self._publisher.publish(CallCreated(args=record.args, kwargs=record.kwargs, **fields))
        if self._logs_calls:
            self._log(logging.INFO, record, "%s CREATED %s", "START" if caller is None else caller.name, record.name)

    def ended(self, record: CallRecord) -> None:
        """Announce the end of a call: its result, its exception or its cancellation."""
        if self._publisher.watches_calls:  # first, as above
            assert record.ended_step is not None
            assert record.ended is not None
            fields = self._event_fields(record, record.ended_step, record.ended)
            if record.status is Status.COMPLETED:
                self._publisher.publish(CallSucceeded(result=record.result, **fields))
            elif record.status is Status.FAILED:
                assert record.exception is not None
                self._publisher.publish(CallFailed(exception=record.exception, **fields))
            else:
                assert record.reason is not None
                self._publisher.publish(CallCancelled(reason=record.reason, **fields))
        if self._logs_calls:
            self._log(logging.INFO, record, *_end_line(record))

    def abandoned(self, record: CallRecord) -> None:
        """Warn that a cancelled call leaves its worker thread behind."""
        self._log(
            logging.WARNING, record,
            "%s was cancelled, but its worker thread goes on; to wait for the thread instead, use "
            "@rt.function_node(abandon_on_cancel=False)", record.name,
        )  # fmt: skip

    def _log(self, level: int, record: CallRecord, message: str, *args: object) -> None:
        session = self.session_id
        self.log.log(level, message, *args, run_id=run_id(session, record.run), node_id=node_id(session, record.index))

    def _event_fields(self, record: CallRecord, step: int, time: float) -> dict[str, Any]:
        session = self.session_id
        return {
            "session_id": session,
            "time": time + self._origin,
            "step": step,
            "run_id": run_id(session, record.run),
            "node_id": node_id(session, record.index),
            "parent_id": None if record.parent is None else node_id(session, record.parent),
            "name": record.name,
        }


def _end_line(record: CallRecord) -> tuple[str, ...]:
    if record.status is Status.COMPLETED:
        return ("%s REUSED" if record.reuse == REUSED else "%s DONE"), record.name
    if record.status is Status.FAILED:
        return "%s FAILED", record.name
    assert record.reason is not None
    return "%s CANCELLED (%s)", record.name, record.reason.value
