"""Equal calls are found as equal, however their arguments are passed."""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal

import pytest

import railtracks as rt
from tests.durability.world import failing, flow_of, reasons, resumed, resumed_badly
from tests.state.seeing import Extra

pytestmark = pytest.mark.either_backend


def call(*args, **kwargs):
    return args, kwargs


PAIRS = {
    "order of keywords": (call(1, x=2, y=3), call(1, y=3, x=2)),
    "position or keyword": (call(1, 2), call(1, x=2)),
    "all by keyword": (call(1, 2, 3), call(y=3, x=2, a=1)),
    "default left out": (call(1, 5, 6), call(1)),
    "default given": (call(1), call(1, y=6)),
    "default by type": (call(1, x=5, y=6, z=(1, Decimal(2))), call(1)),
    "order of keys": (call({"b": 1, "a": {"d": 1, "c": 2}}), call({"a": {"c": 2, "d": 1}, "b": 1})),
    "order of keys in a list": (call([{"b": 1, "a": 2}]), call([{"a": 2, "b": 1}])),
    "order of keys that are no texts": (call({2: (1,), 1: "a"}), call({1: "a", 2: (1,)})),
    "order of a counter": (call(Counter("ab")), call(Counter("ba"))),
    "order of a defaultdict": (call(defaultdict(int, a=1, b=2)), call(defaultdict(int, b=2, a=1))),
    "order of extra fields": (
        call(Extra.model_validate({"p": 1, "q": 2})),
        call(Extra.model_validate({"q": 2, "p": 1})),
    ),
    "order of further keywords": (call(1, m=1, n=2), call(1, n=2, m=1)),
    "typed at two positions": (call(Decimal(1), Decimal(2)), call(Decimal(1), x=Decimal(2))),
}
OTHERS = {
    "another position": (call(1, 2), call(1, y=2)),
    "another default": (call(1, 5), call(1, 6)),
    "order of an ordered dict": (call(OrderedDict(a=1, b=2)), call(OrderedDict(b=2, a=1))),
    "swapped values": (call({"a": 1, "b": 2}), call({"a": 2, "b": 1})),
    "more positions": (call(1, 2, 3, (1, Decimal(2)), 4), call(1, 2, 3, (1, Decimal(2)))),
    "default of another type": (call(1, z=[1, Decimal(2)]), call(1)),
    "further keyword": (call(1, m=1), call(1)),
}


async def take_both(world, first, second):
    """Resume a flow that makes the first call, in a session that makes the second one. Return what ran."""

    async def node(a, x=5, y=6, z=(1, Decimal(2)), *more, **rest):
        world.note("node")

    async def main():
        args, kwargs = calls.pop(0)
        await rt.call(node, *args, **kwargs)
        await rt.call(world.step, "x")

    calls = [first, second, first, second]
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    for _ in range(3):
        await resumed_badly(flow)
    return [each for each in world.ran() if each == "node"]


@pytest.mark.parametrize("name", PAIRS)
async def test_the_same_arguments_are_found_however_they_are_passed(world, name):
    assert await take_both(world, *PAIRS[name]) == ["node"]
    assert await take_both(world, *reversed(PAIRS[name])) == ["node"]


@pytest.mark.parametrize("name", OTHERS)
async def test_other_arguments_are_not_taken_for_the_same(world, name):
    assert await take_both(world, *OTHERS[name]) == ["node"] * 2


async def test_a_default_that_cannot_be_compared_is_itself_only(world):
    unset = object()

    async def node(a, x=unset):
        world.note("node")

    async def main():
        await (rt.call(node, 1) if given.pop() else rt.call(node, a=1))
        await rt.call(world.step, "x")

    given = [True, False]
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    world.broken.clear()
    await resumed(flow)
    assert world.ran() == ["node", "x", "x"]


async def test_each_recorded_call_is_reused_once(world):
    async def node(a, x=1):
        world.note("node")
        return len(made)

    async def main():
        for args, kwargs in made[-1]:
            results.append(await rt.call(node, *args, **kwargs))
        await rt.call(world.step, "x")

    results = []
    made = [[call(1), call(1, 1), call(a=1)]]
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    made.append([call(x=1, a=1), call(1, 1), call(1), call(a=1), call(1)])
    await resumed_badly(flow)
    assert results == [1, 1, 1, 1, 1, 1, 2, 2]
    made.append([call(a=1), call(a=1), call(a=1), call(a=1), call(a=1), call(a=1)])
    await resumed_badly(flow)
    assert results[8:] == [1, 1, 1, 2, 2, 3] or sorted(results[8:]) == [1, 1, 1, 2, 2, 3]


async def test_arguments_bound_by_a_partial_are_part_of_the_node(world):
    async def node(a, b, c=3):
        world.note("node")

    async def main():
        bound, args, kwargs = calls.pop(0)
        await rt.call(functools.partial(node, **bound), *args, **kwargs)
        await rt.call(world.step, "x")

    calls = [({"b": 2}, (1,), {}), ({"b": 2}, (), {"a": 1, "c": 3}), ({"b": 4}, (1,), {})]
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    await resumed_badly(flow)
    await resumed_badly(flow)
    assert world.ran() == ["node", "x", "x", "node", "x"]


async def test_a_call_that_no_longer_fits_the_parameters_runs(world):
    def flow(count):
        if count == 2:

            async def node(a, b):
                world.note("node")
        else:

            async def node(a):  # type: ignore[misc]
                world.note("node")

        async def main():
            await (rt.call(node, 1, b=2) if count == 2 else rt.call(node, a=1))  # type: ignore[call-overload]
            await rt.call(world.step, "x")

        main.__qualname__ = "main"
        return flow_of(main)

    world.broken.add("x")
    await failing(flow(2))
    world.broken.clear()
    _, session = await resumed(flow(1))
    assert world.ran() == ["node", "x", "node", "x"]
    assert reasons(session.info)["node"] == "it is not on record"
