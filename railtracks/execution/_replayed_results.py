"""Results, in a run that is resumed, of calls below replayed ones: no node was called for them, and any may be cached.

Had the run not been interrupted, later equal calls would have got these results. Which nodes have ``cache`` is not on
record, so they are searched when a call of such a node finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._records import Change, is_reused
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from typing import Any

    from railtracks.execution._call_log import CallLog


class ResumedSession(Protocol):
    """The coordinator, as far as this module needs it."""

    state: RTState
    call_log: CallLog


class ReplayedResults:
    """The calls of one session that were replayed, by their node.

    Args:
        session: The session.
    """

    def __init__(self, session: ResumedSession) -> None:
        self._session = session
        self._reused = 0  # how many calls had been replayed when they were searched last
        self._searched = 0  # how many records were
        self._by_node: dict[str, list[int]] = {}

    def take(self, node: FunctionNode[..., Any]) -> Iterator[tuple[CallRecord, list[Change]]]:
        """Yield the completed calls of a node that were replayed since it was last asked for, in order.

        Each comes with the changes that it and the calls below it had made in the context.
        """
        if node.key is None:
            return
        if self._session.call_log.reused != self._reused:
            self._search()
        for index in self._by_node.pop(node.key, ()):
            record = self._session.state.records[index]
            if record.code == node.code:
                yield record, self._changes_of(record)

    def _search(self) -> None:
        records = self._session.state.records
        self._reused = self._session.call_log.reused
        for record in records[self._searched :]:
            if is_reused(record) and record.node is not None and record.status is Status.COMPLETED:
                self._by_node.setdefault(record.node, []).append(record.index)
        self._searched = len(records)

    def _changes_of(self, record: CallRecord) -> list[Change]:
        changes, within = [*(record.changes or ())], {record.index}
        for each in self._session.state.records[record.index + 1 :]:
            if each.parent not in within:
                if each.run != record.run or not is_reused(each):
                    break  # what was replayed together is together
                continue
            within.add(each.index)
            changes += each.changes or ()
        return sorted(changes, key=lambda change: change.order)
