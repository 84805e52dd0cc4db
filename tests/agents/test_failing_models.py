"""Models that raise, or that return or yield something else than a completion."""

from __future__ import annotations

import inspect

import pytest

import railtracks as rt
from railtracks.exceptions import LLMError
from railtracks.llm import AssistantMessage, Completion
from railtracks.testing import ScriptedModel, ScriptError, tool_call
from tests.agents.helpers import agent_of, forecast, scripted, texts_of

# ---- models that raise, or return something else


async def test_the_error_of_a_model_reaches_the_caller_unchanged():
    """It is the same object."""
    error = ConnectionError("lost")
    agent, _ = agent_of(error)
    async with rt.Session() as session:
        with pytest.raises(ConnectionError) as caught:
            await rt.call(agent, "Go.")
    assert caught.value is error
    assert [record.exception for record in session.info.records] == [error, error]


async def test_an_error_of_the_model_can_be_caught_by_the_caller():
    agent, _ = agent_of(ConnectionError("lost"), "Now.")

    async def retrying():
        try:
            return await rt.call(agent, "Go.")
        except ConnectionError:
            return await rt.call(agent, "Again.")

    assert str(await rt.call(retrying)) == "Now."


class Rubbish(ScriptedModel):
    def __init__(self, rubbish):
        super().__init__([])
        self.rubbish = rubbish

    async def complete(self, messages, **_):
        return self.rubbish

    async def stream(self, messages, **_):
        yield "a"
        if self.rubbish is not None:
            yield self.rubbish


@pytest.mark.parametrize("rubbish", [None, "text", 7, AssistantMessage("a"), {"role": "assistant"}])
async def test_a_model_that_returns_no_completion_is_an_error(rubbish):
    """The error says what ``complete()`` must return."""
    agent = rt.agent_node("Poor", llm=Rubbish(rubbish))
    with pytest.raises(LLMError, match=r"the model scripted of the agent Poor returned .*complete\(\) must return an"):
        await rt.call(agent, "Go.")


async def test_a_completion_without_a_message_is_an_error():
    agent, _ = agent_of(Completion("Hello."))  # type: ignore[arg-type]
    with pytest.raises(LLMError, match="Hello"):
        await rt.call(agent, "Go.")


async def test_a_script_that_is_too_short_says_so():
    agent, _ = agent_of(tool_call("forecast", city="a"), tool_nodes=[forecast])
    with pytest.raises(ScriptError, match="got request 2, but its script has 1 answer:"):
        await rt.call(agent, "Go.")


# ---- models whose stream is wrong


class Coroutine(ScriptedModel):
    """Its ``stream`` is a coroutine function; here one that keeps what it made."""

    def stream(self, messages, **options):
        self.made = self.complete(messages, **options)
        return self.made


class PlainIterator(ScriptedModel):
    def stream(self, messages, **options):
        yield "one"


class Yields(ScriptedModel):
    def __init__(self, *pieces):
        super().__init__([], name="odd")
        self.pieces = pieces

    async def stream(self, messages, **options):
        for piece in self.pieces:
            yield piece


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (PlainIterator([], name="odd"), "must be an async generator; write `async def` and `yield`"),
        (Yields(5), r"returned 5; .* stream\(\) must yield one at its end"),
        (Yields("one", b"two"), r"returned b'two'; .* stream\(\) must yield one at its end"),
        (Yields(None), r"returned None; .* stream\(\) must yield one at its end"),
        (Yields(), r"stream\(\) must yield one at its end"),
        (Yields("one"), r"returned 'one'; .* stream\(\) must yield one at its end"),
        (Yields(Completion(AssistantMessage(b"bytes"))), r"stream\(\) must yield one at its end"),  # type: ignore[arg-type]
        (Yields(Completion(AssistantMessage("x"), usage=7)), r"stream\(\) must yield one at its end"),  # type: ignore[arg-type]
    ],
    ids=["plain", "number", "bytes", "None", "nothing", "text", "content", "usage"],
)
async def test_a_wrong_stream_is_an_error_that_names_the_model(model, told):
    agent = rt.agent_node("Poor", llm=model)
    async with rt.Session():
        with pytest.raises(LLMError, match=f"model odd.*{told}"):
            await texts_of(rt.astream(agent, "x"))
        assert await texts_of(rt.astream(scripted("on"), "x")) == ["on", ""]


async def test_a_coroutine_function_as_stream_is_an_error():
    """The error names the model and says what to write."""
    model = Coroutine(["x"], name="odd")
    async with rt.Session():
        with pytest.raises(LLMError, match="model odd must be an async generator; write `async def` and `yield`"):
            await texts_of(rt.astream(rt.agent_node(llm=model), "x"))
    model.made.close()


async def test_a_coroutine_that_should_have_been_a_stream_is_closed():
    """Python warns of one that nobody awaited, when it is collected."""
    model = Coroutine(["x"], name="odd")
    try:
        with pytest.raises(LLMError):
            async with rt.Session():
                await texts_of(rt.astream(rt.agent_node(llm=model), "x"))
        assert inspect.getcoroutinestate(model.made) == inspect.CORO_CLOSED
    finally:
        model.made.close()


async def test_a_stream_without_a_completion_at_its_end_is_an_error():
    """The chunks before the error are still delivered."""

    class Poor(ScriptedModel):
        async def stream(self, messages, **_):
            yield "a"

    agent = rt.agent_node("Poor", llm=Poor([]))
    texts = []
    async with rt.Session():
        with pytest.raises(LLMError, match=r"the agent Poor returned 'a'; .*stream\(\) must yield one at its end"):
            async for chunk in rt.astream(agent, "x"):
                texts.append(chunk.text)
    assert texts == ["a"]
