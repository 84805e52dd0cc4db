"""Measure sessions that save their state, against the same bytes written and put on disk without a session.

On a file system whose files cost much to create, the ratio is higher: a session creates three (lock, journal and
document), and the write beside it one.
"""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio

import railtracks as rt
from benchmarks.calls import node
from benchmarks.measure import Result, Variant, in_turns, milli, ratio, recorded_session

COUNT = 50
CONCURRENT = 100


async def two_calls(folder: str) -> None:
    async with recorded_session("async", folder):
        await rt.call(node, 1)
        await rt.call(node, 2)


def write(folder: str, content: bytes) -> None:
    """Write a file as ``write_atomically`` does: to a temporary file, fsync, rename, fsync of the folder."""
    name = os.urandom(12).hex()
    temporary = os.path.join(folder, f".{name}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(handle, content)
    os.fsync(handle)
    os.close(handle)
    os.replace(temporary, os.path.join(folder, name))
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def sessions(folder: str) -> Variant:
    """Return a variant that opens and closes one session after another."""

    async def run(count: int) -> None:
        for _ in range(count):
            await two_calls(folder)

    return run


def sessions_together(folder: str) -> Variant:
    """Return a variant that has all sessions open at once."""

    async def run(count: int) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(two_calls, folder)

    return run


def writes(folder: str, content: bytes) -> Variant:
    """Return a variant that writes one file after another."""

    async def run(count: int) -> None:
        for _ in range(count):
            write(folder, content)

    return run


def writes_in_threads(folder: str, content: bytes) -> Variant:
    """Return a variant that writes all files at once, each in a thread of its own."""

    async def run(count: int) -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(write, [folder] * count, [content] * count))

    return run


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure sessions one after another, and many at once."""
    with tempfile.TemporaryDirectory() as folder:
        runs, bare = (os.path.join(folder, name) for name in ("runs", "bare"))
        os.mkdir(bare)
        anyio.run(two_calls, runs, backend=backend)
        [document] = Path(runs).glob("*.json")
        content = document.read_bytes()
        one = {"session": sessions(runs), "write": writes(bare, content)}
        many = {
            "sessions": sessions_together(runs),
            "writes": writes(bare, content),
            "threads": writes_in_threads(bare, content),
        }
        times = anyio.run(in_turns, one, COUNT, rounds, backend=backend)
        all_times = anyio.run(in_turns, many, CONCURRENT, rounds, backend=backend)
    together = milli(all_times["sessions"])
    after_another, in_threads = (f"its bytes {how}, {milli(all_times[name])}" for name, how in (
        ("writes", "written one after another"), ("threads", "written by 100 threads"),
    ))  # fmt: skip
    return [
        Result(
            "open a session, two calls, close, save", milli(times["session"]),
            f"its bytes written and put on disk, {milli(times['write'])}", ratio(times, "session", "write"), 2.0,
        ),
        Result("the same, 100 at once", together, after_another, ratio(all_times, "sessions", "writes"), 2.0),
        Result("the same", together, in_threads, ratio(all_times, "sessions", "threads")),
    ]  # fmt: skip
