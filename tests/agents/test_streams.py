"""``rt.astream``: what an agent says while it says it, and what becomes of it when nobody listens any more."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from contextlib import aclosing

import anyio
import anyio.to_thread
import pytest
import trio

import railtracks as rt
from railtracks.exceptions import (
    ContextError,
    GlobalTimeOutError,
    LLMError,
    NodeCreationError,
    SessionEndedError,
    SessionError,
)
from railtracks.llm import UserMessage
from railtracks.state import Reason, Status
from railtracks.testing import ScriptedModel, tool_call
from tests import virtual

WORDS = "one two three four five"
PIECES = ["one", " two", " three", " four", " five"]


class Speaker(ScriptedModel):
    """A model that counts how many pieces were asked of it, and notes that it was closed.

    Args:
        between: Awaited before each piece but the first.
        fail: Raised after the pieces.
    """

    def __init__(self, pieces=PIECES, *, between=anyio.lowlevel.checkpoint, fail=None, name="speaker"):
        super().__init__(lambda _: "".join(pieces), name=name)
        self.pieces, self.between, self.fail = pieces, between, fail
        self.asked = 0
        self.closed = 0

    async def stream(self, messages, **options):
        completion = await self.complete(messages, **options)
        try:
            for number, piece in enumerate(self.pieces):
                if number:
                    await self.between()
                self.asked += 1
                yield piece
            if self.fail is not None:
                raise self.fail
            yield completion
        finally:
            self.closed += 1


def speaking(pieces=PIECES, *, name="Speaker", system_message=None, tool_nodes=(), **options):
    model = Speaker(pieces, **options)
    return rt.agent_node(name, llm=model, system_message=system_message, tool_nodes=tool_nodes), model


def scripted(*answers, name="Agent", **options):
    return rt.agent_node(name, llm=ScriptedModel(answers), **options)


async def forever():
    await anyio.sleep_forever()


def ends(session):
    return {record.name: (record.status, record.reason) for record in session.info.records}


CANCELLED = {
    "Speaker": (Status.CANCELLED, Reason.OUTSIDE),
    "chat speaker": (Status.CANCELLED, Reason.OUTSIDE),
}


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
    assert session.info.node_forest.heap()[agents_id].name == "Speaker"
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

    agent = scripted(["Let me see.", tool_call("tool")], "It is so.", tool_nodes=[tool])
    async with rt.Session() as session:
        chunks = [chunk async for chunk in rt.astream(agent, "Go.")]
    assert [chunk.text for chunk in chunks] == ["Let", " me", " see.", "It", " is", " so.", ""]
    assert [record.name for record in session.info.records] == ["Agent", "chat scripted", "tool", "chat scripted"]


async def test_repairs_are_streamed_too_and_the_object_comes_last():
    async with rt.Session():
        agent = scripted("two", '{"value":2}', output_schema=int)
        chunks = [chunk async for chunk in rt.astream(agent, "Go.")]
    assert [chunk.text for chunk in chunks] == ["two", '{"value":2}', ""]
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
    assert [(chunk.text, chunk.agent) for chunk in chunks] == [
        ("x", "outer"), ("a", "inner"), ("b", "inner"), ("y", "outer"), ("", "outer"),
    ]  # fmt: skip
    assert [nodes[chunk.node_id].name for chunk in chunks[:-1]] == ["outer", "inner", "inner", "outer"]


async def test_chunks_of_agents_that_run_at_once_can_be_told_apart():
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
    assert [chunk.text for chunk in chunks[:3]] == ["a", "a", "a"]
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


# ---- where it runs


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


async def test_what_is_no_node_is_refused_at_once():
    with pytest.raises(NodeCreationError, match=r"rt\.astream"):
        rt.astream(7)


async def test_a_stream_that_is_made_and_never_asked_makes_no_call():
    async with rt.Session() as session:
        stream = rt.astream(speaking()[0], "x")
        del stream
        kept = rt.astream(speaking()[0], "x")
    assert session.info.records == ()
    with pytest.raises(ContextError):
        await anext(kept)


async def test_a_stream_that_is_asked_again_after_its_end_stays_at_its_end():
    async with rt.Session():
        stream = rt.astream(speaking(["a"])[0], "x")
        assert [chunk.text async for chunk in stream] == ["a", ""]
        assert [chunk.text async for chunk in stream] == []
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


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


# ---- leaving


class Left(Exception):
    pass


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


async def test_leaving_the_loop_of_the_body_by_an_exception_cancels_the_model():
    agent, model = speaking()
    with pytest.raises(Left):
        async with rt.Session() as session:
            async for _ in rt.astream(agent, "x"):
                raise Left
    assert model.closed == 1
    assert ends(session) == CANCELLED


@pytest.mark.parametrize("where", ["body", "node"])
@pytest.mark.parametrize("waiting", ["for a chunk", "in the loop"])
async def test_a_cancellation_in_the_loop_cancels_the_model_and_is_passed_on(where, waiting):
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


async def test_an_agent_whose_stream_is_left_while_it_waits_to_be_heard_goes_on_unheard():
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


# ---- streams that are kept


async def test_a_stream_that_is_kept_while_the_body_ends_does_not_hang():
    agent, model = speaking()
    async with rt.Session() as session:
        stream = rt.astream(agent, "x")
        assert (await anext(stream)).text == "one"
    assert model.closed == 1
    assert ends(session) == CANCELLED
    with pytest.raises(SessionEndedError):
        await anext(stream)


async def test_a_stream_that_is_kept_while_the_body_raises_does_not_hang():
    agent, model = speaking()
    with pytest.raises(Left):
        async with rt.Session() as session:
            stream = rt.astream(agent, "x")
            await anext(stream)
            raise Left
    assert model.closed == 1
    assert ends(session) == CANCELLED
    await stream.aclose()


async def test_a_stream_that_is_kept_while_the_call_that_opened_it_ends_does_not_hang():
    agent, model = speaking()
    kept = []

    async def node():
        kept.append(rt.astream(agent, "x"))
        return (await anext(kept[0])).text

    async with rt.Session() as session:
        assert await rt.call(node) == "one"
        assert model.closed == 1
        assert ends(session) == {**CANCELLED, "node": (Status.COMPLETED, None)}


async def test_a_stream_that_is_kept_by_a_caught_error_of_a_nested_call_does_not_hang():
    """The traceback of the error keeps the stream, and the caller keeps the error."""
    agent, model = speaking()

    async def opener():
        stream = rt.astream(agent, "x")
        await anext(stream)
        raise Left(stream)

    async def node():
        try:
            await rt.call(opener)
        except Left as exc:
            return exc
        return None

    async with rt.Session() as session:
        assert type(await rt.call(node)) is Left
        assert model.closed == 1
        assert ends(session) == {**CANCELLED, "opener": (Status.FAILED, None), "node": (Status.COMPLETED, None)}


async def test_a_stream_that_a_top_level_call_opened_and_failed_with_does_not_hang():
    agent, model = speaking()

    async def opener():
        stream = rt.astream(agent, "x")
        await anext(stream)
        raise Left(stream)

    async with rt.Session():
        with pytest.raises(Left) as caught:
            await rt.call(opener)
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
    assert caught.value.args


async def test_a_stream_may_be_handed_on_to_the_caller_while_both_run():
    """Opened by a nested call and read after its end: it ends no later than its run."""
    agent, model = speaking()

    async def opener():
        stream = rt.astream(agent, "x")
        return stream, (await anext(stream)).text

    async def node():
        stream, first = await rt.call(opener)
        return [first] + [chunk.text async for chunk in stream]

    async with rt.Session(timeout=5):
        found = await rt.call(node)
    assert found == [*PIECES, ""]
    assert model.closed == 1


async def test_a_call_that_outlasts_its_caller_hears_its_stream_to_the_end():
    agent, _ = speaking(between=lambda: anyio.sleep(1))
    texts = []

    async def reader():
        texts.extend([chunk.text async for chunk in rt.astream(agent, "x")])

    async def node(group):
        group.start_soon(rt.call, reader)
        await anyio.sleep(1.5)

    async with rt.Session(), anyio.create_task_group() as group:
        await rt.call(node, group)
    assert texts == [*PIECES, ""]


async def test_a_dropped_stream_is_cancelled_whichever_thread_collects_it():
    agent, model = speaking()
    async with rt.Session() as session:
        holder = [rt.astream(agent, "x")]
        await anext(holder[0])
        thread = threading.Thread(target=lambda: (holder.clear(), gc.collect()))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        assert ends(session) == CANCELLED


async def test_a_stream_in_a_cycle_is_cancelled_when_it_is_collected():
    agent, model = speaking()
    async with rt.Session() as session:
        cycle = [rt.astream(agent, "x")]
        cycle.append(cycle)
        await anext(cycle[0])
        del cycle
        gc.collect()
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        assert ends(session) == CANCELLED


async def test_a_stream_that_is_dropped_after_its_event_loop_has_gone_is_silent(backend, recwarn):
    agent, _ = speaking()
    kept = []

    async def main():
        async with rt.Session():
            kept.append(rt.astream(agent, "x"))
            await anext(kept[0])

    thread = threading.Thread(target=lambda: anyio.run(main, backend=backend))
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    kept.clear()
    gc.collect()
    assert [warning for warning in recwarn if issubclass(warning.category, ResourceWarning | RuntimeWarning)] == []


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


# ---- errors


async def test_an_error_of_the_model_comes_after_the_chunks_before_it_as_the_same_object():
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


async def test_an_error_that_nobody_asks_for_any_more_harms_nothing():
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


async def test_a_model_whose_stream_has_no_completion_at_its_end_is_told():
    class Poor(ScriptedModel):
        async def stream(self, messages, **_):
            yield "a"

    agent = rt.agent_node("Poor", llm=Poor([]))
    texts = []
    async with rt.Session():
        with pytest.raises(LLMError, match=r"the agent Poor gave 'a'; .*stream\(\) must yield one at its end"):
            async for chunk in rt.astream(agent, "x"):
                texts.append(chunk.text)
    assert texts == ["a"]


async def test_wrong_arguments_are_told_with_the_first_chunk():
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


async def test_with_end_on_error_the_error_of_another_call_ends_the_stream():
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


async def test_with_end_on_error_the_error_of_the_model_is_raised_in_the_loop():
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
        texts = [chunk.text async for chunk in rt.astream(scripted(tool_call("tool"), "fine", tool_nodes=[tool]), "x")]
    assert texts == ["fine", ""]


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


# ---- nothing stays


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


# ---- resuming


async def test_a_resumed_flow_streams_what_it_has_on_record():
    answers = ["first one.", "second."]
    agent = rt.agent_node("Speaker", llm=ScriptedModel(answers))
    broken = [True]

    async def node():
        texts = [chunk.text async for chunk in rt.astream(agent, "x")]
        if broken:
            raise Left
        return texts

    flow = rt.Flow("F", entry_point=node, run_identifier="run")
    with pytest.raises(Left):
        await flow.ainvoke()
    broken.clear()
    assert await flow.aresume("run") == ["first one.", ""]


# ---- hand-overs


async def test_a_request_that_is_given_up_loses_no_chunk():
    agent, _ = speaking(between=lambda: anyio.sleep(1))
    texts = []
    async with rt.Session():
        stream = rt.astream(agent, "x")
        while texts[-1:] != [""]:
            with anyio.move_on_after(0.3):
                texts.append((await anext(stream)).text)
    assert texts == [*PIECES, ""]


async def test_a_stream_may_be_read_by_another_task_than_the_one_that_opened_it():
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


async def test_a_reader_outside_the_session_is_told_when_its_end_ended_the_stream():
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


async def test_a_reader_outside_the_session_is_told_when_the_session_was_cancelled():
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
