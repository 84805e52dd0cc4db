"""The identity of a call: its node, its caller, its arguments, and its order among equal calls."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from tests.durability.values import WHEN, Circle, Color, Holder, Square
from tests.durability.world import failing, failing_once, flow_of, resumed, reused


async def test_equal_calls_are_distinguished_by_their_order(world):
    async def numbered():
        world.note("numbered")
        if len(made) in world.broken:
            raise ValueError
        made.append(None)
        return len(made)

    async def main():
        return [await rt.call(numbered) for _ in range(5)]

    made = []
    flow = flow_of(main)
    await failing_once(flow, world, 3)
    result, session = await resumed(flow)
    assert result == [1, 2, 3, 4, 5]
    assert world.ran() == ["numbered"] * 2
    assert reused(session.info) == ["numbered"] * 3


async def test_arguments_of_equal_text_and_other_types_are_different(world):
    """Calls with arguments of equal text but of other types are different."""
    values = [1, "1", 1.0, [1], {"1": 1}, {1: 1}, None, "null", True, "true", b"1", math.nan]

    async def kind(value):
        world.note(value)
        return f"{type(value).__name__} {value!r}"

    async def main():
        results = [await rt.call(kind, value) for value in (values[::-1] if reverse else values)]
        await rt.call(world.step, "x")
        return results

    reverse = False
    flow = flow_of(main)
    await failing_once(flow, world, "x")
    reverse = True
    assert (await resumed(flow))[0] == [f"{type(value).__name__} {value!r}" for value in values[::-1]]
    assert world.ran() == ["x"]


@pytest.mark.parametrize(
    "shapes",
    [(Square(2), Circle(2)), ((1, 2), deque([1, 2])), (Color.RED, Path("red")), (WHEN, Holder(1), {1: (2,)}, {3})],
    ids=str,
)
async def test_arguments_of_different_types_are_not_mixed_up(world, shapes):
    """Arguments of different types that are written alike are not mixed up.

    In the second run they come in another order: of two concurrent branches the other one is faster.
    """

    async def area(shape):
        world.note(shape)
        await anyio.sleep(world.delays.get(type(shape).__name__, 0))
        return f"{type(shape).__name__} {shape!r}"

    async def main():
        results = {}

        async def branch(position, shape):
            await anyio.sleep(world.delays.get(f"branch {position}", 0))
            results[position] = await rt.call(area, shape)

        async with anyio.create_task_group() as group:
            for position, shape in enumerate(shapes):
                group.start_soon(branch, position, shape)
        await rt.call(world.step, "x")
        return [results[position] for position in range(len(shapes))]

    world.delays.update({f"branch {position}": position for position in range(len(shapes))})
    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow)
    world.broken.clear()
    world.delays.update({f"branch {position}": -position + 9 for position in range(len(shapes))})
    result, _ = await resumed(flow)
    assert result == [f"{type(shape).__name__} {shape!r}" for shape in shapes]


@pytest.mark.parametrize("how", ["batch", "limited batch", "task group", "native"])
async def test_concurrent_calls_are_found_whatever_their_order_was(world, backend, how):
    async def branch(name):
        await anyio.sleep(world.delays.get(name, 0))
        first = await rt.call(world.step, f"{name}1", "equal")
        await anyio.sleep(world.delays.get(name, 0))
        return [first, await rt.call(world.step, f"{name}2", "equal")]

    async def main():
        if "batch" in how:
            return await rt.call_batch(branch, "abcd", return_exceptions=False, limit=2 if "limited" in how else None)
        if how == "native" and backend == "asyncio":
            return await asyncio.gather(*(rt.call(branch, name) for name in "abcd"))
        found = {}

        async def one(name):
            found[name] = await rt.call(branch, name)

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(one, name)
        return [found[name] for name in "abcd"]

    world.delays.update(a=4, b=3, c=2, d=1)
    world.broken.add("a1")  # the slowest: by then some of the others are done
    flow = flow_of(main)
    with pytest.raises((ValueError, BaseExceptionGroup)):
        await flow.ainvoke()
    done = {r.args[0] for r in rt.state.load_run("run").records if r.name == "step" and r.status == "Completed"}
    assert done
    world.broken.clear()
    world.ran()
    world.delays.update(a=1, b=4, c=3, d=2)
    result, session = await resumed(flow)
    assert result == [[f"{name}1!", f"{name}2!"] for name in "abcd"]
    assert sorted(world.ran()) == sorted({f"{name}{i}" for name in "abcd" for i in (1, 2)} - done)
    assert len(session.info.records) == 13


async def test_equal_calls_are_found_below_the_right_caller(world):
    """Equal calls of concurrent callers are found below the right one."""

    async def who(caller_does_not_count):
        world.note("who")
        return answers.pop(0)

    async def branch(name, delay):
        await anyio.sleep(world.delays.get(name, 0))
        return name, await rt.call(who, "equal")

    async def main():
        results = await rt.call_batch(branch, ["a", "b"], [0, 0])
        await rt.call(world.step, "x")
        return results

    answers = ["first", "second"]
    world.delays.update(a=1, b=2)
    flow = flow_of(main)
    await failing_once(flow, world, "x")
    answers[:] = ["wrong"] * 2
    world.delays.update(a=2, b=1)
    result, _ = await resumed(flow)  # tuples without annotation: branch runs again, and who must be found below it
    assert result == [("a", "first"), ("b", "second")]
    assert world.ran() == ["x"]
