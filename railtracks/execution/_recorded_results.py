"""Results that a session has on record of the run that it resumes. Any of them may be cached.

Had the run not been interrupted, later equal calls would have got these results, also those of calls that are not made
again, as the flow had cancelled what made them. Which nodes have ``cache`` is not on record, so they are searched when
a call of such a node finds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._records import Change

if TYPE_CHECKING:  # loaded by sessions that resume a run
    from railtracks.state._call_tree import CallTree


class RunHistory(Protocol):
    """The recorder of a session, as far as this module needs it."""

    @property
    def history(self) -> CallTree | None:
        """The calls of the run that the session resumes; None if it resumes nothing."""


class RecordedResults:
    """The completed calls of the run that a session resumes, by their node.

    Args:
        recorder: The recorder of the session; None if it records nothing.
    """

    def __init__(self, recorder: RunHistory | None) -> None:
        self._history = None if recorder is None else recorder.history
        self._by_node: dict[str, list[CallRecord]] | None = None

    def take(self, node: FunctionNode[..., Any]) -> Iterator[tuple[CallRecord, list[Change]]]:
        """Yield the completed calls of a node, in order, the first time that it is asked for.

        Each comes with the changes that it and the calls below it had made in the context.
        """
        if self._history is None or node.key is None or not node.memo:
            return
        if self._by_node is None:
            self._by_node = {}
            for record in self._history:
                if record.status is Status.COMPLETED and record.node is not None:
                    self._by_node.setdefault(record.node, []).append(record)
        for record in self._by_node.pop(node.key, ()):
            below = self._history.descendants(record)
            if record.code == node.code and not below.have_open:
                yield record, below.changes()
