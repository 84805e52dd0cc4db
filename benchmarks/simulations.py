"""One simulated run of a flow of 20 calls, in milliseconds: users run hundreds of them in one test."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import anyio

import railtracks as rt
from benchmarks.measure import Result
from railtracks.testing import check, run, simulate

COUNT = 40
TARGETS = {"asyncio": 3.0, "trio": 5.0}  # milliseconds, as a user who waits for a test counts


@rt.function_node
async def leaf(number: int) -> int:
    await anyio.sleep(1)
    return number


@rt.function_node
async def flow() -> int:
    for number in range(9):
        await rt.call(leaf, number)
    return len(await rt.call_batch(leaf, range(10)))


def milliseconds(func: Callable[[int], object], rounds: int) -> float:
    times = []
    for seed in range(rounds * COUNT):
        start = time.perf_counter()
        func(seed)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(backend: str, rounds: int) -> list[Result]:
    bare = milliseconds(lambda _: run(flow, backend=backend), rounds)  # nothing is recorded
    simulated = milliseconds(lambda seed: simulate(flow, seed=seed, backend=backend), rounds)
    checked = milliseconds(lambda seed: check(simulate(flow, seed=seed, backend=backend)), rounds)
    against = f"the bare flow in virtual time, {bare:.2f} ms"
    return [
        Result("simulate, 20 calls (value in ms)", f"{simulated:.2f} ms", against, simulated, TARGETS[backend]),
        Result("simulate and check, the same", f"{checked:.2f} ms", against, checked),
    ]
