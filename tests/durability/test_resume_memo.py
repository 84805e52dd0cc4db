"""Nodes with ``memo=False`` run again."""

from __future__ import annotations

from dataclasses import dataclass

import railtracks as rt
from tests.durability.world import failing, failing_once, flow_of, reasons, resumed


async def test_memo_false_runs_again_and_what_is_below_is_reused(world):
    async def outer():
        world.note("outer")
        return await rt.call(world.step, "below")

    world.broken.add("x")
    node = rt.function_node(outer, memo=False)

    async def main():
        result = await rt.call(node)
        await rt.call(world.step, "x")
        return result

    flow = flow_of(main)
    await failing(flow)
    world.broken.clear()
    world.ran()
    result, session = await resumed(flow)
    assert (result, world.ran()) == ("below!", ["outer", "x"])
    assert reasons(session.info)["outer"] == "its node has memo=False"


async def test_memo_false_of_a_class_node_and_of_a_method(world):
    class Forgetful(rt.nodes.Node):
        @classmethod
        def memo(cls):
            return False

        async def invoke(self):
            world.note("Forgetful")

    @dataclass
    class Service:
        url: str = "here"

        @rt.function_node(memo=False)
        async def forget(self):
            world.note("forget")

    async def main():
        await rt.call(Forgetful)
        await rt.call(Service().forget)
        await rt.call(world.step, "x")

    flow = flow_of(main)
    await failing_once(flow, world, "x")
    _, session = await resumed(flow)
    assert world.ran() == ["Forgetful", "forget", "x"]
    assert reasons(session.info)["Forgetful"] == reasons(session.info)["forget"] == "its node has memo=False"
