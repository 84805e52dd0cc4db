"""What a conversation costs: tokens and dollars, on record and in errors, and their bounds."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

import railtracks as rt
from railtracks.exceptions import LimitExceeded, LLMError, NodeCreationError, NodeInvocationError, Truncated
from railtracks.llm import AssistantMessage, Completion, Price, Usage
from railtracks.testing import ScriptedModel, answer, tool_call

PRICE = Price(input=2, output=10, cache_read=0.2, cache_write=2.5)
USAGE = Usage(1120, 50, cache_read_tokens=100, cache_write_tokens=1000, cache_write_1h_tokens=400, reasoning_tokens=30)
OF_USAGE = {
    "gen_ai.usage.input_tokens": 1120,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.cache_read.input_tokens": 100,
    "gen_ai.usage.cache_write.input_tokens": 1000,
    "gen_ai.usage.reasoning.output_tokens": 30,
}


async def test_the_parts_of_the_usage_are_on_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent = rt.agent_node("Teller", llm=ScriptedModel([answer("So.", usage=USAGE)]))
    flow = rt.Flow("Telling", agent, run_identifier="telling", logging_setting="NONE")
    assert (await flow.ainvoke("And?")).usage == USAGE
    info = rt.state.load_run("telling")
    assert info.answer["usage"] == USAGE.counts()
    for record in info.records:
        said = json.loads(record.attributes or "")
        assert {name: said[name] for name in said if name.startswith("gen_ai.usage")} == OF_USAGE
    assert (await flow.aresume("telling")).usage == USAGE


# ---- dollars


@rt.function_node
async def look_up(word: str) -> str:
    return f"about {word}"


ONE = Usage(1000, 100)


def calls(count, usage=ONE):
    """Return answers that ask for a tool so often; each costs 0.003 dollars."""
    return [answer(tool_call("look_up", word=str(n)), usage=usage) for n in range(count)]


def reader(*answers, price=PRICE, **options):
    model = ScriptedModel(answers, price=price)
    return rt.agent_node("Reader", llm=model, tool_nodes=[look_up], **options), model


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0), "2"),
        (Usage(1000, 100), "0.003"),
        (Usage(1000, 100, reasoning_tokens=90), "0.003"),
        (Usage(1000, 0, cache_read_tokens=500, cache_write_tokens=200), "0.0012"),
        (Usage(1000, 0, cache_write_tokens=1000, cache_write_1h_tokens=1000), "0.0025"),
        (Usage(0, 0), "0"),
    ],
)
def test_a_price_is_that_of_a_million_tokens(usage, cost):
    assert PRICE.cost(usage) == Decimal(cost)


def test_what_is_not_said_of_a_price_follows_from_the_rest():
    plain, full = Price(input=1, output=2), Price(input=1, output=2, cache_write=3, cache_write_1h=5, input_audio=7)
    usage = Usage(10, 0, cache_write_tokens=4, cache_write_1h_tokens=1, input_audio_tokens=2)
    assert (plain.cost(usage), full.cost(usage)) == (Decimal("0.00001"), Decimal("0.000032"))


@pytest.mark.parametrize("wrong", [-1, "1", None, float("nan"), float("inf"), True])
def test_a_price_is_a_number(wrong):
    with pytest.raises(
        rt.exceptions.ConfigError, match=r"an amount of an rt.llm.Price is .*; expected a number of dollars"
    ):
        Price(input=1, output=wrong)


async def test_a_response_has_the_cost_of_all_its_requests():
    async with rt.Session() as session:
        response = await rt.call(reader(*calls(2), answer("So.", usage=Usage(500, 10)))[0], "Read!")
    assert response.cost == Decimal("0.0071")
    costs = [json.loads(record.attributes or "{}").get("railtracks.cost") for record in session.info.records]
    assert costs == [0.0071, 0.003, None, 0.003, None, 0.0011]


@pytest.mark.parametrize(
    ("price", "last"), [(None, answer("So.")), (PRICE, answer("So.", usage=None))], ids=["no price", "no usage"]
)
async def test_a_cost_that_is_not_wholly_known_is_not_given(price, last):
    response = await rt.call(reader(*calls(1), last, price=price)[0], "Read!")
    assert response.cost is None


async def test_a_model_may_say_what_an_answer_costs():
    said = Completion(AssistantMessage("So."), Usage(1000, 100), cost=Decimal("0.5"))
    assert (await rt.call(reader(said)[0], "Read!")).cost == Decimal("0.5")


async def test_errors_have_the_cost():
    cut = answer("So", usage=Usage(1000, 100), finish_reason="length")
    with pytest.raises(Truncated) as caught:
        await rt.call(reader(*calls(1), cut)[0], "Read!")
    assert caught.value.cost == Decimal("0.006")
    wrong = answer("no number", usage=Usage(1000, 100))
    with pytest.raises(LLMError, match="no valid answer") as invalid:
        await rt.call(reader(wrong, output_schema=int, repairs=0)[0], "Read!")
    assert invalid.value.cost == Decimal("0.003")


@pytest.mark.parametrize(("max_cost", "made"), [(0.003, 1), (0.0031, 2), (Decimal("0.007"), 3)])
async def test_a_run_costs_so_much(max_cost, made):
    agent, model = reader(*calls(5), max_cost=max_cost)
    with pytest.raises(LimitExceeded, match=rf"used \$0.00{3 * made}, and max_cost={max_cost} allows no") as caught:
        await rt.call(agent, "Read!")
    assert len(model.calls) == made
    assert (caught.value.cost, caught.value.usage) == (Decimal("0.003") * made, Usage(1000 * made, 100 * made))
    assert len(caught.value.message_history) == 1 + 2 * made


async def test_a_run_within_its_bound_costs_what_it_costs():
    response = await rt.call(reader(*calls(1), answer("So.", usage=Usage(1000, 100)), max_cost=0.004)[0], "Read!")
    assert response.cost == Decimal("0.006")


def test_a_bound_needs_a_price():
    with pytest.raises(
        NodeCreationError, match=r"Reader has max_cost, and the price of the model scripted .* is not know"
    ):
        reader(price=None, max_cost=1)


@pytest.mark.parametrize("wrong", [-1, "1", True, float("nan")])
def test_a_bound_is_a_number(wrong):
    with pytest.raises(NodeCreationError, match=r"max_cost is .*; expected a number of dollars .*, or None"):
        reader(max_cost=wrong)


async def test_a_model_that_loses_its_price_is_not_asked():
    agent, model = reader("So.", max_cost=1)
    model.price = None
    with pytest.raises(NodeInvocationError, match="the price of the model scripted"):
        await rt.call(agent, "Read!")
    assert model.calls == []


def test_a_bound_needs_a_price_of_each_model():
    models = [ScriptedModel([], price=PRICE), ScriptedModel([], name="second")]
    with pytest.raises(NodeCreationError, match="the price of the model second"):
        rt.agent_node("Reader", llm=models, max_cost=1)


async def test_a_bound_may_be_that_of_a_call():
    agent = reader(*calls(2), answer("So."))[0]
    with pytest.raises(LimitExceeded, match=r"max_cost=0\.001"):
        await rt.call(agent.options(max_cost=0.001), "Read!")
    assert str(await rt.call(agent.options(max_cost=None), "Read!")) == "So."
    with pytest.raises(NodeCreationError, match="the price of the model other"):
        agent.options(max_cost=1, llm=ScriptedModel([], name="other"))


async def test_the_model_of_the_session_needs_a_price_once_it_is_asked():
    agent = rt.agent_node("Reader", max_cost=0.001)
    async with rt.Session(default_llm=ScriptedModel(["So."], price=PRICE)):
        assert (await rt.call(agent, "Read!")).cost == PRICE.cost(Usage(1, 1))
    async with rt.Session(default_llm=ScriptedModel(["So."])):
        with pytest.raises(NodeInvocationError, match="the agent Reader has max_cost, and the price of the model"):
            await rt.call(agent, "Read!")


async def test_what_was_paid_before_a_hand_off_counts():
    other, _ = reader(*calls(1), answer("So.", usage=ONE))
    asks = answer(tool_call("hand_off_to_Reader"), usage=ONE)
    host = rt.agent_node("Host", llm=ScriptedModel([asks, asks], price=PRICE), tool_nodes=[rt.hand_off(other)])
    async with rt.Session() as session:
        assert (await rt.call(host, "Read!")).cost == Decimal("0.009")
    costs = [json.loads(record.attributes or "{}").get("railtracks.cost") for record in session.info.records]
    assert costs == [0.003, 0.003, 0.006, 0.003, None, 0.003]
    bounded, _ = reader(*calls(2), max_cost=0.006)
    host = rt.agent_node("Host", llm=ScriptedModel([asks], price=PRICE), tool_nodes=[rt.hand_off(bounded)])
    with pytest.raises(LimitExceeded) as caught:
        await rt.call(host, "Read!")
    assert caught.value.cost == Decimal("0.006")


async def test_what_is_not_counted_cannot_be_bounded():
    agent, model = reader(*calls(3, usage=None), max_cost=1)
    with pytest.raises(LimitExceeded, match=r"requests whose cost is not known, and max_cost=1"):
        await rt.call(agent, "Read!")
    assert len(model.calls) == 1


async def test_a_resumed_run_counts_what_is_on_record(tmp_path, monkeypatch):
    """Also with another price: what was paid is paid."""
    monkeypatch.chdir(tmp_path)
    agent, model = reader(*calls(1), RuntimeError("down"), *calls(4), max_cost=0.008)
    flow = rt.Flow("Reading", agent, run_identifier="reading", logging_setting="NONE")
    with pytest.raises(RuntimeError, match="down"):
        await flow.ainvoke("Read!")
    model.price = Price(input=1, output=10)
    with pytest.raises(LimitExceeded, match=r"used \$0.009") as caught:
        await flow.aresume("reading")
    assert caught.value.cost == Decimal("0.009")
    assert len(model.calls) == 5
