"""Models of which the next one is asked when one fails."""

from __future__ import annotations

import json
import logging
import pickle
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, Filtered, LLMError, Refused, Truncated
from railtracks.llm import Fallback, Price, Usage
from railtracks.llm._availability import is_unavailable
from railtracks.testing import ScriptedModel, answer, check, faults, simulate, tool_call
from tests.agents.helpers import Speaker, records


class Busy(Exception):
    status_code = 429


def failing(error: Any = None, name="first"):
    """Return a model whose requests fail."""
    return ScriptedModel(lambda _: error or Busy("too many requests"), name=name)


def good(text="Hi", name="second"):
    return ScriptedModel(lambda _: text, name=name)


async def test_the_next_model_is_asked_and_it_is_on_record():
    other = good()
    agent = rt.agent_node(llm=Fallback(failing(), failing(TimeoutError(), "slow"), other))
    async with rt.Session() as session:
        response = await rt.call(agent, "Hello")
    assert (response.content, len(other.calls)) == ("Hi", 1)
    [record] = records(session, "chat first")
    attributes = json.loads(record.attributes)
    assert attributes["railtracks.fallback.failed"] == ["scripted first: Busy", "scripted slow: TimeoutError"]
    assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == ("first", "second")


async def test_an_answer_of_the_first_model_is_as_without_others():
    outputs = []
    for model in (Fallback(good("a", "first"), good()), good("a", "first")):
        async with rt.Session() as session:
            await rt.call(rt.agent_node(llm=model), "Hello")
        outputs.append(records(session, "chat first")[0].output)
    assert outputs[0] == outputs[1]


async def test_each_request_begins_with_the_first_model():
    first = ScriptedModel([Busy(), "later"], name="first")
    model = Fallback(first, ScriptedModel([tool_call("none")]))
    async with rt.Session():
        assert (await rt.call(rt.agent_node(llm=model), "Hello")).content == "later"


async def test_other_errors_are_raised_at_once():
    other = good()
    async with rt.Session():
        with pytest.raises(ValueError, match="wrong key"):
            await rt.call(rt.agent_node(llm=Fallback(failing(ValueError("wrong key")), other)), "Hello")
    assert other.calls == []


async def test_the_error_of_the_last_model_names_the_others():
    error = OSError("no route")
    async with rt.Session():
        with pytest.raises(OSError, match="no route") as caught:
            await rt.call(rt.agent_node(llm=Fallback(failing(), failing(error))), "Hello")
    assert caught.value is error
    assert caught.value.__notes__ == ["before that, the model first (scripted) has failed: Busy: too many requests"]


async def test_a_failure_is_logged_once_a_session(caplog):
    agent = rt.agent_node(llm=Fallback(failing(), good()))
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            async with rt.Session():
                await rt.call(agent, "Hello")
                await rt.call(agent, "Hello")
        [message] = [record.getMessage() for record in caplog.records]
        assert message.startswith(
            "the model first (scripted) has failed with Busy: too many requests, and the model sec"
        )


@pytest.mark.parametrize("on", [KeyError, (OSError, KeyError), lambda error: isinstance(error, KeyError)])
async def test_on_says_of_which_errors_another_model_is_asked(on):
    async with rt.Session():
        response = await rt.call(rt.agent_node(llm=Fallback(failing(KeyError("k")), good(), on=on)), "Hello")
        assert response.content == "Hi"
        with pytest.raises(Busy):
            await rt.call(rt.agent_node(llm=Fallback(failing(), good(), on=on)), "Hello")


ENDINGS = [("content_filter", Filtered), ("refusal", Refused), ("length", Truncated)]


@pytest.mark.parametrize(("reason", "error"), ENDINGS)
@pytest.mark.parametrize("streams", [False, True])
async def test_answers_that_are_not_whole_count_if_asked_for(reason, error, streams):
    first = ScriptedModel(lambda _: answer("", finish_reason=reason), name="first")

    async def ask(**options):
        agent = rt.agent_node(llm=Fallback(first, good(), **options))
        if streams:
            return [chunk.response async for chunk in rt.astream(agent, "Hello")][-1]
        return await rt.call(agent, "Hello")

    async with rt.Session():
        assert (await ask(on=error)).content == "Hi"
        assert (await ask(on=(LLMError,))).content == "Hi"
        with pytest.raises(error):
            await ask()


# ---- streams


async def test_a_stream_goes_to_the_next_model_before_its_first_piece():
    broken = Speaker([], fail=ConnectionError("lost"), name="first")
    async with rt.Session():
        agent = rt.agent_node(llm=Fallback(broken, good("one two")))
        texts = [chunk.text async for chunk in rt.astream(agent, "Hello") if chunk.kind == "text"]
    assert (texts, broken.closed) == (["one", " two"], 1)


async def test_a_stream_that_has_begun_is_not_mixed_with_another():
    broken, other = Speaker(["one"], fail=ConnectionError("lost"), name="first"), good()
    texts = []
    async with rt.Session():
        with pytest.raises(ConnectionError, match="lost"):
            async for chunk in rt.astream(rt.agent_node(llm=Fallback(broken, other)), "Hello"):
                texts.append(chunk.text)
    assert (texts, other.calls) == (["one"], [])


