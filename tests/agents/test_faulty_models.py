"""Models whose providers fail, and what agents make of it."""

from __future__ import annotations

import contextlib
from typing import get_args

import anyio
import pytest
from hypothesis import given

import railtracks as rt
from railtracks.exceptions import ConfigError, Filtered, LLMError, Truncated
from railtracks.llm import Reasoning, UserMessage
from railtracks.testing import ScriptedModel, answer, check, conformance, faults, simulate, tool_call
from railtracks.testing.strategies import backends, model_faults, seeds
from tests.agents.helpers import forecast

ASKED = [UserMessage("Coat?")]
CALLS = [tool_call("forecast", city="Oslo"), tool_call("forecast", city="Rome")]


def answers(messages):
    """Ask for the tools until both have answered."""
    results = [message for message in messages if message.role == "tool" and not message.is_error]
    return "Yes, take a coat." if len(results) >= 2 else ["Let me see.", *CALLS]


def agent_of(model, **options):
    return rt.agent_node("Weather", llm=model, tool_nodes=[forecast], **options)


async def both(fault, reply, **options):
    """Return what becomes of an answer, which is the same for a stream."""
    model = faults.Model(ScriptedModel([reply, reply]), {1: fault, 2: fault}, **options)
    whole = await model.complete(ASKED)
    async with contextlib.aclosing(model.stream(ASKED)) as stream:
        *pieces, streamed = [piece async for piece in stream]
    assert streamed == whole
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole.message.content
    assert model.happened == [(1, fault), (2, fault)]
    return whole


async def test_an_answer_is_cut():
    found = await both("cut", "one two three four")
    assert (found.message.content, found.finish_reason) == ("one two", "length")
    found = await both("cut", ["Let me see.", *CALLS])
    assert [call.arguments for call in found.message.tool_calls] == [{"city": "Oslo"}, '{"city":']
    assert found.finish_reason == "length"


@pytest.mark.parametrize(("fault", "reason"), [("filtered", "content_filter"), ("empty", "stop")])
async def test_an_answer_is_withheld(fault, reason):
    found = await both(fault, ["Let me see.", *CALLS])
    assert (found.message.content, found.message.tool_calls, found.finish_reason) == ("", (), reason)


async def test_tool_calls_are_not_as_they_should_be():
    reply = ["Let me see.", *CALLS]
    assert [call.arguments for call in (await both("malformed", reply)).message.tool_calls] == ['{"city":'] * 2
    named = [call.name for call in (await both("wrong_tool", reply)).message.tool_calls]
    assert named == ["forecast_unknown", "forecast"]
    assert {call.id for call in (await both("repeated_ids", [*reply, CALLS[0]])).message.tool_calls} == {"call_0"}


async def test_a_fault_of_tool_calls_does_nothing_without_any():
    model = faults.Model(ScriptedModel(["Yes."]), {1: "malformed"})
    assert (await model.complete(ASKED)).message.content == "Yes."
    assert model.happened == []


@pytest.mark.parametrize("fault", ["rate_limit", "timeout"])
async def test_a_request_that_is_refused_never_comes_to_the_model(fault):
    script = ScriptedModel(["Yes."])
    model, start = faults.Model(script, {1: fault}, delay=30), anyio.current_time()
    kind = faults.ModelRateLimit if fault == "rate_limit" else TimeoutError
    with pytest.raises(kind, match="injected"):
        await model.complete(ASKED)
    assert anyio.current_time() - start == (30 if fault == "timeout" else 0)
    assert (script.calls, model.happened) == ([], [(1, fault)])
    assert (await model.complete(ASKED)).message.content == "Yes."


async def test_a_lost_connection_loses_the_second_half_of_a_stream():
    script = ScriptedModel([answer("one two three", reasoning="hm")] * 2)
    model, pieces = faults.Model(script, {1: "lost", 2: "lost"}), []
    with pytest.raises(ConnectionError, match="injected"):
        async with contextlib.aclosing(model.stream(ASKED)) as stream:
            async for piece in stream:
                pieces.append(piece)
    assert pieces == [Reasoning("hm"), "one"]
    with pytest.raises(ConnectionError, match="injected"):
        await model.complete(ASKED)
    assert len(script.calls) == 2


