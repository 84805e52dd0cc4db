"""Measure sessions that show what they do, against the same without: the work of calls, and how long the loop waits.

The display takes its share of the processor in another thread, so processor time is compared, which other programs
disturb least. How long the event loop is kept from its next turn cannot be measured like that, and any program that
runs at the same time makes it longer. So the longest wait of each round is taken, and of these the median.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator

import anyio

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, micro, quiet_session, ratio

CALLS = 10_000
"""Calls in a round, for about a second."""
WORK = 85e-6
"""Seconds of work in each call, with which there are about 10,000 calls a second."""
OPEN, MORE_OPEN = 10_000, 100_000
LEAST_ROUNDS = 5
"""Rounds in which the waits of the event loop are measured, at least; rounds of both variants take turns."""
WATCHED = 1.0
"""Seconds in which the waits of the event loop are measured."""


class Screen:
    """A terminal that shows nothing."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None: ...


@contextlib.contextmanager
def screen() -> Iterator[None]:
    """Have standard error be a terminal."""
    stream, term = sys.stderr, os.environ.get("TERM")
    sys.stderr = Screen()
    os.environ["TERM"] = "xterm-256color"
    try:
        yield
    finally:
        sys.stderr = stream
        os.environ.pop("TERM")
        if term is not None:
            os.environ["TERM"] = term


@rt.function_node
async def read_page(page: int) -> int:
    return page


@rt.function_node
async def read_pages(count: int, loops: int) -> float:
    began = time.process_time()
    for page in range(count):
        for _ in range(loops):
            pass
        await rt.call(read_page, page)
    return time.process_time() - began


def loops_of(seconds: float) -> int:
    """Return how many empty loops take about so long."""
    count = 1_000_000
    began = time.process_time()
    for _ in range(count):
        pass
    return max(1, round(seconds * count / (time.process_time() - began)))


def calls(progress: bool, loops: int) -> Variant:
    async def run(count: int) -> float:
        async with quiet_session(progress=progress):
            return await rt.call(read_pages, count, loops)

    return run


async def longest_wait(count: int, progress: bool) -> float:
    """Return the longest time, in seconds, that the event loop was kept from a turn while ``count`` calls are open."""
    may_end, have_begun = anyio.Event(), anyio.Event()

    @rt.function_node
    async def wait(number: int) -> None:
        if number == count - 1:
            have_begun.set()
        await may_end.wait()

    @rt.function_node
    async def watch() -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call_batch, wait, range(count))
            await have_begun.wait()
            longest, now = 0.0, time.perf_counter()
            until = now + WATCHED
            while now < until:
                await anyio.sleep(0.001)
                before, now = now, time.perf_counter()
                longest = max(longest, now - before)
            may_end.set()
        return longest

    async with quiet_session(progress=progress):
        return await rt.call(watch)


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure calls, and the waits of the event loop."""
    loops = loops_of(WORK)
    waits: dict[tuple[int, bool], list[float]] = {}
    with screen():
        times = anyio.run(
            in_turns, {"shown": calls(True, loops), "quiet": calls(False, loops)}, CALLS, rounds, backend=backend
        )
        for _ in range(max(LEAST_ROUNDS, rounds // 3)):
            for count in (OPEN, MORE_OPEN):
                for progress in (True, False):
                    wait = anyio.run(longest_wait, count, progress, backend=backend)
                    waits.setdefault((count, progress), []).append(wait)
    results = [
        Result(
            "call of 0.1 ms, progress=True (processor time)", micro(times["shown"]),
            f"progress=False, {micro(times['quiet'])}", ratio(times, "shown", "quiet"), 1.02,
        )
    ]  # fmt: skip
    for count in (OPEN, MORE_OPEN):
        shown, quiet = (statistics.median(waits[count, progress]) * 1e3 for progress in (True, False))
        results.append(
            Result(
                f"ms that the loop waits at most (median), {count:,} calls open", f"{shown:.1f} ms",
                f"progress=False, {quiet:.1f} ms", shown, 20,
            )
        )  # fmt: skip
    return results
