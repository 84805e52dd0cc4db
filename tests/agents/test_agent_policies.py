"""Policies of agents: timeout, retries and cache, also of agents whose text is streamed."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, NodeTimeOutError
from railtracks.llm import AssistantMessage, Completion
from railtracks.state import Status
from railtracks.testing import ScriptedModel
from tests.agents.helpers import agent_of, records, scripted

AGAIN = rt.Retry(attempts=3, wait_initial=1, wait_jitter=0)


class Failing(ScriptedModel):
    """Fails the first requests: before any text, or after a part of it."""

    def __init__(self, failures, after=None):
        super().__init__(["Hello dear world"] * 5, words=True)
        self.failures, self.after = failures, after

    async def complete(self, messages, **options):
        if self.failures:
            self.failures -= 1
            raise OSError("no route")
        return await super().complete(messages, **options)

    async def stream(self, messages, **options):
        if self.failures:
            self.failures -= 1
            if self.after is not None:
                yield self.after
            raise OSError("no route")
        async with aclosing(super().stream(messages, **options)) as pieces:
            async for piece in pieces:
                yield piece


async def test_an_agent_is_tried_again():
    agent = rt.agent_node("Agent", llm=Failing(2), retries=AGAIN)
    async with rt.Session() as session:
        assert (await rt.call(agent, "Hi")).content == "Hello dear world"
    assert [record.status for record in records(session, "Agent")] == [Status.FAILED] * 2 + [Status.COMPLETED]
    assert session.info.answer.content == "Hello dear world"


async def test_options_change_the_policies_of_an_agent():
    agent = rt.agent_node("Agent", llm=Failing(2), retries=AGAIN)
    async with rt.Session():
        with pytest.raises(OSError, match="no route"):
            await rt.call(agent.options(retries=0), "Hi")


async def test_an_agent_has_a_timeout():
    class Slow(ScriptedModel):
        async def complete(self, messages, **options):
            await anyio.sleep(10)
            return await super().complete(messages, **options)

    agent = rt.agent_node("Agent", llm=Slow(["late"]), timeout=5)
    async with rt.Session():
        with pytest.raises(NodeTimeOutError):
            await rt.call(agent, "Hi")


async def test_an_agent_is_cached():
    agent, model = agent_of("Hello", "again", cache=True)
    async with rt.Session():
        first, second = await rt.call(agent, "Hi"), await rt.call(agent, "Hi")
        other = await rt.call(agent, "Another")
    assert (first.content, second.content, other.content) == ("Hello", "Hello", "again")
    assert second.message_history == first.message_history
    assert len(model.calls) == 2


async def test_agents_are_cached_in_the_store():
    answers = []
    for _ in range(2):
        agent, _ = agent_of("first" if not answers else "second", cache=rt.Cache(scope="store"), key="stored")
        async with rt.Session():
            answers.append((await rt.call(agent, "Hi")).content)
    assert answers == ["first", "first"]


def test_policies_are_no_part_of_the_version():
    def agent(**policies):
        return rt.agent_node("Agent", llm=ScriptedModel(["x"]), **policies)

    plain = agent().version()
    assert agent(timeout=5, retries=3, limit=2, cache=True).version() == plain


def test_policies_of_agents_are_checked_at_once():
    with pytest.raises(ConfigError, match=r"rt\.agent_node: -1 is not allowed for retries"):
        rt.agent_node("Agent", llm=ScriptedModel(["x"]), retries=-1)


async def test_an_agent_with_policies_is_a_tool():
    tool = rt.agent_node("Helper", llm=Failing(1), retries=AGAIN)
    calls = Completion(AssistantMessage("", [rt.llm.ToolCall("1", "Helper", {"request": "Hi"})]))
    agent = scripted(calls, "done", tool_nodes=[tool.options(timeout=5)])
    async with rt.Session() as session:
        assert (await rt.call(agent, "Go")).content == "done"
    assert len(records(session, "Helper")) == 2


# ---- streamed


async def test_a_stream_is_tried_again_before_its_first_chunk():
    agent = rt.agent_node("Agent", llm=Failing(2), retries=AGAIN)
    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(agent, "Hi")]
    assert "".join(chunk.text for chunk in chunks) == chunks[-1].response.content == "Hello dear world"


async def test_a_stream_is_not_tried_again_after_a_chunk():
    agent = rt.agent_node("Agent", llm=Failing(1, after="One"), retries=AGAIN)
    texts = []
    async with rt.Session() as session:
        with pytest.raises(OSError, match="no route") as raised:
            async for chunk in rt.astream(agent, "Hi"):
                texts.append(chunk.text)
    assert texts == ["One"]
    assert "had reached the consumer" in raised.value.__notes__[0]
    assert len(records(session, "Agent")) == 1


async def test_what_is_above_a_streamed_agent_is_not_tried_again():
    agent = rt.agent_node("Agent", llm=Failing(1, after="One"))

    @rt.function_node(retries=AGAIN)
    async def outer(is_nested: bool) -> str:
        if is_nested:
            async with rt.Session():
                return str(await rt.call(agent, "Hi"))
        return str(await rt.call(agent, "Hi"))

    for is_nested in (False, True):
        agent = rt.agent_node("Agent", llm=Failing(1, after="One"))
        async with rt.Session() as session:
            with pytest.raises(OSError, match="no route"):
                [chunk async for chunk in rt.astream(outer, is_nested)]
        assert len(records(session, "outer")) == 1


async def test_tools_of_a_streamed_agent_are_tried_again():
    tries = []

    @rt.function_node(retries=AGAIN)
    async def flaky() -> str:
        """Try."""
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no route")
        return "ok"

    calls = Completion(AssistantMessage("Let me see. ", [rt.llm.ToolCall("1", "flaky", {})]))
    agent = scripted(calls, "done", tool_nodes=[flaky], words=True)
    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(agent, "Go")]
    assert chunks[-1].response.content == "done"
    assert len(tries) == 3


async def test_a_cached_agent_gives_its_text_to_a_stream():
    agent = scripted("Hello dear world", cache=True, words=True)
    async with rt.Session():
        for _ in range(2):
            chunks = [chunk async for chunk in rt.astream(agent, "Hi")]
            assert "".join(chunk.text for chunk in chunks) == "Hello dear world"
            assert chunks[-1].response.content == "Hello dear world"
            assert {chunk.agent for chunk in chunks} == {"Agent"}
