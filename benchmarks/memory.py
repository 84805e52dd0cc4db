"""Measure the memory that a session keeps for each finished call with small arguments and a small result."""

from __future__ import annotations

import gc
import tracemalloc

import anyio

import railtracks as rt
from benchmarks.calls import loop
from benchmarks.measure import Result, quiet_session

COUNT = 20_000


async def kept() -> float:
    async with quiet_session():
        await rt.call(loop, 100)
        tracemalloc.start()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await rt.call(loop, COUNT)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (after - before) / COUNT


def measure(backend: str, _rounds: int) -> list[Result]:
    """Measure the memory. It is the same in each round, so there is one."""
    size = anyio.run(kept, backend=backend)
    return [Result("memory kept per call (bytes)", f"{size:.0f} B", "", size, 500)]
