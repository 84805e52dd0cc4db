"""Where the decisions of a run come from: a source that chooses one of several possibilities, and notes its choices."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any


class Choices:
    """Makes the choices of one kind that a run needs.

    Args:
        draw: Returns a whole number from 0 up to, and without, its argument.
        happens: Returns whether something happens that has the given probability; None to draw one of two numbers.

    Attributes:
        made: The choices so far, each as the number that was chosen and the number of possibilities.
    """

    def __init__(self, draw: Callable[[int], int], happens: Callable[[float], bool] | None = None) -> None:
        self._draw = draw
        self._happens = happens
        self.made: list[tuple[int, int]] = []

    def choose(self, count: int) -> int:
        """Choose one of ``count`` possibilities, and return its number, from 0 on."""
        chosen = self._draw(count)
        self.made.append((chosen, count))
        return chosen

    def happens(self, probability: float) -> bool:
        """Decide whether something happens that has this probability."""
        return bool(self.choose(2)) if self._happens is None else self._note(self._happens(probability))

    def _note(self, happens: bool) -> bool:
        self.made.append((int(happens), 2))
        return happens

    def shuffle(self, items: list[Any]) -> None:
        """Put the items into another order, in place. If each choice is the last possibility, they stay as they are."""
        for last in range(len(items) - 1, 0, -1):
            other = self.choose(last + 1)
            items[last], items[other] = items[other], items[last]


def draw_from(random: Random) -> Callable[[int], int]:
    """Return a function that draws numbers as ``Random.randrange`` does, on each Python in the same way."""
    bits = random.getrandbits

    def draw(count: int) -> int:
        width = count.bit_length()
        drawn = bits(width)
        while drawn >= count:
            drawn = bits(width)
        return drawn

    return draw


class _SeededChoices(Choices):
    """Choices of a generator that is made at the first one, as many runs need none, and making it takes long."""

    def __init__(self, seed: str) -> None:
        super().__init__(self._draw_first, self._happens_first)
        self._seed = seed

    def _begin(self) -> None:
        random = Random(self._seed)  # noqa: S311 (repeatable, not secret)
        self._draw = draw_from(random)
        self._happens = lambda probability: random.random() < probability

    def _draw_first(self, count: int) -> int:
        self._begin()
        return self._draw(count)

    def _happens_first(self, probability: float) -> bool:
        self._begin()
        assert self._happens is not None
        return self._happens(probability)


def seeded_choices(seed: int | str, purpose: str) -> Choices:
    """Return choices that are the same in every process for one seed and purpose."""
    return _SeededChoices(f"{seed}/{purpose}")
