"""A budget of tokens or dollars that many agents draw from: once it is used up, no other request is made."""

from __future__ import annotations

import contextvars
from collections import deque
from decimal import Decimal

import anyio
import pytest

import railtracks as rt
from railtracks.agents._token_budget import _Waiter
from railtracks.exceptions import ConfigError, ContextError, LimitExceeded, NodeInvocationError
from railtracks.llm import Price, Usage
from railtracks.testing import ScriptedModel, answer, check, simulate, tool_call
from railtracks.testing.faults import Executor

EACH = Usage(30, 10)
PRICE = Price(input=1000, output=2000)  # so that each answer costs 0.05 dollars


def support(usage=EACH, *, delay=1, price=None, **options):
    """Return an agent whose answers take so many tokens and seconds, and its model."""
    model = ScriptedModel(lambda _: answer("So.", usage=usage, delay=delay), price=price)
    return rt.agent_node("Support", llm=model, **options), model


def said(results):
    return [str(each) if isinstance(each, rt.LLMResponse) else type(each) for each in results]


@pytest.mark.parametrize("limit", [None, 1, 4])
async def test_a_batch_makes_no_request_once_it_is_used_up(limit):
    agent, model = support()
    with rt.TokenBudget(100) as budget:
        results = await rt.call_batch(agent, map(str, range(10)), limit=limit)
    assert said(results) == ["So."] * 3 + [LimitExceeded] * 7
    assert len(model.calls) == 3
    assert (budget.usage, budget.cost) == (Usage(90, 30), None)
    last = results[-1]
    assert "the agent Support may make no other request" in str(last)
    assert "rt.TokenBudget(max_tokens=100) is used up: 120 tokens" in str(last)
    assert (last.usage, len(last.message_history)) == (Usage(), 1)


@pytest.mark.parametrize(("most", "made"), [(10_000, 8), (161, 5)])
async def test_requests_run_at_once_as_far_as_there_is_room(most, made):
    """The first one alone, and then all others; or four, if that is what there is room for."""
    agent, model = support()
    begin = anyio.current_time()
    with rt.TokenBudget(most):
        results = await rt.call_batch(agent, map(str, range(8)))
    assert anyio.current_time() - begin == 2
    assert said(results).count("So.") == len(model.calls) == made


async def test_dollars_bound_it_too():
    agent, model = support(price=PRICE)
    with rt.TokenBudget(max_cost=0.12) as budget:
        results = await rt.call_batch(agent, map(str, range(6)))
    assert budget.cost == Decimal("0.15")
    assert len(model.calls) == 3
    assert "rt.TokenBudget(max_cost=0.12) is used up: $0.15 have been used" in str(results[-1])
    assert results[-1].cost == 0


async def test_agents_that_are_tools_draw_from_it():
    inner, inner_model = support(delay=0, manifest=rt.ToolManifest("Helps."))
    asks = answer(tool_call("Support", request="?"), tool_call("Support", request="!"), usage=Usage(5, 5))
    outer_model = ScriptedModel(lambda _: asks)
    outer = rt.agent_node("Host", llm=outer_model, tool_nodes=[inner])
    with (
        rt.TokenBudget(140) as budget,
        pytest.raises(LimitExceeded, match="the agent Host may make no other") as caught,
    ):
        await rt.call(outer, "Help!")
    assert budget.usage == Usage(30 * 3 + 10, 10 * 3 + 10)
    assert (len(inner_model.calls), len(outer_model.calls)) == (3, 2)
    assert caught.value.usage == Usage(10, 10)
    refused = caught.value.message_history[-1]
    assert refused.is_error
    assert "is used up" in refused.content


async def test_an_agent_with_tools_stops_in_the_midst():
    @rt.function_node
    async def look_up() -> str:
        return "found"

    model = ScriptedModel(lambda _: answer(tool_call("look_up"), usage=EACH))
    agent = rt.agent_node("Reader", llm=model, tool_nodes=[look_up])
    with rt.TokenBudget(100), pytest.raises(LimitExceeded) as caught:
        await rt.call(agent, "Read!")
    assert (len(model.calls), caught.value.usage) == (3, Usage(90, 30))
    assert caught.value.message_history[-1].content == "found"


async def test_an_inner_and_an_outer_budget_both_hold():
    agent, model = support(delay=0)
    with rt.TokenBudget(200) as outer:
        with rt.TokenBudget(70) as inner:
            results = await rt.call_batch(agent, map(str, range(4)), limit=1)
        assert said(results).count("So.") == 2
        assert inner.usage == outer.usage == Usage(60, 20)
        with inner, outer:  # twice the same counts once
            assert said(await rt.call_batch(agent, ["a"])) == [LimitExceeded]
        results = await rt.call_batch(agent, map(str, range(9)), limit=1)
    assert len(model.calls) == 5
    assert said(await rt.call_batch(agent, map(str, range(9)))) == ["So."] * 9  # outside of it


