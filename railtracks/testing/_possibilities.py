"""The decisions of a search, each with the possibilities that it has left.

Orders of steps are left out that differ from one that was tried only in where steps stand whose order has not mattered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

Pairs = list[tuple[int, int]]
"""Steps of which the first is before the second."""


class Number:
    """A decision for one of several numbers, the last one first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.chosen = count - 1

    def advance(self) -> bool:
        """Go on to the next possibility, and return whether there is one."""
        self.chosen -= 1
        return self.chosen >= 0


class Order:
    """A decision for the order of several steps, by their numbers.

    Args:
        count: How many steps there are.
        alike: The numbers of those that are interchangeable: these stay in order.

    Attributes:
        chosen: The order.
        conflicts: The pairs of steps whose order has mattered, in any of the runs with this order.
    """

    def __init__(self, count: int, alike: list[list[int]]) -> None:
        self.count = count
        self.conflicts: set[tuple[int, int]] = set()
        self._before = {number: same[place - 1] for same in alike for place, number in enumerate(same) if place}
        self._tried: list[Pairs] = []  # of each order, its pairs that matter, the first one first
        self._left = self._orders([], list(range(count)), [], 0)
        self.chosen = next(self._left)

    def advance(self) -> bool:
        """Go on to the next order that differs from those that were tried, and return whether there is one."""
        place = {number: place for place, number in enumerate(self.chosen)}
        if len(self.conflicts) < math.comb(self.count, 2):  # or else it agrees with no other order
            self._tried.append([(a, b) if place[a] < place[b] else (b, a) for a, b in self.conflicts])
        self.conflicts = set()
        self.chosen = next(self._left, [])
        return bool(self.chosen)

    def _orders(self, first: list[int], left: list[int], open_: list[Pairs], seen: int) -> Iterator[list[int]]:
        """Yield the orders that begin so and differ from those that were tried, also from those tried meanwhile.

        Args:
            first: What the orders begin with.
            left: What follows, in some order.
            open_: Of each order that was tried and agrees with ``first``: the pairs that ``first`` does not decide.
            seen: How many orders were tried when this list was made.
        """
        for number in left:
            for pairs in self._tried[seen:]:
                open_ += _after(first, pairs)
            seen = len(self._tried)
            if [] in open_:  # one of those agrees with all orders that begin so
                return
            if self._before.get(number) in left:
                continue
            rest = [each for each in left if each != number]
            agree = [pairs for pairs in open_ if not any(b == number for _, b in pairs)]
            if rest:
                yield from self._orders(
                    [*first, number], rest, [[pair for pair in pairs if pair[0] != number] for pairs in agree], seen
                )
            else:
                yield [*first, number]


def _after(first: list[int], pairs: Pairs) -> list[Pairs]:
    """Return the pairs of an order that ``first`` does not decide, or nothing if it does not agree with them."""
    place = {number: place for place, number in enumerate(first)}
    never = len(first)
    if any(place.get(b, never) < place.get(a, never) for a, b in pairs):
        return []
    return [[pair for pair in pairs if pair[0] not in place]]
