"""Evaluations: cases and agents, scores that are nodes, and a table."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.llm import Usage
from railtracks.state import Status
from railtracks.testing import ScriptedModel, answer, check, simulate
from railtracks.testing.evaluation import Case, Evaluation, evaluate
from railtracks.testing.faults import Kill

CASES = [Case("Coat?", "yes"), Case("Boots?", "no"), Case("a very\nlong question?", "yes", name="long")]
ran = []


def agent_of(name, reply, seconds=0):
    async def respond(messages):
        ran.append(name)
        said = reply(messages[-1].content)
        return said if isinstance(said, Exception) else answer(said, delay=seconds, usage=Usage(3, 4))

    return rt.agent_node(name, llm=ScriptedModel(respond))


Yes = agent_of("Yes", lambda _: "yes", 2)
Wrong = agent_of("Wrong", lambda asked: ConnectionError("lost") if asked == "Coat?" else "yes")


@rt.function_node
async def is_right(response: rt.LLMResponse[str], case: Case) -> bool:
    return response.content == case.expected


@rt.function_node
def length(response: rt.LLMResponse[str], case: Case) -> int:
    return len(response.content) if case.input != "Boots?" else "no number"  # type: ignore[return-value]


def test_each_agent_is_given_each_case(backend):
    outcome = simulate(partial(evaluate, [Yes, Wrong], CASES, [is_right, length]), backend=backend)
    check(outcome)
    found = outcome.unwrap()
    assert [(row.agent, row.case.name) for row in found.rows] == [
        (agent, name) for agent in ("Yes", "Wrong") for name in ("Coat?", "Boots?", "long")
    ]
    first, second, _, failed, *_ = found.rows
    assert (first.result.content, first.scores, first.errors) == ("yes", {"is_right": 1.0, "length": 3.0}, {})
    assert (first.seconds, first.usage) == (2.0, Usage(3, 4))
    assert second.errors == {"length": "TypeError: it returned 'no number'; expected a number, True or False"}
    assert second.scores == {"is_right": 0.0}
    assert (failed.result, failed.scores) == (None, {})
    assert failed.errors == {"Wrong": "ConnectionError: lost"}
    assert found.mean("Yes", "is_right") == pytest.approx(2 / 3)
    assert found.mean("Wrong", "is_right") == 0.5
    assert found.mean("Wrong", "nothing") is None
    assert outcome.duration == 2  # all at one time


def test_the_tables_are_markdown(backend):
    run = partial(evaluate, [Yes, Wrong], CASES, [is_right, length])
    found = simulate(run, backend=backend).unwrap()
    assert str(found) == (
        "| agent | cases | failed | is_right | length | tokens | seconds |\n"
        "|-------|-------|--------|----------|--------|--------|---------|\n"
        "| Yes   | 3     | 1      | 0.67     | 3.00   | 21     | 6.0     |\n"
        "| Wrong | 3     | 2      | 0.50     | 3.00   | 14     | 0.0     |"
    )
    lines = found.details().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["Coat?"] * 2 + ["Boots?"] * 2 + ["long"] * 2
    assert "| Wrong: ConnectionError: lost" in lines[3]
    assert str(Evaluation((), ("is_right",))).splitlines()[2:] == []


def test_a_cost_is_a_score(backend):
    def cost(response: rt.LLMResponse[str], case: Case) -> Decimal | None:
        return response.cost

    price = rt.llm.Price(input=1, output=2)
    agent = rt.agent_node("Cheap", llm=ScriptedModel(lambda _: answer("Hi.", usage=Usage(1, 1)), price=price))
    found = simulate(partial(evaluate, [agent], CASES[:1], [cost]), backend=backend).unwrap()
    assert found.mean("Cheap", "cost") == pytest.approx(0.000003)
    assert "| 3e-06 |" in str(found)


def test_as_many_pairs_as_allowed_run_at_one_time(backend):
    outcome = simulate(partial(evaluate, [Yes], CASES, limit=1), backend=backend)
    assert outcome.duration == 6
    assert [row.seconds for row in outcome.unwrap().rows] == [2.0] * 3


async def test_it_needs_no_session():
    assert len((await evaluate([Yes], CASES[:1])).rows) == 1


@pytest.mark.parametrize("entries", [5, 20, 25, 40])
def test_a_resumed_evaluation_asks_only_what_is_missing(entries, backend):
    run = partial(evaluate, [Yes, Wrong], CASES[1:], [is_right])
    killed = simulate(run, backend=backend, faults=[Kill(after=entries)])
    answered = [
        record for record in killed.info.records if (record.name, record.status) == ("chat scripted", Status.COMPLETED)
    ]
    ran.clear()
    resumed = simulate(run, backend=backend, store=killed.store, resume=killed.info.session_id).unwrap()
    assert len(ran) == 4 - len(answered)
    assert [row.scores for row in resumed.rows] == [row.scores for row in simulate(run).unwrap().rows]


def test_agents_with_one_name_get_others(backend):
    other = agent_of("Yes", lambda _: "no")
    found = simulate(partial(evaluate, {"one": Yes, "two": other}, CASES[:1], [is_right]), backend=backend).unwrap()
    assert [(row.agent, row.scores) for row in found.rows] == [("one", {"is_right": 1.0}), ("two", {"is_right": 0.0})]


async def test_what_cannot_be_evaluated_is_an_error():
    with pytest.raises(ConfigError, match=r"two of the agents are called 'Yes'; write \{'one': "):
        await evaluate([Yes, Yes], CASES)
    with pytest.raises(ConfigError, match=r"'Coat\?' is not a case; write Case\('Coat\?'\)"):
        await evaluate([Yes], ["Coat?"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"agents is .*; expected a list: \[\.\.\.\]"):
        await evaluate(Yes, CASES)
    with pytest.raises(ConfigError, match=r"cases is 'Coat\?'; expected a list"):
        await evaluate([Yes], "Coat?")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"scores is .*; expected a list"):
        await evaluate([Yes], CASES, is_right)  # type: ignore[arg-type]