@pytest.mark.parametrize("durability", ["exit", "sync"])
async def test_a_resumed_run_counts_what_is_on_record(tmp_path, monkeypatch, durability):
    """Of agents that are replayed as a whole, and of one that was interrupted between two requests."""
    monkeypatch.chdir(tmp_path)
    is_down = True
    made = 0

    def reply(messages):
        nonlocal made
        made += 1
        if len(messages) > 1:
            if is_down:
                raise RuntimeError("down")
            return answer("Done.", usage=EACH)
        return answer(tool_call("look_up"), usage=EACH) if messages[0].content == "last" else answer("So.", usage=EACH)

    @rt.function_node
    async def look_up() -> str:
        return "found"

    agent = rt.agent_node("Support", llm=ScriptedModel(reply), tool_nodes=[look_up])
    budgets = []

    @rt.function_node
    async def ask_all() -> list[str]:
        with rt.TokenBudget(max_tokens=170) as budget:
            budgets.append(budget)
            first = await rt.call_batch(agent, ["1", "2"], limit=1)
            last = await rt.call(agent, "last")
            more = await rt.call_batch(agent, ["3", "4", "5"], limit=1)
        return [str(each) for each in (*first, last, *more)]

    flow = rt.Flow("Asking", ask_all, run_identifier="asking", durability=durability, logging_setting="NONE")
    with pytest.raises(RuntimeError, match="down"):
        await flow.ainvoke()
    assert budgets[-1].usage == Usage(90, 30)
    is_down = False
    *answers, fourth, fifth = await flow.aresume("asking")
    assert answers == ["So.", "So.", "Done.", "So."]
    assert made == 4 + 2
    assert "200 tokens" in fourth
    assert "200 tokens" in fifth
    assert budgets[-1].usage == Usage(150, 50)
    budgets.clear()
    assert (await flow.aresume("asking"))[:3] == ["So.", "So.", "Done."]
    assert made == 6


async def test_a_budget_entered_twice_counts_a_replayed_call_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent, _ = support(delay=0)
    budgets = []

    @rt.function_node
    async def ask() -> str:
        budgets.append(budget := rt.TokenBudget(1000))
        with budget, budget:
            return str(await rt.call(agent, "Help!"))

    @rt.function_node
    async def fail() -> None:
        if len(budgets) == 1:
            raise RuntimeError("down")

    @rt.function_node
    async def both() -> str:
        answered = await ask()
        await rt.call(fail)
        return answered

    flow = rt.Flow("Ask", both, run_identifier="asking")
    with pytest.raises(RuntimeError, match="down"):
        await flow.ainvoke()
    await flow.aresume("asking")
    assert len(budgets) == 2
    assert budgets[0].usage == budgets[1].usage


async def test_the_consumer_of_a_stream_may_ask_another_agent():
    teller, _ = support(delay=0)
    other, other_model = support(delay=0)
    async with rt.Session():
        with rt.TokenBudget(1000) as budget:
            async for chunk in rt.astream(teller, "Tell!"):
                if chunk.kind == "text":
                    await rt.call(other, chunk.text)
    assert len(other_model.calls) == 1
    assert budget.usage == Usage(60, 20)


async def test_a_model_may_call_agents_itself():
    inner, _ = support(delay=0)

    async def ask(_):
        return str(await rt.call(inner, "?"))

    outer = rt.agent_node("Router", llm=ScriptedModel(ask))
    with rt.TokenBudget(1000) as budget:
        assert str(await rt.call(outer, "Help!")) == "So."
    assert budget.usage == Usage(31, 11)


async def test_failed_and_cancelled_requests_let_others_begin():
    model = ScriptedModel([answer(error=ValueError("down"), delay=1), answer("So.", usage=EACH, delay=1)])
    agent = rt.agent_node("Support", llm=model)
    results = []

    async def ask(seconds):
        with anyio.move_on_after(seconds):
            results.extend(await rt.call_batch(agent, ["?"]))

    async with rt.Session(logging_setting="NONE"):
        with rt.TokenBudget(1000) as budget:
            async with anyio.create_task_group() as group:
                for seconds in (5, 0.5, 5):
                    group.start_soon(ask, seconds)
                    await anyio.wait_all_tasks_blocked()
    assert said(results) == [ValueError, "So."]
    assert len(model.calls) == 2
    assert (budget.usage, budget._running, budget._waiting) == (EACH, {}, {})


