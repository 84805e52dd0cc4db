"""Measure the memory that calls with small arguments and results take: in a session, and while a run is loaded."""

from __future__ import annotations

import gc
import resource
import tempfile
import tracemalloc

import anyio

import railtracks as rt
from benchmarks.batches import trivial
from benchmarks.calls import loop
from benchmarks.measure import Result, quiet_session, recorded_session

COUNT = 20_000
ITEMS = 1_000_000
LOADED = 3.0
"""The highest ratio of the memory that loading a run takes, the bytes of the file included, to its document."""


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


async def loaded() -> tuple[int, int]:
    """Return the most memory that loading a run takes, and the size of its document."""
    with tempfile.TemporaryDirectory() as folder:
        async with recorded_session("async", folder, run_identifier="run") as session:
            await rt.call(loop, COUNT)
        size = sum(map(len, session.info.document()))
        del session
        store = rt.state.FileStore(folder)
        rt.state.load_run("run", store)
        gc.collect()
        tracemalloc.start()
        info = rt.state.load_run("run", store)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(info.records) == COUNT + 1
        return peak, size


@rt.function_node
async def many_items(count: int) -> float:
    """Return by how many bytes the process has grown after the first tenth of the items."""
    seen, size = 0, 0
    async for _ in rt.call_stream(trivial, range(count), limit=100, keep_records="summary"):
        seen += 1
        if seen == count // 10:
            size = resident()
    return resident() - size


def resident() -> int:
    """Return the bytes of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def grown() -> float:
    async with quiet_session():
        return await rt.call(many_items, ITEMS)


def measure(backend: str, _rounds: int) -> list[Result]:
    """Measure the memory. It is the same in each round, so there is one."""
    size = anyio.run(kept, backend=backend)
    peak, document = anyio.run(loaded, backend=backend)
    more = anyio.run(grown, backend=backend) / 1e6
    return [
        Result('growth with a million items, keep_records="summary" (MB)', f"{more:.1f} MB", "", more, 50),
        Result("memory kept per call (bytes)", f"{size:.0f} B", "", size, 500),
        Result(
            "memory to load a run",
            f"{peak / 1e6:.1f} MB",
            f"its document, {document / 1e6:.1f} MB",
            peak / document,
            LOADED,
        ),
    ]
