"""Measure runs that are recorded as they happen: the journal, and resuming."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time

import anyio

import railtracks as rt
from benchmarks.calls import function, loop, node
from benchmarks.measure import Result, Variant, in_turns, micro, milli, ratio, recorded_session

CALLS = 1_000
CONCURRENT = 1_000
ALONE = 100
REUSED = 5_000
RESUMED = 10_000

ENTRIES: list[dict[str, object]] = [
    {"e": "created", "call": 1234, "parent": 0, "time": 1700000000.1234567, "name": "function", "node_type": "Tool",
     "node": "benchmarks.calls.function", "input_args": [1234], "input_kwargs": {}},
    {"e": "ended", "call": 1234, "time": 1700000000.1234567, "status": "Completed", "output": 1234},
]  # fmt: skip
"""The two journal entries of a call. They stay as they are if the journal grows, so that the ratio shows it."""

TARGET = 1.25
"""The highest ratio of what the journal adds to a call, to encoding ``ENTRIES`` with json and one os.write for each.

Derived from code that just met the former target of 8 µs: its ratio is 1.05 on both backends, and a fifth is added.
"""


def calls(durability: str, folder: str) -> Variant:
    """Return a variant that makes calls one after another, in processor time of its thread."""

    async def run(count: int) -> float:
        async with recorded_session(durability, folder):
            start = time.thread_time()
            await rt.call(loop, count)
            return time.thread_time() - start

    return run


def entries_alone(folder: str) -> Variant:
    """Return a variant that only encodes and writes the entries of calls, in processor time of its thread."""

    async def run(count: int) -> float:
        handle = os.open(os.path.join(folder, "entries"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        start = time.thread_time()
        for _ in range(count):
            for entry in ENTRIES:
                os.write(handle, json.dumps(entry).encode())
        elapsed = time.thread_time() - start
        os.close(handle)
        return elapsed

    return run


def journal(backend: str, rounds: int) -> list[Result]:
    """Measure what the journal adds to a call if nothing waits for the disk.

    It is a difference, which is small beside the noise of what it is taken from. So it counts the processor time of one
    thread, not of the one that syncs, and compares the best of many short rounds.
    """
    with tempfile.TemporaryDirectory() as folder:
        variants = {"off": calls("exit", folder), "on": calls("async", folder), "entries": entries_alone(folder)}
        times = anyio.run(in_turns, variants, CALLS, 5 * rounds, backend=backend)
    best = {name: min(values) for name, values in times.items()}
    more = best["on"] - best["off"]
    against = f"json + os.write of its entries, {best['entries'] * 1e6:.2f} µs"
    return [Result("async journal, more per call", f"{more * 1e6:.2f} µs", against, more / best["entries"], TARGET)]


def one_fsync_per_call(folder: str) -> Variant:
    """Return a variant that costs the least it could: the bare function, a write and an fsync each, and no session."""

    async def run(count: int) -> float:
        handle = os.open(os.path.join(folder, "plain"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        start = time.perf_counter()
        for i in range(ALONE):
            await function(i)
            os.write(handle, b"x" * 150)
            os.fsync(handle)
        elapsed = time.perf_counter() - start
        os.close(handle)
        return elapsed / ALONE * count

    return run


def sync_alone(folder: str) -> Variant:
    """Return a variant that makes one call after another, so that each has an fsync of its own."""

    async def run(count: int) -> float:
        async with recorded_session("sync", folder):
            return await rt.call(loop, ALONE) / ALONE * count

    return run


@rt.function_node
async def batch(count: int) -> float:
    start = time.perf_counter()
    await rt.call_batch(node, range(count))
    return time.perf_counter() - start


def sync_together(folder: str) -> Variant:
    """Return a variant that makes all calls at once, so that they share an fsync."""

    async def run(count: int) -> float:
        async with recorded_session("sync", folder):
            return await rt.call(batch, count)

    return run


def synced(backend: str, rounds: int) -> list[Result]:
    """Measure calls whose results wait until their records are on disk."""
    with tempfile.TemporaryDirectory() as folder:
        variants = {"fsync": one_fsync_per_call(folder), "alone": sync_alone(folder), "together": sync_together(folder)}
        times = anyio.run(in_turns, variants, CONCURRENT, rounds, backend=backend)
    together, alone, bare = micro(times["together"]), micro(times["alone"]), micro(times["fsync"])
    return [
        Result(
            "sync, 1,000 at once", together, f"an fsync per call, {alone}", ratio(times, "together", "alone"), 1 / 20
        ),
        Result("the same", together, f"bare write + fsync, {bare}", ratio(times, "together", "fsync")),
    ]


class Interrupted(Exception):
    """Raised where a run is interrupted."""


@rt.function_node
async def interrupted(count: int, taken: list[float]) -> None:
    start = time.thread_time()
    for i in range(count):
        await rt.call(node, i)
    taken.append(time.thread_time() - start)
    raise Interrupted


def reused_calls(backend: str, rounds: int) -> list[Result]:
    """Measure a call whose recorded result is used, in processor time of its thread, against one that runs."""
    with tempfile.TemporaryDirectory() as folder:

        async def run(count: int, **options: object) -> float:
            taken: list[float] = []
            with contextlib.suppress(Interrupted):
                async with recorded_session("async", folder, **options):
                    await rt.call(interrupted, count, taken)
            return taken[0]

        async def fresh(count: int) -> float:
            return await run(count, run_identifier="interrupted")

        async def reused(count: int) -> float:
            return await run(count, resume="interrupted")

        times = anyio.run(in_turns, {"fresh": fresh, "reused": reused}, REUSED, rounds, backend=backend)
    reuse, against = micro(times["reused"]), f"a call that runs, {micro(times['fresh'])}"
    return [Result("a reused call", reuse, against, ratio(times, "reused", "fresh"), 2)]


def resumption(backend: str, rounds: int) -> list[Result]:
    """Measure resuming a run against loading it."""
    with tempfile.TemporaryDirectory() as folder:

        async def finished() -> None:
            async with recorded_session("async", folder, run_identifier="finished"):
                await rt.call(loop, RESUMED)

        async def load_it(_: int) -> None:
            rt.state.load_run("finished", store=rt.state.FileStore(folder))

        async def resume_it(_: int) -> None:
            async with recorded_session("async", folder, resume="finished") as session:
                await rt.call(loop, RESUMED)
            assert session.info.resumed[0].reused

        anyio.run(finished, backend=backend)
        times = anyio.run(in_turns, {"load": load_it, "resume": resume_it}, 1, rounds, backend=backend)
    against = f"loading it, {milli(times['load'])}"
    return [Result("resume of 10,000 calls", milli(times["resume"]), against, ratio(times, "resume", "load"), 4)]


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure all of it. Nothing is left on disk."""
    return [
        *journal(backend, rounds), *synced(backend, rounds), *reused_calls(backend, rounds),
        *resumption(backend, rounds),
    ]  # fmt: skip
