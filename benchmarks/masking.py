"""Measure calls in a session that knows many secrets, against calls in one that knows none."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Awaitable, Callable

import anyio

import railtracks as rt
from benchmarks.measure import Result, in_turns, micro, ratio, recorded_session

COUNT = 5_000
SECRETS = 1_000
TEXT = ("The quick brown fox jumps over the lazy dog. " * 3)[:120]


@rt.function_node
async def read(text: str) -> None:
    pass


@rt.function_node
async def log_in(token: str) -> None:
    pass


@rt.function_node
async def loop(count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        await rt.call(read, TEXT)
    return time.perf_counter() - start


async def calls(count: int, earlier: Callable[[str], Awaitable[None]]) -> float:
    """Return the seconds that ``count`` calls take after 1,000 calls of ``earlier``, each with another text."""
    source = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        async with recorded_session("async", folder):
            for _ in range(SECRETS):
                await earlier(source.randbytes(16).hex())
            return await rt.call(loop, count)


async def with_none(count: int) -> float:
    return await calls(count, lambda text: rt.call(read, text))


async def with_many(count: int) -> float:
    return await calls(count, lambda text: rt.call(log_in, token=text))


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure calls after 1,000 secrets."""
    times = anyio.run(in_turns, {"none": with_none, "many": with_many}, COUNT, rounds, backend=backend)
    against = f"with none, {micro(times['none'])}"
    return [Result("a call after 1,000 secrets", micro(times["many"]), against, ratio(times, "many", "none"), 1.3)]
