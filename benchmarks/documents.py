"""Measure a large session: its size on disk, its document, and the event loop while it is closed and resumed."""

from __future__ import annotations

import gzip
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import attrs
import orjson

import railtracks as rt
from benchmarks.calls import loop
from benchmarks.measure import Result, milli, ratio, recorded_session

CALLS = 100_000
ON_DISK = 250.0
"""The highest number of bytes on disk for a trivial call, in the journal and in the document."""

BLOCKED = 1.7
"""The highest ratio of the longest time that closing the session blocks the loop, to the same beside a busy thread.

Any thread that computes blocks the loop: for a few times 5 ms, the interval at which Python lets threads take turns.
Closing the session may do so too, but no piece of its work may hold the interpreter for much longer. The former
target of 50 ms was five times what a busy thread causes. Code that met it has ratios of 1.0 on asyncio and 1.4 on trio;
a fifth is added to the latter. Processor time, so that other processes do not count.
"""


RESUME_BLOCKED = 3.0
"""The same for resuming the session. Few objects stay for each call, but the garbage collector looks at all of them."""


@attrs.frozen
class Closed:
    """Seconds that belong to the end of one large session.

    Attributes:
        writing: To make the text of the document.
        closing: To close the session, with the document on disk.
        blocked: The longest time the loop was blocked meanwhile, in processor time.
        beside_thread: The same, while a thread only computed for as long.
        journal: The bytes of the journal before.
    """

    writing: float
    closing: float
    blocked: float
    beside_thread: float
    journal: float


@attrs.frozen
class Resumed:
    """Seconds that belong to resuming one large session, of which nothing runs again.

    Attributes:
        resuming: From opening the session to the result of its call.
        resume_blocked: The longest time the loop was blocked until the session was closed, in processor time.
        beside_resume: The same, while a thread only computed for as long.
    """

    resuming: float
    resume_blocked: float
    beside_resume: float


@asynccontextmanager
async def watched() -> AsyncIterator[list[float]]:
    """Yield a list that fills with the times between turns of the loop, in seconds of processor time."""
    gaps: list[float] = []

    async def watch() -> None:
        latest = time.process_time()
        while True:
            await anyio.sleep(0.001)
            now = time.process_time()
            gaps.append(now - latest)
            latest = now

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        yield gaps
        group.cancel_scope.cancel()


async def longest(gaps: list[float]) -> float:
    """Return the longest gap, after the loop has turned once more."""
    await anyio.sleep(0.01)
    return max(gaps, default=0.01)  # where another process took all the time


def compute(seconds: float) -> None:
    """Keep the interpreter busy for some seconds of processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


async def large_session(folder: str) -> Closed:
    """Run and close a large session, and watch the loop while it closes."""
    async with watched() as gaps:
        async with recorded_session("async", folder, run_identifier="large") as session:
            await rt.call(loop, CALLS)
            start = time.perf_counter()
            for text in session.info.document():
                text.encode("ascii")
            writing = time.perf_counter() - start
            await longest(gaps)
            gaps.clear()
            journal = rt.state.list_runs(rt.state.FileStore(folder))[0].size
            start, before = time.perf_counter(), time.process_time()
        closing, busy = time.perf_counter() - start, time.process_time() - before
        blocked = await longest(gaps)
    async with watched() as gaps:
        await anyio.to_thread.run_sync(compute, busy)
        return Closed(writing, closing, blocked, await longest(gaps), journal)


async def resumed_session(folder: str) -> Resumed:
    """Resume the large session, and watch the loop meanwhile."""
    async with watched() as gaps:
        start, before = time.perf_counter(), time.process_time()
        async with recorded_session("async", folder, run_identifier="large", resume="large"):
            await rt.call(loop, CALLS)
            resuming = time.perf_counter() - start
        busy = time.process_time() - before
        blocked = await longest(gaps)
    async with watched() as gaps:
        await anyio.to_thread.run_sync(compute, busy)
        return Resumed(resuming, blocked, await longest(gaps))


def loaded(folder: str) -> dict[str, float]:
    """Return the seconds to load the document, and what orjson takes to do the same work."""
    path = Path(folder) / "large.json"
    start = time.perf_counter()
    info = rt.ExecutionInfo.load(path)
    loading = time.perf_counter() - start
    del info
    content = path.read_bytes()
    size = len(content)
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    start = time.perf_counter()
    data = orjson.loads(content)
    decoding = time.perf_counter() - start
    start = time.perf_counter()
    content = orjson.dumps(data)
    plain = time.perf_counter() - start
    with (Path(folder) / "plain").open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    return {
        "load": loading, "loads": decoding, "dumps": plain, "plain file": time.perf_counter() - start, "size": size,
    }  # fmt: skip


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure the end of large sessions, one a round, three at most."""
    times: dict[str, list[float]] = {}
    for _ in range(min(rounds, 3)):
        with tempfile.TemporaryDirectory() as folder:
            closed = anyio.run(large_session, folder, backend=backend)
            read = loaded(folder)
            resumed = anyio.run(resumed_session, folder, backend=backend)
            for name, seconds in {**attrs.asdict(closed), **read, **attrs.asdict(resumed)}.items():
                times.setdefault(name, []).append(seconds)
    shown = {name: milli(values) for name, values in times.items()}
    blocked = statistics.median(times["blocked"]) / statistics.median(times["beside_thread"])
    resume_blocked = statistics.median(times["resume_blocked"]) / statistics.median(times["beside_resume"])
    beside = f"beside a busy thread, {shown['beside_thread']}"
    on_disk = {name: statistics.median(times[name]) / CALLS for name in ("journal", "size")}
    return [
        Result(
            "final state of 100,000 calls",
            shown["writing"],
            f"orjson.dumps, {shown['dumps']}",
            ratio(times, "writing", "dumps"),
            3,
        ),
        Result(
            "the same, on disk",
            shown["closing"],
            f"dumps, write, fsync, {shown['plain file']}",
            ratio(times, "closing", "plain file"),
        ),
        Result("the loop blocked by it (processor time)", shown["blocked"], beside, blocked, BLOCKED),
        Result(
            "load of 100,000 calls",
            shown["load"],
            f"orjson.loads, {shown['loads']}",
            ratio(times, "load", "loads"),
            5,
        ),
        Result(
            "resume of 100,000 calls", shown["resuming"], f"loading, {shown['load']}",
            ratio(times, "resuming", "load"), 4,
        ),
        Result(
            "the loop blocked by it (processor time)", shown["resume_blocked"],
            f"beside a busy thread, {shown['beside_resume']}", resume_blocked, RESUME_BLOCKED,
        ),
        Result("journal on disk per call (bytes)", f"{on_disk['journal']:.0f} B", "", on_disk["journal"], ON_DISK),
        Result("document on disk per call (bytes)", f"{on_disk['size']:.0f} B", "", on_disk["size"], ON_DISK),
    ]  # fmt: skip
