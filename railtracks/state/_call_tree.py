"""The calls of one session as a tree, and the context changes of a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from railtracks.state._records import CallRecord, Change


class CallTree:
    """An index of the calls of one session by their caller."""

    def __init__(self, records: Iterable[CallRecord]) -> None:
        self._children: dict[int | None, list[CallRecord]] = {}
        for record in records:
            self._children.setdefault(record.parent, []).append(record)

    def children(self, record: CallRecord | None) -> Sequence[CallRecord]:
        """Return the calls that a call made, in the order of creation; with None, the top-level calls."""
        return self._children.get(None if record is None else record.index, ())

    def descendants(self, record: CallRecord) -> list[CallRecord]:
        """Return all calls below a call, in the order of creation."""
        found = list(self.children(record))
        for each in found:  # grows while the loop runs
            found += self.children(each)
        return sorted(found, key=lambda each: each.index)


def changes_of(known: CallRecord, below: Sequence[CallRecord]) -> list[tuple[int, Change]]:
    """Return the context changes of a call and of its descendants, in the order in which they happened.

    Args:
        known: The call.
        below: All its descendants.

    Returns:
        Pairs of a change and, before it, the position of its call: 0 for ``known``, 1 for the first of ``below``.
    """
    found = [(position, change) for position, each in enumerate((known, *below)) for change in each.changes or ()]
    return sorted(found, key=lambda pair: pair[1].order)


def renumber_changes(
    records: list[CallRecord], record: CallRecord, known: CallRecord, below: Sequence[CallRecord], orders: list[int]
) -> None:
    """Copy the recorded context changes to a reused call and its descendants, under new positions.

    Args:
        records: All records of the session. The copies of ``below`` are the last of them, as ``RTState.reused``
            appended them.
        record: The reused call.
        known: The recorded call that it corresponds to.
        below: The descendants of ``known``.
        orders: The new ``Change.order`` of each change, in the order of ``changes_of``.
    """
    start = len(records) - len(below) - 1
    for (position, change), order in zip(changes_of(known, below), orders, strict=True):
        target = record if position == 0 else records[start + position]
        target.changes = [*(target.changes or ()), change._replace(order=order)]
