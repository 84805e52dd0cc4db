"""Resuming after the code changed: versions, renamed functions, calls added, removed and moved."""

from __future__ import annotations

from typing import Any

import pytest

import railtracks as rt
from tests.durability.world import failing, failing_once, flow_of, reasons, resumed, reused


def versioned(world, version):
    """Return the node ``change`` in one of its versions."""

    async def change(name):
        world.note(f"change {version}")
        return [await rt.call(world.step, name), version]

    return rt.function_node(change, version=version)


def flow_with(world, node):
    """Return a flow that calls the node and then a step."""

    async def main():
        result = await rt.call(node, "below")
        await rt.call(world.step, "x")
        return result

    return flow_of(main)


async def test_node_of_another_version_runs_again(world):
    world.broken.add("x")
    await failing(flow_with(world, versioned(world, "1")))
    world.broken.clear()
    world.ran()
    result, session = await resumed(flow_with(world, versioned(world, "2")))
    assert result == ["below!", "2"]
    assert world.ran() == ["change 2", "x"]  # what it calls is found
    assert "not on record" in reasons(session.info)["change"]
    assert reasons(session.info).keys() == {"main", "change", "step"}
    assert [decision.reused for decision in session.info.resumed if decision.name == "step"] == [True, False]


async def test_a_node_of_the_same_version_is_reused(world):
    world.broken.add("x")
    await failing(flow_with(world, versioned(world, "1")))
    world.broken.clear()
    world.ran()
    assert (await resumed(flow_with(world, versioned(world, "1"))))[0] == ["below!", "1"]
    assert world.ran() == ["x"]


async def test_function_and_not_display_name_identifies_a_node(world):
    async def one():
        world.note("one")

    async def other():
        world.note("other")

    world.broken.add("x")

    def flow(node):
        async def main():
            await rt.call(node)
            await rt.call(world.step, "x")

        return flow_of(main)

    await failing(flow(rt.function_node(one, name="N")))
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow(rt.function_node(one, name="renamed")))
    assert world.ran() == ["x"]
    assert "renamed" in reused(session.info)
    world.ran()
    _, session = await resumed(flow(rt.function_node(other, name="N")))
    assert world.ran() == []  # main had completed
    world.broken.add("x")


async def test_node_of_another_function_of_the_same_name_runs_again(world):
    async def one():
        world.note("one")

    async def other():
        world.note("other")

    async def main():
        await rt.call(rt.function_node(function, name="N"))  # type: ignore[call-overload]
        await rt.call(world.step, "x")

    function: Any = one
    flow = flow_of(main)
    await failing_once(flow, world, "x")
    function = other
    _, session = await resumed(flow)
    assert world.ran() == ["other", "x"]
    assert reasons(session.info)["N"] == "it is not on record"


@pytest.mark.parametrize(
    ("names", "again"),
    [("abc", "c"), ("anbc", "nc"), ("nabc", "nc"), ("bc", "c"), ("bac", "c"), ("aabc", "ac"), ("c", "c"), ("", "")],
)
async def test_calls_may_be_added_removed_and_moved(world, names, again):
    async def main():
        return [await rt.call(world.step, name) for name in called]

    called = "abc"
    flow = flow_of(main)
    await failing_once(flow, world, "c")
    called = names
    assert (await resumed(flow))[0] == [f"{name}!" for name in names]
    assert world.ran() == list(again)
