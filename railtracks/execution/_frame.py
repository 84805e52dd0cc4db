"""Frames: what the context variable holds."""

from __future__ import annotations

from typing import Any

from railtracks._ids import node_id, run_id
from railtracks.execution._run import Run
from railtracks.state import CallRecord

_NO_TASK = object()


class Frame:
    """Where running code stands: what the context variable holds. Never changed once made.

    In a session but in no call, it has the coordinator alone. (Which is typed Any: its module stands on this one.)
    """

    __slots__ = ("coordinator", "record", "run", "task")

    def __init__(
        self,
        coordinator: Any,
        record: CallRecord | None = None,
        run: Run | None = None,
        task: object = _NO_TASK,
    ) -> None:
        self.coordinator = coordinator
        self.record = record
        self.run = run
        self.task = task

    @property
    def run_id(self) -> str | None:
        return None if self.record is None else run_id(self.coordinator.session_id, self.record.run)

    @property
    def node_id(self) -> str | None:
        return None if self.record is None else node_id(self.coordinator.session_id, self.record.index)
