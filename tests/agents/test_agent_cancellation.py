"""Timeouts and cancellations of agents, and models that raise a cancellation of their own."""

from __future__ import annotations

import asyncio

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError
from railtracks.state import Reason, Status
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import agent_of, hello, scripted, texts_of

# ---- timeout and cancellation


async def hang(*_):
    await anyio.sleep_forever()


@rt.function_node(name="wait")
async def wait_forever() -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("where", ["request", "tool", "agent"])
async def test_a_timeout_cancels_what_runs(where):
    inner, _ = agent_of(hang, name="inner")
    answer = {"request": hang, "tool": tool_call("wait"), "agent": tool_call("inner", request="x")}[where]
    agent, _ = (
        agent_of([answer][0], "never", tool_nodes=[wait_forever, inner])
        if where != "request"
        else agent_of(hang, "never")
    )
    async with rt.Session(timeout=5) as session:
        start = anyio.current_time()
        with pytest.raises(GlobalTimeOutError):
            await rt.call(agent, "Go.")
        assert anyio.current_time() - start == pytest.approx(5)
    ends = {
        record.name: (record.status, record.reason)
        for record in session.info.records
        if record.status is not Status.COMPLETED
    }
    expected = {"request": ["Agent", "chat scripted"], "tool": ["Agent", "wait"],
                "agent": ["Agent", "inner", "chat scripted"]}[where]  # fmt: skip
    assert ends == dict.fromkeys(expected, (Status.CANCELLED, Reason.TIMEOUT))


@pytest.mark.parametrize("where", ["request", "tool"])
async def test_a_cancellation_from_outside_cancels_what_runs(where):
    """The cancellation is then passed on."""
    agent, _ = (
        agent_of(hang, "never")
        if where == "request"
        else agent_of([tool_call("wait"), tool_call("wait")], "never", tool_nodes=[wait_forever])
    )
    async with rt.Session() as session:
        with anyio.move_on_after(3) as scope:
            await rt.call(agent, "Go.")
            pytest.fail("it was cancelled")
        assert scope.cancelled_caught
        assert not [record for record in session.info.records if record.status is Status.OPEN]
    names = {record.name for record in session.info.records if record.status is Status.CANCELLED}
    assert names == ({"Agent", "chat scripted"} if where == "request" else {"Agent", "wait"})
    cancelled = [record.reason for record in session.info.records if record.status is Status.CANCELLED]
    assert set(cancelled) == {Reason.OUTSIDE}


async def test_a_model_may_clean_up_when_it_is_cancelled():
    closed = []

    async def answer(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            closed.append(True)

    agent, _ = agent_of(answer)
    with pytest.raises(GlobalTimeOutError):
        async with rt.Session(timeout=2):
            await rt.call(agent, "Go.")
    assert closed == [True]


async def test_a_stray_cancellation_of_a_model_reaches_its_caller(backend):
    """It cancels nothing else in the session."""
    if backend == "trio":
        pytest.skip("trio's Cancelled cannot be raised by hand")

    async def answer(_):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    agent, _ = agent_of(answer)
    async with rt.Session():
        with pytest.raises(asyncio.CancelledError):
            await rt.call(agent, "Go.")
        assert str(await rt.call(hello(), "Ada")) == "Hello, Ada"


async def test_a_session_whose_body_raises_cancels_its_agents():
    agent, _ = agent_of(hang, "never")
    with pytest.raises(KeyError):
        async with rt.Session() as session:
            session.start_soon(agent, "Go.")
            await anyio.sleep(1)
            raise KeyError
    assert {record.status for record in session.info.records} == {Status.CANCELLED}


# ---- cancellations that a model raises


class Stray(ScriptedModel):
    """Awaits something of its own that was cancelled."""

    async def stream(self, messages, **options):
        yield "one"
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        yield await self.complete(messages, **options)


@pytest.mark.parametrize("in_node", [False, True])
async def test_a_stray_cancellation_of_a_stream_reaches_its_reader(backend, in_node):
    """It cancels nothing else in the session."""
    if backend == "trio":
        pytest.skip("trio's Cancelled cannot be raised by hand")
    got = []

    async def consume():
        with pytest.raises(asyncio.CancelledError) as caught:
            async for chunk in rt.astream(rt.agent_node(llm=Stray([])), "x"):
                got.append(chunk.text)
        return type(caught.value)

    async def sibling():
        await anyio.sleep(1)
        return "done"

    async with rt.Session() as session:
        session.start_soon(sibling)
        assert await (rt.call(consume) if in_node else consume()) is asyncio.CancelledError
        assert got == ["one"]
        assert await rt.call(sibling) == "done"
        assert await texts_of(rt.astream(scripted("on"), "x")) == ["on", ""]
    ends = {record.name: record.status for record in session.info.records}
    assert ends["sibling"] is Status.COMPLETED
    assert asyncio.current_task().cancelling() == 0
