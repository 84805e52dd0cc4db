"""Measure calls one after another, against a cancel scope around the bare function."""

from __future__ import annotations

import time

import anyio

import railtracks as rt
from benchmarks.measure import Result, in_turns, micro, quiet_session, ratio
from railtracks.state import CallEvent

COUNT = 5_000
TARGETS = {"asyncio": 1.3, "trio": 0.6}
TOP_TARGETS = {"asyncio": 5.0, "trio": 2.6}
"""Such a call has a scope with a deadline: on asyncio a timer more than the scope that it is compared with."""
POLICIES_TARGET = 1.5


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


guarded = rt.function_node(function, retries=3, timeout=60, limit=10)
limited = rt.function_node(function, limit=10)


@rt.function_node
async def guarded_loop(count: int) -> float:
    start = time.perf_counter()
    for i in range(count):
        await rt.call(guarded, i)
    return time.perf_counter() - start


@rt.function_node
async def limited_loop(count: int) -> float:
    start = time.perf_counter()
    for i in range(count):
        await rt.call(limited, i)
    return time.perf_counter() - start


async def with_policies(count: int) -> float:
    async with quiet_session():
        return await rt.call(guarded_loop, count)


async def with_limit(count: int) -> float:
    async with quiet_session():
        return await rt.call(limited_loop, count)


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
    variants = {
        "scope": scope, "nested": nested, "top": top_level, "subscribed": subscribed, "policies": with_policies,
        "limit": with_limit,
    }  # fmt: skip
    times = anyio.run(in_turns, variants, COUNT, rounds, backend=backend)
    without = f"nested call without them, {micro(times['nested'])}"
    against = f"CancelScope + await, {micro(times['scope'])}"
    return [
        Result("nested call", micro(times["nested"]), against, ratio(times, "nested", "scope"), TARGETS[backend]),
        Result(
            "nested call, with an async subscriber",
            micro(times["subscribed"]),
            against,
            ratio(times, "subscribed", "scope"),
        ),
        Result(
            "nested call with retries=, timeout= and limit= that are not needed",
            micro(times["policies"]),
            without,
            ratio(times, "policies", "nested"),
            POLICIES_TARGET,
        ),
        Result("nested call with limit=", micro(times["limit"]), without, ratio(times, "limit", "nested")),
        Result("top-level call", micro(times["top"]), against, ratio(times, "top", "scope"), TOP_TARGETS[backend]),
    ]