async def test_request_can_be_discarded_while_others_are_let_in(monkeypatch):
    """The garbage collector closes one in the middle of the code that lets those begin that wait."""
    tokens, waiter = rt.TokenBudget(100), _Waiter()
    tokens._running, tokens._waiting = {"left": 2, "discarded": 1}, {"left": deque([waiter])}

    def has_room(key):
        if "discarded" in tokens._running:
            tokens.end("discarded")
        return True

    monkeypatch.setattr(rt.TokenBudget, "_has_room", lambda self, key: has_room(key))
    tokens.end("left")
    await waiter.event.wait()
    assert waiter.has_turn
    assert (tokens._running, tokens._waiting) == ({"left": 2}, {})


def test_it_holds_in_synchronous_code():
    agent, model = support(delay=0)
    flow = rt.Flow("Asking", agent, logging_setting="NONE", save_state=False)
    with rt.TokenBudget(70) as budget:
        results = rt.call_sync(rt.call_batch, agent, ["1"])
        assert str(flow.invoke("2")) == "So."
        with pytest.raises(LimitExceeded):
            flow.invoke("3")
    assert said(results) == ["So."]
    assert (len(model.calls), budget.usage) == (2, Usage(60, 20))


async def test_sync_nodes_draw_from_it():
    agent, model = support(delay=0)

    @rt.function_node
    def ask(text: str) -> str:
        return str(rt.call_sync(agent, text))

    with rt.TokenBudget(70):
        results = await rt.call_batch(ask, ["1", "2", "3"], limit=1)
    assert [type(each) for each in results] == [str, str, LimitExceeded]
    assert len(model.calls) == 2


async def test_guards_draw_from_it_beside_the_request():
    guard = rt.agent_node(
        "Guard", llm=ScriptedModel(lambda _: answer('{"value": null}', usage=EACH)), output_schema=str | None
    )
    agent, _ = support(input_guards=[guard], output_guards=[guard])
    async with rt.Session():
        with rt.TokenBudget(1000) as budget:
            texts = [chunk.text async for chunk in rt.astream(agent, "1") if chunk.kind == "text"]
            assert str(await rt.call(agent, "2")) == "".join(texts) == "So."
    assert budget.usage == Usage(180, 60)


Far = rt.agent_node("Far", llm=ScriptedModel(lambda _: answer("So.", usage=EACH)), where="pool")


async def test_agents_in_workers_count_when_they_have_come_back():
    agent, model = support()
    async with rt.Session(executors={"pool": Executor()}):
        with rt.TokenBudget(70) as budget:
            assert said(await rt.call_batch(Far, ["1", "2"])) == ["So."] * 2
            assert said(await rt.call_batch(agent, ["3"])) == [LimitExceeded]
    assert (budget.usage, model.calls) == (Usage(60, 20), [])


@rt.function_node
async def ask_many(count: int) -> list[str]:
    agent, _ = support(retries=0)
    with rt.TokenBudget(150):
        return [str(each) for each in await rt.call_batch(agent, map(str, range(count)))]


@pytest.mark.parametrize("seed", range(3))
def test_it_holds_in_any_order(backend, seed):
    outcome = simulate(ask_many, 9, backend=backend, seed=seed)
    check(outcome)
    assert outcome.unwrap().count("So.") == 4


async def test_results_from_a_cache_cost_nothing():
    agent, model = support(delay=0, cache=True)
    with rt.TokenBudget(50) as budget:
        results = await rt.call_batch(agent, ["same"] * 4, limit=1)
    assert (said(results), len(model.calls), budget.usage) == (["So."] * 4, 1, EACH)


async def test_what_is_not_counted_cannot_be_bounded():
    agent, model = support(usage=None)
    with rt.TokenBudget(50):
        first, second = await rt.call_batch(agent, ["1", "2"])
    assert str(first) == "So."
    assert "a provider does not count the tokens" in str(second)
    with (
        rt.TokenBudget(max_cost=1),
        pytest.raises(NodeInvocationError, match="has max_cost, and the price of the model"),
    ):
        await rt.call(agent, "3")
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    ("args", "options", "problem"),
    [
        ((), {}, r"rt.TokenBudget\(\) bounds nothing"),
        ((0,), {}, "max_tokens is 0"),
        ((1.5,), {}, "max_tokens is 1.5"),
        ((), {"max_cost": 0}, "max_cost is 0; expected dollars above 0"),
        ((), {"max_cost": "1"}, "max_cost is '1'; expected a number of dollars"),
    ],
)
def test_wrong_bounds_are_refused(args, options, problem):
    with pytest.raises(ConfigError, match=problem):
        rt.TokenBudget(*args, **options)


def test_a_block_that_is_left_elsewhere_says_so():
    budget = rt.TokenBudget(100)
    contextvars.copy_context().run(budget.__enter__)
    with pytest.raises(ContextError, match=r"rt.TokenBudget\(max_tokens=100\) is left in another task"):
        budget.__exit__(None, None, None)
