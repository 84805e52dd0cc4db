"""A reused value is the value that was, or the call runs again: arguments, results, bound objects and the context."""

from __future__ import annotations

import pytest

import railtracks as rt
from tests.durability.kinds import TWINS
from tests.durability.world import failing, flow_of, resumed, resumed_badly
from tests.state.seeing import CLASSES, OpenAttrs, Plain, seen, with_note

pytestmark = pytest.mark.either_backend

USERS = "tests.state.seeing"


def giving(world, value):
    async def give() -> CLASSES:
        world.note("give")
        return value

    return give


def getting(world, node, got):
    async def main():
        got.append(await rt.call(node))
        await rt.call(world.step, "x")

    return main


@pytest.mark.parametrize("name", TWINS)
async def test_a_result_is_reused_as_it_was(world, name):
    for value in TWINS[name]:
        got: list[object] = []
        node = giving(world, value)
        if not type(value).__module__.startswith(USERS):
            del node.__annotations__["return"]
        flow = flow_of(getting(world, node, got))
        world.broken.add("x")
        await failing(flow)
        await resumed_badly(flow)
        world.broken.clear()
        await resumed(flow)
        assert [call for call in world.ran() if call == "give"] == ["give"]
        assert [seen(each) for each in got] == [seen(value)] * 3


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("by_keyword", [False, True])
async def test_a_call_with_another_argument_runs(world, name, by_keyword):
    """And one with an equal argument is reused."""

    async def take(given):
        world.note("take")
        return len(results)

    async def main():
        value = arguments.pop(0)
        results.append(await (rt.call(take, given=value) if by_keyword else rt.call(take, value)))
        await rt.call(world.step, "x")

    results: list[int] = []
    first, second = TWINS[name]
    arguments = [first, first, second, second, first]
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    for _ in range(3):
        await resumed_badly(flow)
    world.broken.clear()
    await resumed(flow)
    assert results == [0, 0, 2, 2, 0]
    assert [call for call in world.ran() if call == "take"] == ["take"] * 2


@pytest.mark.parametrize("name", TWINS)
async def test_recorded_arguments_are_what_they_were(world, name):
    async def main(given: CLASSES, *, key: CLASSES):
        world.note("main")
        got.append(seen([given, key]))
        await rt.call(world.step, "x")

    first, second = TWINS[name]
    got = []
    if not any(type(value).__module__.startswith(USERS) for value in (first, second)):
        main.__annotations__.clear()
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow, first, key=second)
    world.broken.clear()
    await resumed(flow)
    assert got == [seen([first, second])] * 2


@pytest.mark.parametrize(
    "name",
    [name for name, twins in TWINS.items() if not any(type(each).__module__.startswith(USERS) for each in twins)],
)
async def test_a_value_in_the_context_is_what_it_was(world, name):
    async def put():
        world.note("put")
        rt.context.put("one", TWINS[name][0])
        rt.context.put("both", list(TWINS[name]))

    async def main():
        await rt.call(put)
        got.append(seen([rt.context.get("one"), rt.context.get("both")]))
        await rt.call(world.step, "x")

    got = []
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    await resumed_badly(flow)
    world.broken.clear()
    await resumed(flow)
    assert [call for call in world.ran() if call == "put"] == ["put"]
    assert got == [seen([TWINS[name][0], list(TWINS[name])])] * 3


async def test_a_method_of_an_object_that_differs_is_another_node(world):
    class Shop(OpenAttrs):
        async def sell(self):
            world.note(self.x)
            return self.x

    async def main():
        await rt.call(with_note(Shop((1, 2)), notes.pop(0)).sell)
        await rt.call(world.step, "x")

    notes = [{"a"}, {"a"}, ["a"]]
    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    await resumed_badly(flow)
    await resumed_badly(flow)
    assert world.ran() == [(1, 2), "x", "x", (1, 2), "x"]


async def test_what_cannot_be_written_makes_a_call_run_again(world):
    async def give() -> Plain:
        world.note("give")
        return with_note(Plain(1), object())

    async def main():
        await rt.call(give)
        await rt.call(world.step, "x")

    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    world.broken.clear()
    _, session = await resumed(flow)
    assert world.ran() == ["give", "x", "give", "x"]
    assert [call.why for call in session.info.resumed if call.name == "give"] == [
        "its result is not all on record (a value has no written form)"
    ]
