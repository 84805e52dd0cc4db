"""Very many items in order, without holding up other threads as sorting them would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

DENSE = 8
"""The positions per item up to which items are put in place. Beyond it they are sorted."""
_NOTHING: Any = object()


def in_order(positions: Sequence[int], items: Sequence[T]) -> list[T]:
    """Return items in the order of their positions; items at one position keep their order.

    Args:
        positions: The position of each item, from anywhere.
        items: The items.
    """
    if not items:
        return []
    first, last = min(positions), max(positions)
    if last - first <= DENSE * len(items):
        places: list[T] = [_NOTHING] * (last - first + 1)
        for position, item in zip(positions, items, strict=True):
            if places[position - first] is not _NOTHING:
                break
            places[position - first] = item
        else:
            return [item for item in places if item is not _NOTHING]
    return [item for _, item in sorted(zip(positions, items, strict=True), key=lambda pair: pair[0])]
