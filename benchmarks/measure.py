"""Take times, and compare them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

import attrs

import railtracks as rt

Variant = Callable[[int], Awaitable[float | None]]


@attrs.frozen
class Result:
    """One line of the table.

    Attributes:
        value: A ratio, unless ``work`` names a unit.
        target: The highest value that is good enough; None if the line is there to compare others with.
    """

    work: str
    measured: str
    against: str
    value: float
    target: float | None = None
    backend: str = ""

    @property
    def reached(self) -> bool:
        """Whether the value is good enough."""
        return self.target is None or self.value <= self.target


def quiet_session(**options: object) -> rt.Session:
    """Make a session that runs and records calls, and writes nothing."""
    return rt.Session(save_state=False, logging_setting="NONE", timeout=3600, **options)  # type: ignore[arg-type]


def recorded_session(durability: str, folder: str, **options: object) -> rt.Session:
    """Make a session that keeps its run in ``folder``. No benchmark writes into the working directory."""
    store = rt.state.FileStore(folder)
    return rt.Session(durability=durability, store=store, logging_setting="NONE", timeout=3600, **options)  # type: ignore[arg-type]


async def in_turns(variants: Mapping[str, Variant], count: int, rounds: int) -> dict[str, list[float]]:
    """Run the variants in turns and return the seconds per operation of each, one figure a round.

    A first round warms up and does not count.

    Args:
        variants: Async functions that do ``count`` operations. One may return the seconds that count, to leave out what
            it prepares, or to use another clock.
        count: Operations in each round.
        rounds: How often each variant is measured.
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
    """Return the median, over the rounds, of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def micro(seconds: list[float]) -> str:
    """Show the median in microseconds."""
    return f"{statistics.median(seconds) * 1e6:.2f} µs"


def milli(seconds: list[float]) -> str:
    """Show the median in milliseconds."""
    return f"{statistics.median(seconds) * 1e3:.2f} ms"
