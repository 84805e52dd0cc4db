"""Measure how long a large value holds up the event loop, against a digest of the same bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable

import anyio

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, milli, ratio, recorded_session

SIZE = 10_000_000
BYTES = os.urandom(SIZE)
TEXT = "The quick brown fox " * (SIZE // 20)
TARGETS = {"bytes": 1.5, "text": 2.0}
"""The highest ratios. A text is encoded as well."""


@rt.function_node
async def take(value: object) -> None:
    pass


def call_with(make: Callable[[], object], durability: str, folder: str) -> Variant:
    """Return a variant that makes calls with a large argument, in processor time of the event loop's thread."""

    async def run(count: int) -> float:
        async with recorded_session(durability, folder):
            await rt.call(take, None)
            elapsed = 0.0
            for _ in range(count):
                value = make()
                start = time.thread_time()
                await rt.call(take, value)
                elapsed += time.thread_time() - start
            return elapsed

    return run


async def digest_alone(count: int) -> float:
    """Make only the digests."""
    start = time.thread_time()
    for _ in range(count):
        hashlib.sha256(BYTES).hexdigest()
    return time.thread_time() - start


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure calls with 10 MB of bytes, and with as much text."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        variants: dict[str, Variant] = {"digest": digest_alone}
        for durability in ("async", "sync", "exit"):
            variants[f"bytes, {durability}"] = call_with(lambda: BYTES, durability, folder)
            variants[f"text, {durability}"] = call_with(lambda: TEXT, durability, folder)
        times = anyio.run(in_turns, variants, 1, rounds, backend=backend)
    against = f"sha256 alone, {milli(times['digest'])}"
    for name in list(variants)[1:]:
        target = TARGETS[name.partition(",")[0]]
        work = f"a call with 10 MB of {name}"
        results.append(Result(work, milli(times[name]), against, ratio(times, name, "digest"), target))
    return results
