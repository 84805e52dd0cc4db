"""How times are taken."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable

import attrs

import railtracks as rt

Variant = Callable[[int], Awaitable[float | None]]


@attrs.frozen
class Result:
    """One line of the table. ``value`` is a ratio, unless the work says otherwise."""

    work: str
    measured: str
    against: str
    value: float
    target: float | None = None
    backend: str = ""

    @property
    def reached(self) -> bool:
        return self.target is None or self.value <= self.target


def quiet_session(**options: object) -> rt.Session:
    """A session that only runs and records."""
    return rt.Session(save_state=False, logging_setting="NONE", timeout=3600, **options)  # type: ignore[arg-type]


async def in_turns(variants: dict[str, Variant], count: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per operation of each variant, one figure a round; a first round warms up and does not count.

    A variant does ``count`` operations and may return the seconds that count, to leave out what it prepares.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            gc.collect()
            start = time.perf_counter()
            own = await variant(count)
            elapsed = time.perf_counter() - start
            if number:
                times[name].append((elapsed if own is None else own) / count)
    return times


def ratio(times: dict[str, list[float]], name: str, base: str) -> float:
    """The median, over the rounds, of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def micro(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.2f} µs"
