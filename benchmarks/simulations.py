"""One simulated run of a flow of 20 calls, in milliseconds: users run hundreds of them in one test.

Processor time, as a target in milliseconds should not depend on what else the machine does.
"""

from __future__ import annotations

import gc
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


async def bare() -> None:
    for _ in range(9):
        await anyio.sleep(1)
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(anyio.sleep, 1)


def milliseconds(func: Callable[[int], object], rounds: int) -> float:
    times = []
    gc.collect()
    gc.freeze()  # what other benchmarks have left; a test has none of that
    try:
        for seed in range(rounds * COUNT):
            start = time.process_time()
            func(seed)
            times.append(1000 * (time.process_time() - start))
    finally:
        gc.unfreeze()
    return statistics.median(times)


def measure(backend: str, rounds: int) -> list[Result]:
    alone = milliseconds(lambda _: run(bare, backend=backend), rounds)
    simulated = milliseconds(lambda seed: simulate(flow, seed=seed, backend=backend), rounds)
    checked = milliseconds(lambda seed: check(simulate(flow, seed=seed, backend=backend)), rounds)
    against = f"its sleeps alone, {alone:.2f} ms"
    return [
        Result("simulate, 20 calls (value in ms)", f"{simulated:.2f} ms", against, simulated, TARGETS[backend]),
        Result("simulate and check, the same", f"{checked:.2f} ms", against, checked),
    ]
