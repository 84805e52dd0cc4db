"""The calls of a session as trees of the parts of a document: nodes, or edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from railtracks._identifiers import node_id
from railtracks.state._call_tree import CallTree
from railtracks.state._document._graph import Edge, Node
from railtracks.state._records import CallRecord

_T = TypeVar("_T", Node, Edge)


class Forest(Generic[_T]):
    """The nodes, or the requests, of a session as trees: one per top-level call."""

    def __init__(self, session_id: str, records: Sequence[CallRecord], build: Callable[[CallRecord], _T]) -> None:
        self._tree = CallTree(records)
        self._records = {node_id(session_id, record.index): record for record in records}
        self._items: dict[int, _T] = {record.index: build(record) for record in records}

    def heap(self) -> dict[str, _T]:
        """Return all items in their latest version, by identifier, in the order of creation."""
        return {item.identifier: item for item in self._items.values()}

    def children(self, node_id: str) -> list[_T]:
        """Return the items of the calls that a node made, in the order of creation. KeyError for an unknown node."""
        return self._children(self._records[node_id])

    @property
    def insertion_request(self) -> list[_T]:
        """The items of the top-level calls, in the order of creation."""
        return self._children(None)

    def _children(self, record: CallRecord | None) -> list[_T]:
        return [self._items[child.index] for child in self._tree.children(record)]
