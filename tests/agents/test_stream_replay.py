"""Streams in a resumed run: what was recorded comes again, without asking the model."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import railtracks as rt
from railtracks.agents._histories import message_histories
from railtracks.state import MemoryStore
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import Left, scripted


def heard(chunks, session):
    """What was said, and by whom, as the records of this session know them."""
    nodes = session.info.node_forest.heap()
    for chunk in chunks[:-1]:
        assert nodes[chunk.node_id].name == chunk.agent
    return [(chunk.text, chunk.agent) for chunk in chunks[:-1] if chunk.kind == "text"]


def numbers(chunks):
    """The calls that said it, in order, without their names."""
    said = [chunk for chunk in chunks[:-1] if chunk.kind == "text"]
    ids = list(dict.fromkeys(chunk.node_id for chunk in said))
    return [ids.index(chunk.node_id) for chunk in said]


def without_ids(chunks):
    return [attrs.evolve(chunk, node_id=None) for chunk in chunks]


async def streamed(node, *args, store, again):
    """The chunks of a node that streams; with ``again`` in a new run that uses what is on record."""

    @rt.function_node(memo=False)
    async def tell():
        return [chunk async for chunk in rt.astream(node, *args)]

    given: dict[str, Any] = {"resume": "run", "run_identifier": "run2"} if again else {"run_identifier": "run"}
    async with rt.Session(store=store, **given) as session:
        return await rt.call(tell), session


@rt.function_node
async def nothing() -> str:
    return "nothing"


def team():
    """Says several things, by two agents, one of which runs twice."""
    inner = scripted(["a", tool_call("nothing")], "b", "c", name="inner", tool_nodes=[nothing])
    calls = ["x", tool_call("inner", request="1")], ["y", tool_call("inner", request="2")]
    return scripted(*calls, "z", name="outer", tool_nodes=[inner])


SAID = [("x", "outer"), ("a", "inner"), ("b", "inner"), ("y", "outer"), ("c", "inner"), ("z", "outer")]


async def test_an_agent_that_had_completed_is_heard_again():
    store = MemoryStore()
    first, session = await streamed(team(), "x", store=store, again=False)
    assert heard(first, session) == SAID
    second, session = await streamed(team(), "x", store=store, again=True)
    assert [each.reused for each in session.info.resumed] == [False, True]
    assert heard(second, session) == SAID
    assert numbers(second) == numbers(first) == [0, 1, 1, 0, 2, 0]
    assert without_ids(second) == without_ids(first)
    assert {chunk.node_id for chunk in second[:-1]} & {chunk.node_id for chunk in first[:-1]} == set()


agents_below = [team(), team()]


@rt.function_node
async def plain() -> list[str]:
    return [str(await rt.call(agent, "x")) for agent in agents_below]


async def test_agents_below_a_node_that_had_completed_are_heard_again():
    store = MemoryStore()
    agents_below[:] = [team(), team()]
    first, session = await streamed(plain, store=store, again=False)
    assert heard(first, session) == [*SAID, *SAID]
    agents_below.clear()
    second, session = await streamed(plain, store=store, again=True)
    assert heard(second, session) == [*SAID, *SAID]
    assert numbers(second) == numbers(first)
    assert second[-1].response == first[-1].response == ["z", "z"]


async def test_agents_that_ran_at_once_are_heard_again():
    """They ran below a node that had completed."""

    @rt.function_node
    async def both() -> list[str]:
        return [str(each) for each in await rt.call_batch(agents.pop(), ["p", "q"], return_exceptions=False)]

    agents = [rt.agent_node("echo", llm=ScriptedModel(lambda messages: f"{messages[-1].content} said", words=False))]
    store = MemoryStore()
    first, _ = await streamed(both, store=store, again=False)
    second, session = await streamed(both, store=store, again=True)
    assert sorted(heard(second, session)) == [("p said", "echo"), ("q said", "echo")]
    assert numbers(second) == numbers(first) == [0, 1]


async def test_an_agent_that_failed_is_heard_again_as_far_as_it_came():
    def made(last):
        inner = scripted("a", name="inner")
        return scripted(["x", tool_call("inner", request="1")], last, name="outer", tool_nodes=[inner])

    store = MemoryStore()
    with pytest.raises(ConnectionError):
        await streamed(made(ConnectionError()), "x", store=store, again=False)
    # One answer fewer: the script begins where the record ends.
    outer = scripted("y", name="outer", tool_nodes=[scripted(name="inner")])
    second, session = await streamed(outer, "x", store=store, again=True)
    assert heard(second, session) == [("x", "outer"), ("a", "inner"), ("y", "outer")]


async def test_a_reader_may_leave_during_a_replay():
    """Leaving while recorded chunks are repeated is a plain cancellation, and the agent counts as reused."""
    agent = rt.agent_node("Speaker", llm=ScriptedModel(["one two", "three"]))
    left = []

    @rt.function_node(memo=False)
    async def listen() -> str:
        async with rt.astream(agent, "x") as stream:
            async for chunk in stream:
                if not left:
                    continue
                return chunk.text
        left.append(1)
        raise ConnectionError("lost")

    flow = rt.Flow("Listening", listen, run_identifier="run")
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    connection = flow.connect()
    assert await connection.aresume("run") == "one two"
    reused, ran = connection.session.info.resumed[1], connection.session.info.resumed[0]
    assert (ran.name, reused.name, reused.reused) == ("listen", "Speaker", True)


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


# ---- tools that are named like a request


class Friend(rt.nodes.Node[str]):
    """Chat with a friend."""

    @classmethod
    def name(cls):
        return "chat with friend"

    async def invoke(self) -> str:
        return "Well."


class FriendWithWords(Friend):
    def __init__(self, words: str) -> None:
        self.words = words


class FriendAfter(Friend):
    def __init__(self, after: str) -> None:
        self.after = after


class FriendWithWordsAfter(Friend):
    def __init__(self, words: str, /, *, after: str) -> None:
        self.words, self.after = words, after


@pytest.mark.parametrize(
    ("friend", "arguments"),
    [
        (Friend, {}),
        (FriendWithWords, {"words": "x"}),
        pytest.param(FriendAfter, {"after": "x"}),
        pytest.param(FriendWithWordsAfter, {"words": "x", "after": "y"}),
    ],
)
@pytest.mark.parametrize("end", ["fails", "is heard again"])
async def test_a_tool_named_like_a_request_is_not_one(friend, arguments, end):
    """Neither in the conversation of an agent that failed, nor among what is said again."""
    store = MemoryStore()
    answers = ["x", tool_call("chat_with_friend", **arguments)], ConnectionError() if end == "fails" else "y"

    def agent():
        return scripted(*answers, tool_nodes=[friend])

    if end == "fails":
        async with rt.Session() as session:
            with pytest.raises(ConnectionError):
                await rt.call(agent(), "Hello.")
        record = session.info.records[2]
        assert (record.name, record.node_type, record.parent) == ("chat with friend", "Other", 0)
        (history,) = message_histories(session.info).values()
        assert [message.content for message in history] == ["Hello.", "x", "Well."]
    else:
        await streamed(agent(), "Hello.", store=store, again=False)
        again, _ = await streamed(agent(), "Hello.", store=store, again=True)
        assert [chunk.text or chunk.kind for chunk in again] == ["x", "tool_call", "tool_result", "y", "final"]
