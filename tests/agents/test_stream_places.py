"""Where a stream runs, and where it is refused."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ContextError, NodeCreationError, SessionError
from railtracks.state import Status
from railtracks.testing import ScriptedModel
from tests.agents.helpers import scripted, speaking, texts_of

# ---- in sessions, nodes and flows


async def test_a_stream_in_a_node_is_nested_below_it():
    agent, _ = speaking(["a"])

    async def node():
        return [chunk.text async for chunk in rt.astream(agent, "x")]

    async with rt.Session() as session:
        assert await rt.call(node) == ["a", ""]
    assert [(record.name, record.parent, record.run) for record in session.info.records] == [
        ("node", None, 0), ("Speaker", 0, 0), ("chat speaker", 1, 0),
    ]  # fmt: skip


async def test_a_stream_runs_in_a_flow():
    agent, _ = speaking(["a"])

    async def node():
        return [chunk.text async for chunk in rt.astream(agent, "x")]

    assert await rt.Flow("F", entry_point=node).ainvoke() == ["a", ""]


def test_a_stream_runs_below_call_sync(backend):
    agent, _ = speaking(["a"])

    async def node():
        return [chunk.text async for chunk in rt.astream(agent, "x")]

    with rt.Session(backend=backend):
        assert rt.call_sync(node) == ["a", ""]


async def test_without_a_session_it_says_what_to_write():
    with pytest.raises(ContextError, match=r"needs a session .*`async with rt.Session\(\):` around the loop"):
        async for _ in rt.astream(speaking()[0], "x"):
            pytest.fail("nothing can come")


async def test_a_plain_session_in_async_code_says_what_to_write():
    with rt.Session() as session, pytest.raises(SessionError, match=r"enter it with `async with rt.Session\(\):`"):
        async for _ in rt.astream(speaking()[0], "x"):
            pytest.fail("nothing can come")
    assert session.info.records == ()


async def test_a_node_of_a_plain_session_in_async_code_says_it_too():
    async def node():
        async for _ in rt.astream(speaking()[0], "x"):
            pytest.fail("nothing can come")

    with rt.Session(), pytest.raises(SessionError, match="async with"):
        await rt.call(node)


async def test_what_is_not_a_node_is_refused_at_once():
    with pytest.raises(NodeCreationError, match=r"rt\.astream"):
        rt.astream(7)  # type: ignore[arg-type]


async def test_a_stream_that_is_made_and_never_asked_makes_no_call():
    async with rt.Session() as session:
        stream = rt.astream(speaking()[0], "x")
        del stream
        kept = rt.astream(speaking()[0], "x")
    assert session.info.records == ()
    with pytest.raises(ContextError):
        await anext(kept)


async def test_a_stream_that_has_ended_stays_at_its_end():
    """Also when it is asked again."""
    async with rt.Session():
        stream = rt.astream(speaking(["a"])[0], "x")
        assert [chunk.text async for chunk in stream] == ["a", ""]
        assert [chunk.text async for chunk in stream] == []
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


# ---- in threads, children of a session, callbacks and tasks


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
async def test_a_stream_does_not_hear_the_event_loop_of_a_thread(inner):
    """What an agent says in another event loop is not in the stream, and does not wait for its reader."""
    far, near = scripted("far", name="Far"), scripted("near", name="Near")

    @rt.function_node
    def node():
        with rt.Session(backend=inner, run_identifier="inner"):
            said = rt.call_sync(far, "x").content
        return said, rt.call_sync(near, "x").content

    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(node)]
    assert [chunk.text for chunk in chunks] == ["near", ""]
    assert chunks[-1].response == ("far", "near")


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
async def test_a_stream_in_the_event_loop_of_a_thread_is_refused(inner):
    refused = []

    async def main():
        with pytest.raises(
            SessionError, match=r"came in another event loop than its session's; .*rt\.call_sync"
        ) as told:
            with anyio.fail_after(5):
                await texts_of(rt.astream(scripted("never"), "x"))
        refused.append(told.value)

    def node():
        anyio.run(main, backend=inner)
        return str(rt.call_sync(scripted("said"), "x"))

    async with rt.Session() as session:
        assert await rt.call(node) == "said"
    assert [type(each) for each in refused] == [SessionError]
    assert {record.status for record in session.info.records} == {Status.COMPLETED}


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
def test_a_stream_in_another_loop_of_a_plain_session_is_refused(inner, backend):
    async def main():
        with pytest.raises(SessionError, match="came in another event loop than its session's"), anyio.fail_after(5):
            await texts_of(rt.astream(scripted("never"), "x"))

    def node():
        anyio.run(main, backend=inner)
        return "refused"

    with rt.Session(backend=backend):
        assert rt.call_sync(node) == "refused"


async def test_a_child_of_the_session_streams_after_the_body():
    agent = scripted("first", "second")
    found = []

    async def child():
        await anyio.sleep(1)
        assert body_is_over
        found.extend(await texts_of(rt.astream(agent, "x")))

    body_is_over = []
    async with rt.Session() as session:
        session.start_soon(child)
        session.start_soon(child)
        body_is_over.append(True)
    assert sorted(found) == ["", "", "first", "second"]
    assert {record.status for record in session.info.records} == {Status.COMPLETED}


async def test_a_child_that_keeps_its_stream_does_not_hold_the_session():
    kept = []

    async def child():
        await anyio.sleep(1)
        stream = rt.astream(rt.agent_node(llm=ScriptedModel(["one two"])), "x")
        kept.append(stream)
        return (await anext(stream)).text

    async with rt.Session() as session:
        session.start_soon(child)
    assert [record.status for record in session.info.records] == [
        Status.COMPLETED, Status.CANCELLED, Status.CANCELLED,
    ]  # fmt: skip


@pytest.mark.parametrize("after_body", [False, True])
async def test_a_stream_in_a_callback_is_refused(after_body):
    told = []

    async def callback(_):
        try:
            await texts_of(rt.astream(scripted("never"), "x"))
        except SessionError as exc:
            told.append(str(exc))

    async def node():
        await anyio.sleep(1)
        await rt.broadcast("now")

    async with rt.Session(broadcast_callback=callback) as session:
        if after_body:
            session.start_soon(node)
        else:
            await rt.call(node)
    (text,) = told
    assert "in a subscriber's callback" in text
    assert "stream in a node" in text
    assert [record.name for record in session.info.records] == ["node"]


async def test_a_node_that_a_callback_calls_may_stream():
    found = []

    async def node():
        found.extend(await texts_of(rt.astream(scripted("said"), "x")))

    async def callback(_):
        await rt.call(node)

    async with rt.Session(broadcast_callback=callback):
        await rt.broadcast("now")
    assert found == ["said", ""]


async def test_a_task_that_the_body_made_may_not_stream_after_it():
    told = []

    async def late():
        await anyio.sleep(1)
        try:
            await texts_of(rt.astream(scripted("never"), "x"))
        except SessionError as exc:
            told.append(str(exc))

    async def slow():
        await anyio.sleep(2)

    async with anyio.create_task_group() as group:
        async with rt.Session() as session:
            session.start_soon(slow)
            group.start_soon(late)
        assert [record.name for record in session.info.records] == ["slow"]
        (text,) = told  # the session ended after that
    assert "after the session's body had ended" in text
