"""Runs that are recorded as they happen: the journal, the final state, loading it, resuming."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import anyio
import orjson

import railtracks as rt
from benchmarks.calls import function, loop, node
from benchmarks.measure import Result, in_turns, micro, ratio

CALLS = 5_000
CONCURRENT = 1_000
ALONE = 100
LARGE = 100_000
RESUMED = 10_000


def recorded(durability: str, **options: object) -> rt.Session:
    return rt.Session(durability=durability, logging_setting="NONE", timeout=3600, **options)  # type: ignore[arg-type]


async def unjournalled(count: int) -> float:
    async with recorded("exit"):
        return await rt.call(loop, count)


async def journalled(count: int) -> float:
    async with recorded("async"):
        return await rt.call(loop, count)


async def one_fsync_per_call(_: int) -> float:
    """The least that it could cost: the bare function, a write and an fsync each, and no session."""
    handle = os.open("plain", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    start = time.perf_counter()
    for i in range(ALONE):
        await function(i)
        os.write(handle, b"x" * 150)
        os.fsync(handle)
    elapsed = time.perf_counter() - start
    os.close(handle)
    return elapsed / ALONE * CONCURRENT


async def sync_alone(_: int) -> float:
    """One call after the other, so that each has an fsync of its own."""
    async with recorded("sync"):
        return await rt.call(loop, ALONE) / ALONE * CONCURRENT


@rt.function_node
async def batch(count: int) -> float:
    start = time.perf_counter()
    await rt.call_batch(node, range(count))
    return time.perf_counter() - start


async def sync_together(count: int) -> float:
    async with recorded("sync"):
        return await rt.call(batch, count)


def journal(backend: str, rounds: int) -> list[Result]:
    times = anyio.run(in_turns, {"off": unjournalled, "on": journalled}, CALLS, rounds, backend=backend)
    more = min(times["on"]) - min(times["off"])  # a difference, not a ratio: what else the machine does must not count
    variants = {"fsync": one_fsync_per_call, "alone": sync_alone, "together": sync_together}
    synced = anyio.run(in_turns, variants, CONCURRENT, rounds, backend=backend)
    together, alone, bare = micro(synced["together"]), micro(synced["alone"]), micro(synced["fsync"])
    return [
        Result("async journal, µs per call", micro(times["on"]), f"exit, {micro(times['off'])}", more * 1e6, 8),
        Result(
            "sync, 1,000 at once", together, f"an fsync per call, {alone}", ratio(synced, "together", "alone"), 1 / 20
        ),
        Result("the same", together, f"bare write + fsync, {bare}", ratio(synced, "together", "fsync")),
    ]


# ---- the state of a large session


async def large_session() -> tuple[float, float, float]:
    """Seconds: to write a large state as text, to close the session, and the longest that this blocked the loop."""
    gaps = [0.0]

    async def watch() -> None:
        latest = time.perf_counter()
        while True:
            await anyio.sleep(0.001)
            now = time.perf_counter()
            gaps.append(now - latest)
            latest = now

    async with anyio.create_task_group() as group:
        async with recorded("async", run_identifier="large") as session:
            await rt.call(loop, LARGE)
            info = session.info
            start = time.perf_counter()
            for text in info.document():
                text.encode("ascii")
            writing = time.perf_counter() - start
            del info
            group.start_soon(watch)
            await anyio.sleep(0.01)
            start = time.perf_counter()
        elapsed = time.perf_counter() - start
        group.cancel_scope.cancel()
    return writing, elapsed, max(gaps)


def large(backend: str, rounds: int) -> list[Result]:
    writing, closing, gap, plain, plain_file, loading, decoding = ([] for _ in range(7))
    path = Path(".railtracks/large.json")
    for _ in range(min(rounds, 3)):
        wrote, closed, blocked = anyio.run(large_session, backend=backend)
        writing.append(wrote)
        closing.append(closed)
        gap.append(blocked * 1e3)
        start = time.perf_counter()
        info = rt.ExecutionInfo.load(path)
        loading.append(time.perf_counter() - start)
        del info
        content = path.read_bytes()
        start = time.perf_counter()
        data = orjson.loads(content)
        decoding.append(time.perf_counter() - start)
        start = time.perf_counter()
        content = orjson.dumps(data)
        plain.append(time.perf_counter() - start)
        with Path("plain").open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        plain_file.append(time.perf_counter() - start)
        del data
    pairs = (writing, plain), (closing, plain_file), (loading, decoding)
    wrote, closed, loaded = (statistics.median(a / b for a, b in zip(*pair, strict=True)) for pair in pairs)
    return [
        Result("final state of 100,000 calls", seconds(writing), f"orjson.dumps, {seconds(plain)}", wrote, 3),
        Result("the same, on disk", seconds(closing), f"dumps, write, fsync, {seconds(plain_file)}", closed),
        Result("the loop blocked by it, ms", f"{max(gap):.1f} ms", "", max(gap), 50),
        Result("load of 100,000 calls", seconds(loading), f"orjson.loads, {seconds(decoding)}", loaded, 5),
    ]


async def finished() -> None:
    async with recorded("async", run_identifier="finished"):
        await rt.call(loop, RESUMED)


async def load_it(_: int) -> None:
    rt.state.load_run("finished")


async def resume_it(_: int) -> None:
    async with recorded("async", resume="finished") as session:
        await rt.call(loop, RESUMED)
    assert session.info.resumed[0].reused


def resumption(backend: str, rounds: int) -> list[Result]:
    anyio.run(finished, backend=backend)
    times = anyio.run(in_turns, {"load": load_it, "resume": resume_it}, 1, rounds, backend=backend)
    against = f"loading it, {seconds(times['load'])}"
    return [
        Result("resume of 10,000 calls", seconds(times["resume"]), against, ratio(times, "resume", "load"), 2),
    ]


def seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} s"


def measure(backend: str, rounds: int) -> list[Result]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return [*journal(backend, rounds), *resumption(backend, rounds), *large(backend, rounds)]
        finally:
            os.chdir(before)
