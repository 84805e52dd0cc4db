"""What a session tells the world about its calls: log lines and events, in order, before the call goes on."""

from __future__ import annotations

import logging
from typing import Any

from railtracks._identifiers import node_id, run_id
from railtracks._logging import SessionLog
from railtracks.pubsub import RTPublisher
from railtracks.state import CallCancelled, CallCreated, CallFailed, CallRecord, CallSucceeded
from railtracks.state._records import REUSED


class Announcer:
    """Turns the transitions of records into log records and events.

    Args:
        session_id: Stands on everything.
        origin: Seconds to add to the session's clock to get seconds since the epoch.
    """

    def __init__(self, session_id: str, origin: float, log: SessionLog, publisher: RTPublisher) -> None:
        self.session_id = session_id
        self._origin = origin
        self.log = log
        self._publisher = publisher
        self.logs = log.is_enabled_for(logging.INFO)

    @property
    def active(self) -> bool:
        """Would anyone notice?"""
        return self.logs or self._publisher.watches_calls

    def created(self, record: CallRecord, caller: CallRecord | None) -> None:
        if self.logs:
            self._line(logging.INFO, record, "%s CREATED %s", "START" if caller is None else caller.name, record.name)
        if self._publisher.watches_calls:
            facts = self._facts(record, record.started_step, record.started)
            self._publisher.publish(CallCreated(args=record.args, kwargs=record.kwargs, **facts))

    def succeeded(self, record: CallRecord) -> None:
        if self.logs:
            self._line(logging.INFO, record, "%s REUSED" if record.reuse == REUSED else "%s DONE", record.name)
        if self._publisher.watches_calls:
            self._publisher.publish(CallSucceeded(result=record.result, **self._end_facts(record)))

    def failed(self, record: CallRecord, exception: BaseException) -> None:
        if self.logs:
            self._line(logging.INFO, record, "%s FAILED", record.name)
        if self._publisher.watches_calls:
            self._publisher.publish(CallFailed(exception=exception, **self._end_facts(record)))

    def cancelled(self, record: CallRecord) -> None:
        reason = record.reason
        assert reason is not None
        if self.logs:
            self._line(logging.INFO, record, "%s CANCELLED (%s)", record.name, reason.value)
        if self._publisher.watches_calls:
            self._publisher.publish(CallCancelled(reason=reason, **self._end_facts(record)))

    def abandoned(self, record: CallRecord) -> None:
        self._line(
            logging.WARNING, record,
            "%s was cancelled, but its thread goes on alone; if that must not be, write "
            "@rt.function_node(abandon_on_cancel=False)", record.name,
        )  # fmt: skip

    def _line(self, level: int, record: CallRecord, message: str, *args: object) -> None:
        session = self.session_id
        self.log.log(level, message, *args, run_id=run_id(session, record.run), node_id=node_id(session, record.index))

    def _end_facts(self, record: CallRecord) -> dict[str, Any]:
        assert record.ended_step is not None
        assert record.ended is not None
        return self._facts(record, record.ended_step, record.ended)

    def _facts(self, record: CallRecord, step: int, time: float) -> dict[str, Any]:
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