async def test_the_errors_can_be_those_of_an_sdk():
    class Limited(Exception):
        pass

    given = Limited("slow down")
    model = faults.Model(ScriptedModel([]), {1: "rate_limit", 2: "rate_limit"}, errors={"rate_limit": given})
    for _ in range(2):
        with pytest.raises(Limited, match="slow down") as caught:
            await model.complete(ASKED)
        assert caught.value is not given


async def test_a_share_of_requests_goes_wrong():
    async def happened(seed):
        model = faults.Model(ScriptedModel(lambda _: "a b"), chances={"cut": 0.3, "empty": 0.2}, seed=seed)
        for _ in range(100):
            await model.complete(ASKED)
        return model.happened

    first = await happened(0)
    assert first == await happened(0) != await happened(1)
    assert 30 < len(first) < 70
    assert {fault for _, fault in first} == {"cut", "empty"}


async def test_a_model_without_faults_conforms():
    await conformance.check(lambda given: faults.Model(ScriptedModel(given)))


async def test_what_it_says_of_itself_is_the_models():
    script = ScriptedModel([], name="gpt")
    model = faults.Model(script)
    assert (model.name, model.provider, model.settings, model.api_key) == ("gpt", "scripted", {}, None)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"plan": {0: "cut"}}, "plan has the request 0; requests are counted from 1"),
        ({"plan": {1: "cuts"}}, "plan has 'cuts'; use one of 'rate_limit', "),
        ({"chances": {"cuts": 1}}, "chances has 'cuts'; use one of"),
        ({"chances": {"cut": 2}}, "the chance of 'cut' is 2; use a number from 0 to 1"),
        ({"chances": {"cut": 0.6, "lost": 0.6}}, "have a sum over 1"),
        ({"delay": -1}, "delay is -1; use seconds"),
        ({"errors": {"cut": ValueError()}}, "errors has 'cut'; use one of 'rate_limit', 'timeout', 'lost'"),
        ({"errors": {"lost": "gone"}}, "the error for 'lost' is 'gone'; use an exception"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments, text):
    with pytest.raises(ConfigError, match=text):
        faults.Model(ScriptedModel([]), **arguments)


# ---- what an agent makes of it


@pytest.mark.parametrize("fault", get_args(faults.ModelFault))
def test_an_agent_gets_its_answer_after_a_fault(fault, backend):
    model = faults.Model(ScriptedModel(answers), {1: fault}, delay=30)
    agent = agent_of(model, retries=rt.Retry(attempts=2, wait_initial=1, wait_jitter=0))
    outcome = simulate(agent, "Coat?", backend=backend)
    check(outcome)
    assert outcome.unwrap().content == ("" if fault == "empty" else "Yes, take a coat.")
    assert model.happened == [(1, fault)]


@given(plan=model_faults(), seed=seeds(), backend=backends())
def test_an_agent_answers_or_raises_what_is_documented(plan, seed, backend):
    model = faults.Model(ScriptedModel(answers), plan)
    outcome = simulate(agent_of(model), "Coat?", seed=seed, backend=backend)
    check(outcome)
    expected = (faults.ModelRateLimit, TimeoutError, ConnectionError, Truncated, Filtered)
    assert outcome.exception is None or isinstance(outcome.exception, expected)
    if outcome.exception is None and "empty" not in dict(model.happened).values():
        assert outcome.result.content == "Yes, take a coat."


@given(plan=model_faults(["empty", "cut"], requests=3), backend=backends())
def test_an_answer_that_does_not_fit_is_asked_for_again(plan, backend):
    model = faults.Model(ScriptedModel(lambda _: '{"value": [1, 2]}'), plan)
    agent = rt.agent_node("Counter", llm=model, output_schema=list[int])
    outcome = simulate(agent, "Count!", backend=backend)
    check(outcome)
    if outcome.exception is None:
        assert outcome.result.content == [1, 2]
    else:
        assert isinstance(outcome.exception, LLMError)


@given(plan=model_faults(["lost", "timeout"], requests=2, max_size=1))
def test_plans_have_the_faults_that_were_asked_for(plan):
    assert set(plan) <= {1, 2}
    assert set(plan.values()) <= {"lost", "timeout"}
    assert len(plan) <= 1
