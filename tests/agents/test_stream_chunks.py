"""The chunks of ``rt.astream``: their order, whose they are, and when they come."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import SessionEndedError
from railtracks.llm import UserMessage
from railtracks.state import Status
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import PIECES, WORDS, ends, forever, scripted, speaking

# ---- what comes


async def test_chunks_come_in_order_and_the_response_at_last():
    agent, _ = speaking()
    async with rt.Session() as session:
        chunks = [chunk async for chunk in rt.astream(agent, "Count.")]
    assert [chunk.text for chunk in chunks] == [*PIECES, ""]
    assert [chunk.response for chunk in chunks[:-1]] == [None] * 5
    assert str(chunks[-1].response) == WORDS
    assert chunks[-1].response is session.info.answer
    assert chunks[-1].response.message_history[0] == UserMessage("Count.", inject_prompt=False)
    (agents_id,) = {chunk.node_id for chunk in chunks[:-1]}
    assert session.info.node_forest.heap()[agents_id].name == "Speaker"  # type: ignore[index]
    assert {chunk.agent for chunk in chunks} == {"Speaker"}
    assert chunks[-1].node_id is None
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 2


async def test_the_answer_is_the_same_as_that_of_a_call():
    agent, _ = speaking()
    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(agent, "Count.")]
        assert chunks[-1].response == await rt.call(agent, "Count.")


async def test_pieces_come_while_the_model_speaks_not_at_its_end():
    agent, model = speaking(between=lambda: anyio.sleep(1))
    times = []
    async with rt.Session():
        start = anyio.current_time()
        async for chunk in rt.astream(agent, "Count."):
            times.append((chunk.text, round(anyio.current_time() - start)))
    assert times == [("one", 0), (" two", 1), (" three", 2), (" four", 3), (" five", 4), ("", 4)]
    assert model.closed == 1


async def test_an_agent_that_says_nothing_streams_its_response_alone():
    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(scripted(""), "Count.")]
    assert [(chunk.text, str(chunk.response)) for chunk in chunks] == [("", "")]


async def test_what_is_said_before_and_after_tools_is_streamed():
    async def tool() -> str:
        return "result"

    agent = scripted(["Let me see.", tool_call("tool")], "It is so.", words=True, tool_nodes=[tool])
    async with rt.Session() as session:
        chunks = [chunk async for chunk in rt.astream(agent, "Go.")]
    remark, answer = (
        [("text", word) for word in ("Let", " me", " see.")],
        [("text", "It"), ("text", " is"), ("text", " so.")],
    )
    tool_chunks = [("tool_call", ""), ("tool_result", "")]
    assert [(chunk.kind, chunk.text) for chunk in chunks] == [*remark, *tool_chunks, *answer, ("final", "")]
    assert (chunks[3].tool_call.name, chunks[4].tool_result.content) == ("tool", "result")
    assert [record.name for record in session.info.records] == ["Agent", "chat scripted", "tool", "chat scripted"]


async def test_repairs_are_streamed_too_and_the_object_comes_last():
    async with rt.Session():
        agent = scripted("two", '{"value":2}', output_schema=int)
        chunks = [chunk async for chunk in rt.astream(agent, "Go.")]
    said = [(chunk.kind, chunk.text) for chunk in chunks]
    assert said == [
        ("text", "two"), ("rejected", ""), ("text", '{"value":2}'), ("partial", ""), ("final", ""),
    ]  # fmt: skip
    assert "must be JSON" in chunks[1].reason
    assert chunks[-1].response.content == 2


async def test_the_arguments_go_to_the_node():
    async def node(a, *, b):
        return a, b

    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(node, 1, b=2)]
    assert [chunk.response for chunk in chunks] == [(1, 2)]
    assert chunks[0].agent == "node"


async def test_prompts_are_filled_for_streams_too():
    agent = rt.agent_node(llm=ScriptedModel(lambda messages: messages[0].content))
    async with rt.Session({"who": "Ada"}):
        assert [chunk.text async for chunk in rt.astream(agent, "{who}")] == ["Ada", ""]


# ---- whose chunks they are


async def test_chunks_of_nested_agents_say_whose_they_are():
    inner, _ = speaking(["a", "b"], name="inner")
    agent = scripted(["x", tool_call("inner", request="?")], "y", name="outer", tool_nodes=[inner])
    async with rt.Session() as session:
        chunks = [chunk async for chunk in rt.astream(agent, "Go.")]
    nodes = session.info.node_forest.heap()
    assert [(chunk.text or chunk.kind, chunk.agent) for chunk in chunks] == [
        ("x", "outer"), ("tool_call", "outer"), ("a", "inner"), ("b", "inner"), ("tool_result", "outer"),
        ("y", "outer"), ("final", "outer"),
    ]  # fmt: skip
    assert all(nodes[chunk.node_id].name == chunk.agent for chunk in chunks[:-1])  # type: ignore[index]


async def test_chunks_of_agents_that_run_at_once_are_distinct():
    """Both speak at once: each gives its second piece only when the other has given its first."""
    inner, _ = speaking(["a", "b", "c"], name="inner", between=lambda: anyio.sleep(1))
    calls = [tool_call("inner", request=str(number)) for number in range(3)]
    agent = scripted(calls, "y", name="outer", tool_nodes=[inner])
    async with rt.Session() as session:
        chunks = [chunk async for chunk in rt.astream(agent, "Go.")]
    said = {}
    for chunk in chunks:
        if chunk.agent == "inner":
            said.setdefault(chunk.node_id, []).append(chunk.text)
    assert list(said.values()) == [["a", "b", "c"]] * 3
    assert [chunk.text for chunk in chunks[:6]] == ["", "", "", "a", "a", "a"]
    ids = {key for key, node in session.info.node_forest.heap().items() if node.name == "inner"}
    assert set(said) == ids


async def test_agents_below_a_node_are_heard():
    first, _ = speaking(["a"], name="first")
    second, _ = speaking(["b"], name="second")

    async def node():
        return [str(await rt.call(first, "x")), str(await rt.call(second, "x"))]

    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(node)]
    assert [(chunk.text, chunk.agent) for chunk in chunks] == [("a", "first"), ("b", "second"), ("", "node")]
    assert chunks[-1].response == ["a", "b"]


async def test_agents_below_a_sync_node_are_heard():
    agent, _ = speaking(["a", "b"])

    def node():
        return str(rt.call_sync(agent, "x"))

    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(node)]
    assert [chunk.text for chunk in chunks] == ["a", "b", ""]
    assert chunks[-1].response == "ab"


async def test_a_node_that_calls_no_agent_streams_its_result_alone():
    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(lambda: 7)]
    assert [(chunk.text, chunk.response) for chunk in chunks] == [("", 7)]


async def test_what_a_node_below_streams_itself_is_its_own():
    inner, _ = speaking(["a", "b"], name="inner")

    async def node():
        return [chunk.text async for chunk in rt.astream(inner, "x")]

    async with rt.Session() as session:
        chunks = [chunk async for chunk in rt.astream(node)]
    assert [(chunk.text, chunk.response) for chunk in chunks] == [("", ["a", "b", ""])]
    assert [record.parent for record in session.info.records] == [None, 0, 1]


async def test_two_streams_at_once_do_not_mix():
    one, _ = speaking(["a", "b", "c"], name="one")
    two, _ = speaking(["x", "y", "z"], name="two")
    async with rt.Session() as session:
        first, second = rt.astream(one, "?"), rt.astream(two, "?")
        found = [((await anext(first)).text, (await anext(second)).text) for _ in range(4)]
    assert found == [("a", "x"), ("b", "y"), ("c", "z"), ("", "")]
    assert {status for status, _ in ends(session).values()} == {Status.COMPLETED}


async def test_a_call_beside_a_stream_is_not_heard():
    one, _ = speaking(["a", "b"], name="one")
    two, model = speaking(["x"], name="two")
    async with rt.Session():
        stream = rt.astream(one, "?")
        assert (await anext(stream)).text == "a"
        assert str(await rt.call(two, "?")) == "x"
        assert [chunk.text async for chunk in stream] == ["b", ""]
    assert model.asked == 0  # of stream()


# ---- backpressure


async def test_the_model_does_not_run_ahead_of_who_listens():
    agent, model = speaking()
    async with rt.Session():
        stream = rt.astream(agent, "x")
        assert model.calls == []
        for taken in range(1, 6):
            await anext(stream)
            await anyio.wait_all_tasks_blocked()
            assert model.asked == min(taken + 1, 5)
        async for _ in stream:
            pass


async def test_a_listener_that_takes_its_time_gets_all():
    agent, _ = speaking()
    texts = []
    async with rt.Session():
        async for chunk in rt.astream(agent, "x"):
            await anyio.sleep(10)
            texts.append(chunk.text)
    assert texts == [*PIECES, ""]


# ---- several readers


async def test_a_request_that_is_given_up_loses_no_chunk():
    agent, _ = speaking(between=lambda: anyio.sleep(1))
    texts = []
    async with rt.Session():
        stream = rt.astream(agent, "x")
        while texts[-1:] != [""]:
            with anyio.move_on_after(0.3):
                texts.append((await anext(stream)).text)
    assert texts == [*PIECES, ""]


async def test_a_stream_may_be_read_by_another_task():
    """It was opened by a task that does not read it to its end."""
    agent, _ = speaking()
    texts = []

    async def read(stream):
        texts.extend([chunk.text async for chunk in stream])

    async with rt.Session():
        stream = rt.astream(agent, "x")
        texts.append((await anext(stream)).text)
        async with anyio.create_task_group() as group:
            group.start_soon(read, stream)
    assert texts == [*PIECES, ""]


async def test_a_reader_outside_gets_an_error_at_the_end_of_a_session():
    """The end of the session ended the stream, and the reader gets a SessionEndedError."""
    agent, model = speaking(between=forever)
    told = []

    async def read(stream):
        try:
            told.extend([chunk.text async for chunk in stream])
        except SessionEndedError as exc:
            told.append(exc)

    async with anyio.create_task_group() as group:
        async with rt.Session():
            stream = rt.astream(agent, "x")
            await anext(stream)
            group.start_soon(read, stream)
            await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
    assert [type(each) for each in told] == [SessionEndedError]


async def test_a_reader_outside_gets_an_error_of_a_cancelled_session():
    """The reader outside the session gets a SessionEndedError."""
    agent, model = speaking(between=forever)
    told, streams, opened = [], [], anyio.Event()

    async def read():
        await opened.wait()
        with pytest.raises(SessionEndedError) as caught:
            await anext(streams[0])
        told.append(caught.value)

    async def hold():
        with anyio.move_on_after(1):
            async with rt.Session():
                streams.append(rt.astream(agent, "x"))
                await anext(streams[0])
                opened.set()
                await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await hold()
    assert len(told) == 1
    assert model.closed == 1
