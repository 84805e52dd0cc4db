"""Streams that are left: by the end of a loop, by ``async with``, by ``aclose``; nothing keeps running."""

from __future__ import annotations

import asyncio
import gc
import warnings
from contextlib import aclosing

import anyio
import pytest
import trio

import railtracks as rt
from railtracks.state import Reason, Status
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import CANCELLED, PIECES, WORDS, Left, ends, forever, scripted, speaking

# ---- leaving a loop


@pytest.mark.parametrize("between", [anyio.lowlevel.checkpoint, forever])
async def test_leaving_the_loop_by_break_cancels_the_model(between):
    agent, model = speaking(between=between)
    async with rt.Session() as session:
        async for _ in rt.astream(agent, "x"):
            break
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        assert ends(session) == CANCELLED


async def test_leaving_the_loop_by_return_cancels_the_model():
    agent, model = speaking()

    async def node():
        async for chunk in rt.astream(agent, "x"):
            return chunk.text
        return None

    async with rt.Session() as session:
        assert await rt.call(node) == "one"
        assert model.closed == 1
        assert ends(session) == {**CANCELLED, "node": (Status.COMPLETED, None)}


async def test_leaving_the_loop_by_an_exception_cancels_the_model():
    agent, model = speaking()

    async def node():
        async for _ in rt.astream(agent, "x"):
            raise Left

    async with rt.Session() as session:
        with pytest.raises(Left):
            await rt.call(node)
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        assert ends(session) == {**CANCELLED, "node": (Status.FAILED, None)}


async def test_leaving_a_loop_in_the_body_by_an_error_cancels_it():
    """An exception that leaves the body of the session from the loop cancels the model."""
    agent, model = speaking()
    with pytest.raises(Left):
        async with rt.Session() as session:
            async for _ in rt.astream(agent, "x"):
                raise Left
    assert model.closed == 1
    assert ends(session) == CANCELLED


@pytest.mark.parametrize("where", ["body", "node"])
@pytest.mark.parametrize("waiting", ["for a chunk", "in the loop"])
async def test_a_cancellation_in_the_loop_cancels_the_model(where, waiting):
    """The cancellation is then passed on."""
    agent, model = speaking(between=forever if waiting == "for a chunk" else anyio.lowlevel.checkpoint)

    async def listen():
        async for _ in rt.astream(agent, "x"):
            if waiting == "in the loop":
                await anyio.sleep_forever()

    async with rt.Session() as session:
        with anyio.move_on_after(1) as scope:
            await (rt.call(listen) if where == "node" else listen())
        assert scope.cancelled_caught
    assert model.closed == 1
    found = ends(session)
    assert found.pop("listen", (Status.CANCELLED, Reason.OUTSIDE)) == (Status.CANCELLED, Reason.OUTSIDE)
    assert found == CANCELLED


async def test_leaving_cancels_the_tools_and_the_agents_below_as_well():
    async def tool() -> None:
        await anyio.sleep_forever()

    inner, model = speaking(name="inner", between=forever)
    agent = scripted(["x", tool_call("tool"), tool_call("inner", request="x")], name="outer", tool_nodes=[tool, inner])
    async with rt.Session() as session:
        async for chunk in rt.astream(agent, "x"):
            if chunk.agent == "inner":
                break
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        statuses = [record.status for record in session.info.records if not record.name.startswith("chat scripted")]
        assert statuses == [Status.CANCELLED] * 4


async def test_an_agent_whose_stream_is_left_goes_on_unheard():
    """It waits to be heard at the moment when the stream is left."""
    agent = rt.agent_node("A", llm=ScriptedModel(["one two three"]))
    heard, late = [], []

    async def later():
        late.append(await rt.call(agent, "Hello"))

    async def spawn(group):
        group.start_soon(later)
        await anyio.sleep_forever()

    async def stream():
        async with anyio.create_task_group() as group, rt.astream(spawn, group) as chunks:
            heard.append((await anext(chunks)).text)
            await anyio.wait_all_tasks_blocked()  # the agent has its next piece in its hands

    async with rt.Session(save_state=False):
        await rt.call(stream)
    assert heard == ["one"]
    assert late[0].content == "one two three"


