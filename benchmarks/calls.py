"""Measure calls one after another, against a cancel scope around the bare function."""

from __future__ import annotations

import time

import anyio

import railtracks as rt
from benchmarks.measure import Result, in_turns, micro, quiet_session, ratio
from railtracks.state import CallEvent

COUNT = 5_000
TARGETS = {"asyncio": 1.3, "trio": 0.8}


async def function(x: int) -> int:
    return x


node = rt.function_node(function)


async def scope(count: int) -> None:
    for i in range(count):
        with anyio.CancelScope():
            await function(i)


@rt.function_node
async def loop(count: int) -> float:
    start = time.perf_counter()
    for i in range(count):
        await rt.call(node, i)
    return time.perf_counter() - start


async def nested(count: int) -> float:
    async with quiet_session():
        return await rt.call(loop, count)


async def subscribed(count: int) -> float:
    async def subscriber(event: CallEvent) -> None:
        pass

    async with quiet_session() as session:
        session.subscribe(subscriber, kinds=(CallEvent,), capacity=10**9)
        return await rt.call(loop, count)


async def top_level(count: int) -> float:
    async with quiet_session():
        start = time.perf_counter()
        for i in range(count):
            await rt.call(node, i)
        return time.perf_counter() - start


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure nested and top-level calls."""
    variants = {"scope": scope, "nested": nested, "top": top_level, "subscribed": subscribed}
    times = anyio.run(in_turns, variants, COUNT, rounds, backend=backend)
    against = f"CancelScope + await, {micro(times['scope'])}"
    return [
        Result("nested call", micro(times["nested"]), against, ratio(times, "nested", "scope"), TARGETS[backend]),
        Result(
            "nested call, with an async subscriber",
            micro(times["subscribed"]),
            against,
            ratio(times, "subscribed", "scope"),
        ),
        Result("top-level call", micro(times["top"]), against, ratio(times, "top", "scope")),
    ]
