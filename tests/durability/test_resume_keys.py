"""``key=``: a node that is known by a key of its own, whatever its function is called and wherever it is."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from railtracks.nodes._resolve import as_node
from railtracks.testing import ScriptedModel
from tests.durability.world import failing, flow_of, resumed, reused


def node_class(name, world, key="ship"):
    class Made(rt.nodes.Node[str]):
        def __init__(self, what):
            self.what = what

        async def invoke(self):
            world.note(f"ship {self.what}")
            return self.what

        @classmethod
        def key(cls):
            return key

    Made.__name__ = Made.__qualname__ = name
    return Made


def renamed(function, name, module):
    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    return function


async def test_a_key_survives_renames_and_moves(world):
    """For functions, class nodes and agents."""

    def flow(suffix):
        async def charge(amount):
            world.note(f"charge {amount}")
            return amount

        def answer(messages):
            world.note("model")
            return "hello"

        charge_node = rt.function_node(renamed(charge, f"charge{suffix}", f"billing{suffix}"), key="billing.charge")
        ship = node_class(f"Ship{suffix}", world)
        greet = rt.agent_node(f"Greet{suffix}", llm=ScriptedModel(answer), key="greet")

        async def main():
            found = [await rt.call(charge_node, 1), await rt.call(ship, "a"), (await rt.call(greet, "hi")).content]
            await rt.call(world.step, "x")
            return found

        return flow_of(rt.function_node(renamed(main, f"main{suffix}", f"app{suffix}"), key="main"))

    world.broken.add("x")
    await failing(flow(""))
    world.broken.clear()
    assert world.ran() == ["charge 1", "ship a", "model", "x"]
    result, session = await resumed(flow("2"))
    assert result == [1, "a", "hello"]
    assert world.ran() == ["x"]
    assert reused(session.info) == ["charge2", "Ship2", "Greet2"]


async def test_a_version_counts_beside_the_key(world):
    def flow(version):
        charge = rt.function_node(lambda: world.note(version), key="charge", version=version)

        async def main():
            await rt.call(charge)
            await rt.call(world.step, "x")

        return flow_of(main)

    world.broken.add("x")
    await failing(flow("1"))
    world.broken.clear()
    await resumed(flow("2"))
    assert world.ran() == ["1", "x", "2", "x"]


@pytest.mark.parametrize("key", ["", " ", "a b", "a@2", "a(1)", ".a", "a\n", "é!", "a" * 201, 3, True, b"a"])
def test_keys_that_are_not_allowed(key):
    with pytest.raises(NodeCreationError, match=r"rt.function_node: key must be .* such as 'billing.charge', not"):
        rt.function_node(len, key=key)
    with pytest.raises(NodeCreationError, match=r"rt.agent_node: key must be"):
        rt.agent_node(llm=ScriptedModel(["a"]), key=key)
    with pytest.raises(NodeCreationError, match=r"Made.key\(\): key must be"):
        as_node(node_class("Made", None, key))


def test_key_of_a_class_must_be_a_class_method():
    class Search(rt.nodes.Node[str]):
        key = "title"  # type: ignore[assignment]

        def invoke(self):
            return "found"

    with pytest.raises(NodeCreationError, match=r"Search.key must be a class method"):
        as_node(Search)


async def test_two_functions_with_one_key_in_a_session(world):
    """The second must not get what is on record of the first, so it does not run."""

    @rt.function_node(key="charge")
    async def charge(amount):
        world.note("charge")

    @rt.function_node(key="charge")
    async def refund(amount):
        world.note("refund")

    @rt.function_node(key="charge", version="2")
    async def other_version(amount):
        world.note("other")

    async with rt.Session() as session:
        await rt.call(charge, 1)
        await rt.call(rt.function_node(charge.func, key="charge", name="again"), 1)
        await rt.call(other_version, 1)
        with pytest.raises(
            NodeCreationError, match=r"the key 'charge' of \S*refund is that of \S*<locals>.charge, too"
        ):
            await rt.call(refund, 1)
    assert world.ran() == ["charge", "charge", "other"]
    assert [record.status for record in session.info.records] == ["Completed"] * 3 + ["Failed"]
    async with rt.Session():
        await rt.call(refund, 1)


async def test_lambdas_with_one_key_are_two_functions(world):
    nodes = [
        rt.function_node(lambda: world.note(1), key="note"),
        rt.function_node(lambda: world.note(2), key="note"),
    ]
    async with rt.Session():
        await rt.call(nodes[0])
        with pytest.raises(NodeCreationError, match="<lambda> in line"):
            await rt.call(nodes[1])