async def test_after_leaving_the_session_goes_on():
    agent, _ = speaking()
    async with rt.Session():
        async for _ in rt.astream(agent, "x"):
            break
        assert str(await rt.call(agent, "x")) == WORDS
        assert [chunk.text async for chunk in rt.astream(agent, "x")] == [*PIECES, ""]


# ---- async with, aclose


def slow_to_close(closed):
    """What a speaker waits for: for ever, and for three seconds more when it is cancelled. Then it says so."""

    async def between():
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            closed.append(True)

    return between


async def test_async_with_waits_until_the_call_has_ended():
    cleaned = []
    agent, model = speaking(between=slow_to_close(cleaned))
    async with rt.Session() as session:
        async with rt.astream(agent, "x") as stream:
            async for _ in stream:
                break
            assert cleaned == []
            with anyio.move_on_after(1):  # it is the end of the block that cancels
                await anyio.sleep_forever()
            assert cleaned == []
        assert cleaned == [True]
        assert model.closed == 1
        assert ends(session) == CANCELLED


async def test_async_with_of_a_stream_that_was_read_to_its_end():
    agent, _ = speaking(["a"])
    async with rt.Session() as session, rt.astream(agent, "x") as stream:
        assert [chunk.text async for chunk in stream] == ["a", ""]
    assert {status for status, _ in ends(session).values()} == {Status.COMPLETED}


async def test_async_with_around_a_stream_that_is_never_asked():
    async with rt.Session() as session, rt.astream(speaking()[0], "x"):
        pass
    assert session.info.records == ()


async def test_aclose_before_the_first_chunk_makes_the_stream_empty():
    agent, model = speaking()
    async with rt.Session() as session:
        stream = rt.astream(agent, "x")
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
    assert model.calls == []
    assert session.info.records == ()


async def test_aclose_may_be_called_twice_and_after_the_end():
    agent, _ = speaking(["a"])
    async with rt.Session() as session:
        async with aclosing(rt.astream(agent, "x")) as stream:
            assert [chunk.text async for chunk in stream] == ["a", ""]
        await stream.aclose()
        await stream.aclose()
    await stream.aclose()
    assert {status for status, _ in ends(session).values()} == {Status.COMPLETED}


async def test_after_aclose_the_stream_is_at_its_end():
    agent, _ = speaking()
    async with rt.Session():
        stream = rt.astream(agent, "x")
        await anext(stream)
        await stream.aclose()
        assert [chunk async for chunk in stream] == []


async def test_aclose_passes_a_cancellation_on_when_the_call_has_ended():
    closed = []
    agent, _ = speaking(between=slow_to_close(closed))
    async with rt.Session():
        stream = rt.astream(agent, "x")
        await anext(stream)
        with anyio.move_on_after(1) as scope:
            await stream.aclose()
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert closed == [True]


# ---- what is left behind


def tasks(backend):
    return len(asyncio.all_tasks()) if backend == "asyncio" else trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("leave", ["end", "break", "keep", "raise", "cancel"])
async def test_nothing_is_left_running_and_nothing_is_warned_of(leave, backend):
    agent, model = speaking(between=lambda: anyio.sleep(1))
    kept = []

    async def listen():
        stream = rt.astream(agent, "x")
        if leave == "keep":
            kept.append(stream)
        async for _ in stream:
            if leave in ("break", "keep"):
                return
            if leave == "raise":
                raise Left
            if leave == "cancel":
                await anyio.sleep_forever()

    before = tasks(backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            with anyio.move_on_after(3):
                async with rt.Session():
                    await listen()
        except Left:
            pass
        assert model.closed == 1
        kept.clear()
        gc.collect()
        await anyio.lowlevel.checkpoint()
        assert tasks(backend) == before


async def test_a_hundred_left_streams_leave_nothing_behind():
    agent, model = speaking()
    async with rt.Session() as session:
        for _ in range(100):
            async for _ in rt.astream(agent, "x"):
                break
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 100
    assert {record.status for record in session.info.records} == {Status.CANCELLED}
