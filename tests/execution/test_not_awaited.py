"""A node whose result is a coroutine: an ``await`` is missing."""

from __future__ import annotations

import warnings

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import NodeInvocationError
from railtracks.state import Status


@rt.function_node
async def leaf(number=1):
    return number


async def plain():
    return 1


@rt.function_node
async def returns_call():
    return rt.call(leaf)


@rt.function_node
async def returns_batch():
    return rt.call_batch(leaf, [1, 2])


@rt.function_node
async def returns_plain():
    return plain()


@rt.function_node
async def returns_run():
    return rt.Flow("Leaf", leaf).ainvoke()


@rt.function_node
async def returns_connected_run():
    return rt.Flow("Leaf", leaf).connect().ainvoke()


@rt.function_node
async def returns_session_call():
    return rt.Session().call(leaf)


class ReturnsCall(rt.nodes.Node[int]):
    async def invoke(self):
        return rt.call(leaf)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (returns_call, "returns_call returned a coroutine of rt.call, .* `return await rt.call"),
        (returns_batch, "returns_batch returned a coroutine of rt.call_batch, .* `return await rt.call_batch"),
        (returns_plain, "returns_plain returned a coroutine of plain, .* `return await plain"),
        (returns_run, "a coroutine of flow.ainvoke, .* `return await flow.ainvoke"),
        (returns_connected_run, "a coroutine of connection.ainvoke, .* `return await connection.ainvoke"),
        (returns_session_call, "a coroutine of session.call, .* `return await session.call"),
        (ReturnsCall, "ReturnsCall returned a coroutine of rt.call, .* `return await rt.call"),
    ],
)
async def test_it_is_an_error_that_says_await(node, says):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Python's own, that it was never awaited, would say it twice
        async with rt.Session() as session:
            with pytest.raises(NodeInvocationError, match=says):
                await rt.call(node)
    assert [record.status for record in session.info.records] == [Status.FAILED]
    loaded = rt.ExecutionInfo.load(f".railtracks/{session.identifier}.json")
    assert "return await" in str(loaded.records[0].exception)


async def test_a_sync_node_may_return_what_it_begins():
    async with rt.Session():
        assert await rt.call(rt.function_node(lambda: rt.call(leaf), name="delegate")) == 1


async def test_other_awaitables_are_values():
    @rt.function_node
    async def returns_event():
        return anyio.Event()

    async with rt.Session(save_state=False):
        assert isinstance(await rt.call(returns_event), anyio.Event)
