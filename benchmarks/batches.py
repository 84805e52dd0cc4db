"""Measure call_batch, against a task group that starts the bare function, and call_stream, against nested calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import anyio
from anyio.lowlevel import checkpoint

import railtracks as rt
from benchmarks.calls import nested
from benchmarks.measure import Result, Variant, in_turns, micro, quiet_session, ratio

MANY, MORE = 10_000, 100_000
WAITS_TARGET = 0.45
"""Making such calls one after another, in one task, costs about 0.28 of what the task group costs."""


async def trivial(x: int) -> int:
    return x


async def waits(x: int) -> int:
    await checkpoint()
    return x


def group(function: Callable[..., object]) -> Variant:
    async def run(count: int) -> float:
        start = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for i in range(count):
                tasks.start_soon(function, i)  # type: ignore[arg-type]
        return time.perf_counter() - start

    return run


def batch(function: Callable[..., object], limit: int | None = None) -> Variant:
    @rt.function_node
    async def parent(count: int) -> float:
        start = time.perf_counter()
        await rt.call_batch(function, range(count), limit=limit)
        return time.perf_counter() - start

    async def run(count: int) -> float:
        async with quiet_session():
            return await rt.call(parent, count)

    return run


def stream(keep_records: Literal["all", "summary"]) -> Variant:
    @rt.function_node
    async def parent(count: int) -> float:
        start = time.perf_counter()
        async for _ in rt.call_stream(trivial, range(count), limit=100, keep_records=keep_records):
            pass
        return time.perf_counter() - start

    async def run(count: int) -> float:
        async with quiet_session():
            return await rt.call(parent, count)

    return run


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure batches, and how their cost per child grows."""
    variants = {
        "group": group(trivial),
        "batch": batch(trivial),
        "limited": batch(trivial, 100),
        "group waits": group(waits),
        "batch waits": batch(waits),
    }
    many = anyio.run(in_turns, variants, MANY, rounds, backend=backend)
    more = anyio.run(in_turns, {k: variants[k] for k in ("group", "batch")}, MORE, max(2, rounds // 3), backend=backend)
    streams: dict[str, Variant] = {"nested": nested, "stream": stream("all"), "summary": stream("summary")}
    streamed = anyio.run(in_turns, streams, 2 * MANY, rounds, backend=backend)
    against = f"nested call, {micro(streamed['nested'])}"
    bare = f"task group, {micro(many['group'])}"

    def growth(name: str) -> float:
        return (sum(more[name]) / len(more[name])) / (sum(many[name]) / len(many[name]))

    return [
        Result("batch of 10,000, per child", micro(many["batch"]), bare, ratio(many, "batch", "group"), 1.5),
        Result("the same, limit=100", micro(many["limited"]), bare, ratio(many, "limited", "group"), 0.4),
        Result(
            "batch of 10,000 that wait once, per child",
            micro(many["batch waits"]),
            f"task group, {micro(many['group waits'])}",
            ratio(many, "batch waits", "group waits"),
            WAITS_TARGET,
        ),
        Result(
            "growth per child, 10,000 to 100,000",
            f"x {growth('batch'):.2f}",
            f"task group, x {growth('group'):.2f}",
            growth("batch") / growth("group"),
            1.2,
        ),
        Result("call_stream, per item", micro(streamed["stream"]), against, ratio(streamed, "stream", "nested"), 2.0),
        Result(
            'the same, keep_records="summary"',
            micro(streamed["summary"]),
            against,
            ratio(streamed, "summary", "nested"),
            2.0,
        ),
    ]
