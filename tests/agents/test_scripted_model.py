"""Models for tests: answers with finish reasons, usage, reasoning, delays, truncations and errors."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import Filtered, NodeTimeOutError, Refused, Truncated
from railtracks.llm import Completion, Reasoning, ToolCall, Usage, UserMessage
from railtracks.testing import ScriptedModel, ScriptError, answer, check, simulate, tool_call

ASKED = [UserMessage("How are you?")]


async def pieces_of(model):
    async with contextlib.aclosing(model.stream(ASKED)) as stream:
        return [piece async for piece in stream]


async def both(given):
    """Return the completion of an answer that comes whole, which is the last piece of its stream."""
    whole = await ScriptedModel([given]).complete(ASKED)
    *pieces, completion = await pieces_of(ScriptedModel([given]))
    assert completion == whole
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole.message.content
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
    assert thoughts == whole.message.reasoning
    return whole


async def test_an_answer_has_what_is_said_of_it():
    found = await both(answer("I am well.", finish_reason="end_turn", usage=Usage(7, 9), reasoning="Say so."))
    assert found.message.content == "I am well."
    assert found.message.reasoning == "Say so."
    assert (found.finish_reason, found.usage) == ("end_turn", Usage(7, 9))


async def test_the_defaults_are_those_of_a_plain_text():
    plain = await ScriptedModel(["I am well."]).complete(ASKED)
    assert await both(answer("I am well.")) == plain
    assert (await both(answer(tool_call("add", a=1)))).finish_reason == "tool_calls"
    assert (await both(answer("Well.", usage=None))).usage is None


async def test_reasoning_streams_before_the_text():
    model = ScriptedModel([answer("I am well.", reasoning="Say so.")])
    assert (await pieces_of(model))[:-1] == [Reasoning("Say"), Reasoning(" so."), "I", " am", " well."]
    model = ScriptedModel([answer("I am well.", reasoning="Say so.")], words=False)
    assert (await pieces_of(model))[:-1] == [Reasoning("Say so."), "I am well."]


@pytest.mark.parametrize(
    ("most", "reasoning", "text", "calls", "reason"),
    [
        (0, "", "", [], "length"),
        (1, "Say", "", [], "length"),
        (4, "Say so.", "I am", [], "length"),
        (5, "Say so.", "I am well.", [], "length"),
        (6, "Say so.", "I am well.", ['{"a": '], "length"),
        (8, "Say so.", "I am well.", [{"a": "b c"}, "{"], "length"),
        (9, "Say so.", "I am well.", [{"a": "b c"}, {}], "tool_calls"),
    ],
)
async def test_an_answer_is_cut_after_a_number_of_words(most, reasoning, text, calls, reason):
    parts: list[Any] = ["I am well.", tool_call("add", a="b c"), tool_call("now")]
    found = await both(answer(*parts, reasoning="Say so.", max_tokens=most))
    assert (found.message.reasoning, found.message.content) == (reasoning, text)
    assert [call.arguments for call in found.message.tool_calls] == calls
    assert found.finish_reason == reason
    assert found.usage == Usage(3, most if reason == "length" else 5)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer("Once upon a time", max_tokens=2), Truncated),
        (answer("Once", finish_reason="content_filter"), Filtered),
        (answer("No.", finish_reason="refusal"), Refused),
    ],
)
async def test_an_agent_takes_the_endings_as_a_providers(given, kind):
    agent = rt.agent_node("Teller", llm=ScriptedModel([given]))
    with pytest.raises(kind):
        await rt.call(agent, "A story!")


async def test_pieces_come_when_they_are_due():
    model = ScriptedModel([answer("one two three", delay=10, pause=2.5)] * 2)
    start, times = anyio.current_time(), []
    async with contextlib.aclosing(model.stream(ASKED)) as stream:
        async for piece in stream:
            times.append((piece if isinstance(piece, str) else "end", anyio.current_time() - start))
    assert times == [("one", 10.0), (" two", 12.5), (" three", 15.0), ("end", 15.0)]
    await model.complete(ASKED)
    assert anyio.current_time() - start == 30.0


def test_an_agent_whose_model_is_slow_times_out(backend):
    agent = rt.agent_node("Slow", llm=ScriptedModel(lambda _: answer("late", delay=3600)), timeout=60)
    outcome = simulate(agent, "Now!", backend=backend, timeout=7200)
    check(outcome)
    assert isinstance(outcome.exception, NodeTimeOutError)
    assert outcome.duration == 60


async def test_an_error_comes_after_the_pieces():
    error = ConnectionError("lost")
    model = ScriptedModel([answer("one two", error=error, delay=1)] * 2)
    start, pieces = anyio.current_time(), []
    with pytest.raises(ConnectionError) as caught:
        async with contextlib.aclosing(model.stream(ASKED)) as stream:
            async for piece in stream:
                pieces.append(piece)
    assert (caught.value, pieces) == (error, ["one", " two"])
    with pytest.raises(ConnectionError):
        await model.complete(ASKED)
    assert anyio.current_time() - start == 2


async def test_a_function_may_return_an_answer():
    model = ScriptedModel(lambda messages: answer(messages[-1].content, finish_reason="end_turn"))
    assert (await model.complete(ASKED)).finish_reason == "end_turn"


def test_the_repr_of_an_answer_is_the_code_that_makes_it():
    given = answer("a", ToolCall("", "add", {"a": 1}), usage=None, max_tokens=1, delay=2.0, finish_reason="x")
    assert repr(given) == (
        "answer('a', ToolCall(id='', name='add', arguments={'a': 1}), finish_reason='x', usage=None, max_tokens=1, "
        "delay=2.0)"
    )
    assert eval(repr(given)) == given


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"delay": -1}, "delay is -1; use seconds, 0 or more"),
        ({"pause": "1"}, "pause is '1'; use seconds"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5; use a whole number"),
        ({"usage": (3, 4)}, r"usage is \(3, 4\); use rt.llm.Usage"),
        ({"error": "lost"}, "error is 'lost'; use an exception"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments, text):
    with pytest.raises(ScriptError, match=text):
        answer("text", **arguments)
    with pytest.raises(ScriptError, match="7 is not a part of an answer"):
        answer("text", 7)  # type: ignore[arg-type]


async def test_a_completion_with_reasoning_streams_it():
    given = Completion((await both(answer("Well.", reasoning="Say so."))).message)
    assert (await pieces_of(ScriptedModel([given])))[:-1] == [Reasoning("Say"), Reasoning(" so."), "Well."]
