"""Errors, timeouts and interrupts while an agent streams."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError
from railtracks.state import Reason, Status
from railtracks.testing import tool_call
from tests import virtual
from tests.agents.helpers import Left, ends, forever, scripted, speaking


async def test_an_error_of_the_model_comes_after_the_chunks_before_it():
    """It is the same object."""
    error = ConnectionError("lost")
    agent, model = speaking(["a", "b"], fail=error)
    texts = []
    async with rt.Session() as session:
        with pytest.raises(ConnectionError) as caught:
            async for chunk in rt.astream(agent, "x"):
                texts.append(chunk.text)
    assert caught.value is error
    assert texts == ["a", "b"]
    assert model.closed == 1
    assert [record.exception for record in session.info.records] == [error, error]


async def test_an_error_is_raised_once():
    agent, _ = speaking(["a"], fail=Left())
    async with rt.Session():
        stream = rt.astream(agent, "x")
        await anext(stream)
        with pytest.raises(Left):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_an_error_that_is_not_read_does_no_harm():
    agent, _ = speaking(["a"], fail=Left())
    async with rt.Session() as session:
        stream = rt.astream(agent, "x")
        await anext(stream)
        await anyio.wait_all_tasks_blocked()
    assert ends(session)["Speaker"][0] is Status.FAILED


async def test_an_error_that_came_before_aclose_can_still_be_had():
    error = Left()
    agent, _ = speaking(["a"], fail=error)
    async with rt.Session():
        async with rt.astream(agent, "x") as stream:
            await anext(stream)
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(Left) as caught:
            await anext(stream)
    assert caught.value is error


async def test_wrong_arguments_are_an_error_at_the_first_chunk():
    agent, _ = speaking()
    async with rt.Session():
        stream = rt.astream(agent, 7)
        with pytest.raises(rt.exceptions.NodeInvocationError, match="the agent Speaker was given 7"):
            await anext(stream)


async def test_a_timeout_while_streaming_is_raised_in_the_loop():
    agent, model = speaking(between=lambda: anyio.sleep(2))
    texts = []
    async with rt.Session(timeout=5) as session:
        with pytest.raises(GlobalTimeOutError):
            async for chunk in rt.astream(agent, "x"):
                texts.append(chunk.text)
    assert texts == ["one", " two", " three"]
    assert model.closed == 1
    assert set(ends(session).values()) == {(Status.CANCELLED, Reason.TIMEOUT)}


async def test_a_slow_listener_uses_up_the_timeout_too():
    agent, _ = speaking()
    async with rt.Session(timeout=5):
        with pytest.raises(GlobalTimeOutError):
            async for _ in rt.astream(agent, "x"):
                await anyio.sleep(3)


async def test_a_timeout_of_the_node_that_streams_ends_both():
    agent, model = speaking(between=forever)

    async def node():
        async for _ in rt.astream(agent, "x"):
            pass

    async with rt.Session(timeout=5) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(node)
    assert model.closed == 1
    assert set(ends(session).values()) == {(Status.CANCELLED, Reason.TIMEOUT)}


async def test_end_on_error_ends_a_stream_for_the_error_of_a_call():
    """The error is that of another call in the session."""
    agent, model = speaking(between=forever)

    async def fail():
        await anyio.sleep(1)
        raise Left

    async with rt.Session(end_on_error=True) as session:
        session_error = None
        async with anyio.create_task_group() as group:

            async def failing():
                with pytest.raises(Left):
                    await rt.call(fail)

            group.start_soon(failing)
            try:
                async for _ in rt.astream(agent, "x"):
                    pass
            except Left as exc:
                session_error = exc
        assert isinstance(session_error, Left)
    assert model.closed == 1
    assert ends(session)["Speaker"] == (Status.CANCELLED, Reason.END_ON_ERROR)


async def test_end_on_error_raises_the_error_of_the_model_in_the_loop():
    error = Left()
    agent, _ = speaking(["a"], fail=error)
    async with rt.Session(end_on_error=True):
        with pytest.raises(Left) as caught:
            async for _ in rt.astream(agent, "x"):
                pass
    assert caught.value is error


async def test_the_error_of_a_tool_goes_back_while_streaming_too():
    async def tool() -> None:
        raise Left("no")

    async with rt.Session():
        agent = scripted(tool_call("tool"), "fine", tool_nodes=[tool])
        chunks = [chunk async for chunk in rt.astream(agent, "x")]
    assert [chunk.text or chunk.kind for chunk in chunks] == ["tool_call", "tool_result", "fine", "final"]
    assert chunks[1].tool_result.is_error


async def test_a_fatal_tool_ends_the_stream_with_its_error():
    error = rt.exceptions.FatalError("stop")

    async def tool() -> None:
        raise error

    async with rt.Session():
        with pytest.raises(rt.exceptions.FatalError) as caught:
            async for _ in rt.astream(scripted(tool_call("tool"), tool_nodes=[tool]), "x"):
                pass
    assert caught.value is error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_model_ends_everything(backend, kind):
    error = kind("mine")
    agent, _ = speaking(["a"], fail=error)
    ended = []

    async def main():
        async with rt.Session(run_identifier="run") as session:
            session.start_soon(forever)
            try:
                async for _ in rt.astream(agent, "x"):
                    pass
            finally:
                ended.append(True)

    with pytest.raises(kind) as caught:
        virtual.run(backend, main)
    assert caught.value is error
    assert ended == [True]
    assert Status.OPEN not in {record.status for record in rt.state.load_run("run").records}
