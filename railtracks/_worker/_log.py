"""The log of a session in a worker: its lines are made here, and logged at home."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from railtracks._identifiers import index_of
from railtracks._logging import ROOT, SessionLog
from railtracks._tracebacks import format_traceback
from railtracks.execution._call_log import CallLog
from railtracks.execution._outbox import Outbox
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord


class WorkerLog(SessionLog):
    """Puts its lines into an outbox. The arguments are those of ``SessionLog``, without a file."""

    outbox: Outbox
    """Where the lines go. Set once, before the first of them."""

    def __init__(self, setting: str, session_id: str, clock: Callable[[], float], redact: Callable[[str], str]) -> None:
        super().__init__(setting, None, session_id, clock, redact)

    def log(
        self,
        level: int,
        message: str,
        *args: object,
        logger: logging.Logger = ROOT,
        run_id: str | None = None,
        node_id: str | None = None,
        exc_info: BaseException | None = None,
        must_be_seen: bool = False,
    ) -> None:
        """Put a line into the outbox. The arguments are those of ``SessionLog.log``."""
        if level < self.level:
            return
        text = message % args if args else message
        if exc_info is not None:
            text += f"\n{format_traceback(exc_info, str)}".rstrip()
        call = None if node_id is None else index_of(node_id)
        self.outbox.add("log", call, (level, self._redact(text), logger.name, must_be_seen))


class WorkerCallLog(CallLog):
    """Logs the calls below the one that was sent to the worker. That one is logged at home."""

    __slots__ = ()

    def created(self, record: CallRecord, caller: CallRecord | None, node: FunctionNode[..., Any]) -> None:
        """Announce a call that is about to run, unless it is the one that was sent."""
        self._has_started = True
        if record.parent is not None:
            super().created(record, caller, node)

    def ended(
        self,
        record: CallRecord,
        waiting: Sequence[str] = (),
        failure: BaseException | None = None,
        node: FunctionNode[..., Any] | None = None,
    ) -> None:
        """Announce the end of a call, unless it is the one that was sent."""
        if record.parent is not None:
            super().ended(record, waiting, failure, node)
