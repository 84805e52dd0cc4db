"""What a session in a worker records: texts, as any other, but no journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from railtracks.execution._recording._journal_writer import JournalWriter
from railtracks.execution._recording._recorder import Recorder
from railtracks.execution._remote._rows import records_of
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._records import PolicyFacts

if TYPE_CHECKING:
    from railtracks._resume._history import HistoryNode
    from railtracks._resume._matching import Match
    from railtracks._resume._replayer import Replayer
    from railtracks.execution import Coordinator
    from railtracks.execution._remote._order import Order


class WorkerRecorder(Recorder):
    """Records the calls below the one that was sent to the worker. That one is recorded at home.

    Args:
        order: What the worker is to do.
        coordinator: Runs the calls here.
    """

    def __init__(self, order: Order, coordinator: Coordinator) -> None:
        super().__init__(
            coordinator.state, coordinator.redactor, JournalWriter(None), _replayer_of(order, coordinator),
            coordinator.config.max_value_bytes, coordinator.log,
        )  # fmt: skip
        self._order = order
        self.root_raised_by: tuple[int, ...] | None = None
        """The calls whose exceptions the call that was sent has failed with."""

    def on_created(
        self,
        record: CallRecord,
        node: FunctionNode[..., Any],
        caller: HistoryNode | None,
        before: HistoryNode | None = None,
    ) -> Match | None:
        """Record a new call, unless it is the one that was sent. Return its match in the resumed run."""
        if record.parent is not None:
            return super().on_created(record, node, caller, before)
        record.node, record.inputs, record.attempt = self._order.key, self._order.inputs, self._order.attempt
        if self._order.retry:
            record.policy = PolicyFacts(retry=self._order.retry)
        return None if self._replayer is None else self._replayer.match(record, node, None)

    def on_ended(self, record: CallRecord) -> None:
        """Record the end of a call. Of the one that was sent, only from which calls its exception comes."""
        if record.parent is not None:
            super().on_ended(record)
        elif record.exception is not None:
            self.root_raised_by = self.failed_calls.found_in(record.exception, record.index)


def _replayer_of(order: Order, coordinator: Coordinator) -> Replayer | None:
    if order.history is None:
        return None
    from railtracks._resume._replayer import Replayer  # here, as few sessions resume a run
    from railtracks._resume._reruns import ResumePolicy

    policy = ResumePolicy(order.session_id, coordinator.config.code_changes, allow_rerun=True)
    find = _Values(order.values)
    return Replayer(
        records_of(order.history), coordinator.state, coordinator.redactor, coordinator.log, policy, find=find
    )


class _Values:
    """The large values of the history, which were sent with it."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = values

    def __call__(self, digest: str) -> bytes:
        value = self._values.get(digest)
        if value is None:
            raise ValueError("has a large value that was not sent to the worker")
        return value