@pytest.mark.parametrize("streams", [False, True])
async def test_answers_that_are_not_whole_were_paid_for_too(streams):
    first = ScriptedModel(
        lambda _: answer("", finish_reason="refusal", usage=Usage(100, 10)), price=Price(input=1_000_000, output=0)
    )
    other = ScriptedModel(lambda _: answer("Hi", usage=Usage(3, 4)), price=Price(input=0, output=1_000_000))
    agent = rt.agent_node(llm=Fallback(first, other, on=Refused))
    async with rt.Session():
        if streams:
            response = [chunk.response async for chunk in rt.astream(agent, "Hello")][-1]
        else:
            response = await rt.call(agent, "Hello")
    assert (response.usage, response.cost) == (Usage(103, 14), 104)


@pytest.mark.parametrize("streams", [False, True])
async def test_the_price_is_that_of_the_model_that_answers(streams):
    other = good("one two")
    other.price = rt.llm.Price(input=0, output=1_000_000)
    first = failing()
    first.price = rt.llm.Price(input=3, output=3)
    agent = rt.agent_node(llm=Fallback(first, other), max_cost=5)
    async with rt.Session():
        if streams:
            response = [chunk.response async for chunk in rt.astream(agent, "Hello")][-1]
        else:
            response = await rt.call(agent, "Hello")
        unpriced = await rt.call(rt.agent_node(llm=Fallback(first, good())), "Hello")
    assert (response.cost, unpriced.cost) == (2, None)


async def test_cancellation_is_passed_on():
    async def wait(_):
        await anyio.sleep(60)

    other = good()
    with anyio.move_on_after(5) as scope:
        async with rt.Session():
            await rt.call(rt.agent_node(llm=Fallback(ScriptedModel(wait), other)), "Hello")
    assert scope.cancelled_caught
    assert other.calls == []


# ---- as a model


async def test_settings_of_a_call_are_for_all_models():
    first, other = failing(), good()
    async with rt.Session():
        await rt.call(rt.agent_node(llm=Fallback(first, other)).options(temperature=0), "Hello")
    assert first.all_settings == other.all_settings == [{"temperature": 0}]


async def test_a_resumed_run_does_not_ask_again():
    first, other = failing(), ScriptedModel(lambda m: "done" if m[-1].role == "tool" else tool_call("wait"), name="b")

    @rt.function_node
    async def wait() -> str:
        await anyio.sleep(rt.context.get("seconds"))
        return "waited"

    agent = rt.agent_node(llm=Fallback(first, other), tool_nodes=[wait])
    with anyio.move_on_after(5):
        async with rt.Session(run_identifier="run", context={"seconds": 10}):
            await rt.call(agent, "Go")
    async with rt.Session(run_identifier="run", if_exists="resume", context={"seconds": 0}) as session:
        assert (await rt.call(agent, "Go")).content == "done"
    assert (len(first.calls), len(other.calls)) == (2, 2)
    completion = records(session, "chat first")[0].result
    assert (completion.provider, completion.failed) == ("scripted", ("scripted first: Busy",))


async def test_the_keys_of_all_models_are_masked():
    first, other = failing(Busy("sk-first-0123456789")), good("sk-other-0123456789")
    first.api_key, other.api_key = rt.Secret("sk-first-0123456789"), rt.Secret("sk-other-0123456789")
    async with rt.Session() as session:
        await rt.call(rt.agent_node(llm=Fallback(first, other)), "Hello")
    assert "0123456789" not in json.dumps(session.payload())


def test_it_shows_and_offers_what_its_models_have_in_common():
    model = Fallback(failing(), good())
    assert repr(model) == "Fallback(scripted first, scripted second)"
    assert pickle.loads(pickle.dumps(Fallback(ScriptedModel(["a"]), ScriptedModel(["b"])))).name == "scripted"
    assert [*model.attachment_types] == [*good().attachment_types]
    assert model.output_modes == ()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Fallback(good()), "needs two or more models, and was given 1 of them"),
        (lambda: Fallback(good(), "gpt-5"), "was given a str"),  # type: ignore[arg-type]
        (lambda: Fallback(good(), ScriptedModel), "was given a type"),  # type: ignore[arg-type]
        (lambda: Fallback(good(), good(), on=3), "3 is not allowed for on"),  # type: ignore[arg-type]
        (lambda: Fallback(good(), good(), on=(int,)), "is not allowed for on"),  # type: ignore[arg-type]
    ],
)
def test_its_arguments_are_checked(make, text):
    with pytest.raises(ConfigError, match=text):
        make()


@pytest.mark.parametrize("plan", [{1: "rate_limit"}, {1: "timeout"}, {1: "lost", 2: "lost"}])
def test_agents_survive_a_provider_that_fails(plan):
    model = Fallback(faults.Model(good("a", "first"), plan), good("b"))
    outcome = simulate(rt.agent_node(llm=model), "Hello", seed=3)
    check(outcome)
    assert str(outcome.result) == "b"


# ---- which errors


def raised(**attributes):
    error = Exception("it failed")
    vars(error).update(attributes)
    return error


class APIConnectionError(Exception):
    pass


THROTTLED = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError(), TimeoutError(), APIConnectionError(), raised(status_code=429), raised(status_code=503),
        raised(code=500), raised(response=SimpleNamespace(status_code=529)), raised(response=THROTTLED),
        raised(status_code=200, body=OVERLOADED), raised(body={"type": "server_error"}),
    ],
)  # fmt: skip
def test_errors_of_a_provider_that_cannot_answer_now(error):
    assert is_unavailable(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(), raised(status_code=400), raised(status_code=401), raised(status_code=404, code="not_found"),
        raised(code="invalid_request_error"), raised(response={}), raised(body="no"), LLMError("no"),
    ],
)  # fmt: skip
def test_errors_of_a_request_are_no_reason(error):
    assert not is_unavailable(error)
