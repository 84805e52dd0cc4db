"""Agents keep the promise of Railtracks, whatever models answer, tools do, and goes wrong; on both backends.

Where nothing goes wrong, what comes of an agent is what a second, sequential implementation makes of the same scenario.
"""

from __future__ import annotations

import math
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._identifiers import node_id
from railtracks.agents._histories import message_histories
from railtracks.exceptions import GlobalTimeOutError, LLMError
from railtracks.llm import AssistantMessage, SystemMessage, Usage
from railtracks.state import Status
from railtracks.testing import ScriptedModel, check, simulate
from railtracks.testing.faults import Cancel, Fault
from railtracks.testing.strategies import fault_plans, seeds, session_options
from tests.agents.drawn import KINDS, Scenario, Use, agent_of, expected, line, scenarios
from tests.effort import examples

QUESTION = "Who is {name}?"
CONTEXT = {"name": "Ada"}
EXACT: Any = {"context": CONTEXT, "schedule": "shuffled"}
"""For tests that expect exact times."""
alone = scenarios([kind for kind in KINDS if kind != "put"], depth=1)  # those beside it see what it puts
lefts = st.none() | st.integers(0, 4)


def flow_of(scenario):
    agent = agent_of(scenario)

    async def ask():
        return await rt.call(agent, QUESTION)

    return ask


# ---- what holds whatever happens


def requests_and_histories_agree(outcome):
    """The history of each agent is what its requests were sent and gave; there are as many as there were answers."""
    if outcome.faults:  # a fault may have replaced what a call returned
        return
    histories = message_histories(outcome.info)
    for record in outcome.info.records:
        if record.node_type != "Agent":
            continue
        below = [r for r in outcome.info.records if r.parent == record.index]
        asked = [r for r in below if r.name == f"chat {record.name}"]
        history = histories[node_id(outcome.info.session_id, record.index)]
        said = [message for message in history if isinstance(message, AssistantMessage)]
        assert said == [r.result.message for r in asked if r.status is Status.COMPLETED]
        if record.status is Status.COMPLETED:
            assert history == record.result.message_history
            assert record.result.usage == usage_of(history)
            assert not any(isinstance(message, SystemMessage) for message in history)


def usage_of(history):
    """In words; the system message has three."""
    read, total = 3, Usage()
    for message in history:
        if isinstance(message, AssistantMessage):
            total += Usage(read, len(message.content.split()))
        read += len(message.content.split())
    return total


def timeout_is_heeded(outcome):
    """Nothing here is shielded, so nothing goes on after the time."""
    assert outcome.duration <= outcome.config.timeout


# ---- the promise, and the result


@pytest.mark.either_backend
@examples(45)
@given(scenarios(), session_options(), seeds())
@example(Scenario(turns=(Use((("sleep", 3), ("fatal", 3))),)), {"timeout": 2.5}, 0)
def test_an_agent_returns_what_a_naive_one_would(backend, scenario, options, seed):
    outcome = simulate(flow_of(scenario), seed=seed, backend=backend, **EXACT, **options)
    check(outcome, requests_and_histories_agree, timeout_is_heeded)
    is_as_expected(outcome, expected(scenario, "Who is Ada?"))


def is_as_expected(outcome, it):
    timeout, ends = outcome.config.timeout, outcome.config.end_on_error
    if it.errors and ends:
        assert outcome.exception is not None
        return
    if it.duration > timeout:
        assert isinstance(outcome.exception, GlobalTimeOutError)
        assert outcome.duration == timeout
        return
    assert outcome.duration == it.duration
    if it.error is not None:
        assert type(outcome.exception) is it.error
        return
    assert outcome.exception is None
    assert outcome.result.content == it.content
    assert outcome.result.text == it.text
    assert list(map(line, outcome.result.message_history)) == it.history


@st.composite
def troubled(draw, kill=False):
    """A scenario, and faults at its requests and tools."""
    scenario = draw(scenarios())
    nodes = sorted({scenario.name, *scenario.nodes})
    return scenario, draw(fault_plans(nodes, kill=kill, hang=True, returns=dict.fromkeys(nodes)))


@pytest.mark.either_backend
@examples(45)
@given(troubled(), session_options(), seeds())
def test_an_agent_keeps_the_promise_whatever_goes_wrong(backend, drawn, options, seed):
    scenario, faults = drawn
    outcome = simulate(flow_of(scenario), seed=seed, backend=backend, faults=faults, **EXACT, **options)
    check(outcome, requests_and_histories_agree, timeout_is_heeded)
    if len(outcome.unused_faults) == len(faults):
        is_as_expected(outcome, expected(scenario, "Who is Ada?"))


@examples(25)
@given(troubled(kill=True), st.sampled_from(["async", "sync"]), seeds())
def test_an_agent_that_is_killed_leaves_nothing_behind(backend, drawn, durability, seed):
    scenario, faults = drawn
    outcome = simulate(
        flow_of(scenario), seed=seed, backend=backend, faults=faults, durability=durability, context=CONTEXT
    )
    check(outcome)


@examples(25)
@given(scenarios(), st.integers(1, 12), session_options(), seeds())
def test_an_agent_cancelled_at_any_call_keeps_it_too(backend, scenario, call, options, seed):
    faults = [Fault(None, Cancel(), call=call)]
    check(simulate(flow_of(scenario), seed=seed, backend=backend, faults=faults, **options), timeout_is_heeded)


@examples(20)
@given(troubled(), session_options(), lefts, seeds())
def test_the_same_seed_has_the_same_story(backend, drawn, options, left, seed):
    scenario, faults = drawn
    first, second = (
        simulate(stream_of(scenario, left), seed=seed, backend=backend, faults=faults, context=CONTEXT, **options)
        for _ in range(2)
    )
    assert first.story == second.story
    assert first.duration == second.duration


# ---- streams


@attrs.frozen
class Heard:
    chunks: list
    last: object


def stream_of(scenario, left, closes=False, pause=0):
    """Streams the agent, and leaves the loop after so many chunks; None: never."""
    agent = agent_of(scenario)

    async def take(stream):
        heard = []
        async for chunk in stream:
            if chunk.node_id is None:
                return Heard(heard, chunk.response)
            heard.append(chunk)
            await anyio.sleep(pause)
            if len(heard) == left:
                break
        return Heard(heard, None)

    async def consume():
        if left == 0 and not closes:
            return Heard([], None)
        stream = rt.astream(agent, QUESTION)
        if not closes:
            return await take(stream)
        async with stream:
            return await take(stream)

    return consume


@examples(30)
@given(scenarios(), session_options(), seeds())
def test_a_streamed_agent_says_the_same_piece_by_piece(backend, scenario, options, seed):
    outcome = simulate(stream_of(scenario, None), seed=seed, backend=backend, **EXACT, **options)
    check(outcome, requests_and_histories_agree, timeout_is_heeded)
    it = expected(scenario, "Who is Ada?")
    heard = outcome.result
    if heard is not None:
        outcome = attrs.evolve(outcome, result=heard.last)
    is_as_expected(outcome, it)
    if heard is not None:
        assert "".join(c.text for c in heard.chunks if c.agent == scenario.name) == it.chunks
        for whose in {c.node_id for c in heard.chunks}:
            said = "".join(c.text for c in heard.chunks if c.node_id == whose)
            (record,) = (r for r in outcome.info.records if node_id(outcome.info.session_id, r.index) == whose)
            if record.status is not Status.COMPLETED:  # what was said last was of no use, and is not on record
                continue
            below = [r for r in outcome.info.records if r.parent == record.index and r.name == f"chat {record.name}"]
            assert said == "".join(r.result.message.content for r in below if r.result is not None)
            assert {c.agent for c in heard.chunks if c.node_id == whose} == {record.name}


@pytest.mark.either_backend
@examples(40)
@given(troubled(), session_options(), lefts, st.booleans(), seeds())
def test_a_stream_keeps_the_promise_wherever_it_is_left(backend, drawn, options, left, closes, seed):
    left_anywhere(backend, drawn, options, stream_of(drawn[0], left, closes), seed)


@examples(20)
@given(troubled(), session_options(), lefts, st.booleans(), seeds())
@example((Scenario(), []), {"timeout": 5.5}, None, False, 0)
def test_a_stream_with_a_slow_consumer_keeps_the_promise(backend, drawn, options, left, closes, seed):
    left_anywhere(backend, drawn, options, stream_of(drawn[0], left, closes, pause=1), seed)


def left_anywhere(backend, drawn, options, target, seed):
    check(
        simulate(target, seed=seed, backend=backend, faults=drawn[1], context=CONTEXT, **options),
        requests_and_histories_agree,
        timeout_is_heeded,
    )


@pytest.mark.parametrize(
    "taken",
    [1, 2],
)
def test_a_consumer_that_fails_ends_the_stream_it_keeps(backend, taken):
    """It fails before the last chunk."""
    agent = rt.agent_node("A", llm=ScriptedModel(["one two"]))

    async def consume():
        stream = rt.astream(agent, "Hello")
        for _ in range(taken):
            await anext(stream)
        await anyio.sleep(1)
        raise ValueError("of the consumer")

    outcome = simulate(consume, backend=backend)
    check(outcome)
    assert isinstance(outcome.exception, ValueError)


# ---- several at once


@examples(20)
@given(st.lists(st.tuples(scenarios(depth=1), lefts), min_size=2, max_size=3), session_options(), seeds())
def test_agents_side_by_side_keep_it_together(backend, plans, options, seed):
    flows = [flow_of(scenario) if left is None else stream_of(scenario, left) for scenario, left in plans]

    async def all_of_them():
        async with anyio.create_task_group() as group:
            for flow in flows:
                group.start_soon(rt.call, flow)

    check(simulate(all_of_them, seed=seed, backend=backend, context=CONTEXT, **options), requests_and_histories_agree)


@examples(20)
@given(alone, alone, seeds())
def test_agents_in_a_batch_do_not_see_each_other(backend, one, other, seed):
    flows = [flow_of(one), flow_of(other), flow_of(one)]

    async def call(place):
        return await rt.call(flows[place])

    async def batch():
        return await rt.call_batch(call, range(3))

    outcome = simulate(batch, seed=seed, backend=backend, context=CONTEXT, timeout=math.inf)
    check(outcome, requests_and_histories_agree)
    its = [expected(scenario, "Who is Ada?") for scenario in (one, other, one)]
    if any(it.error not in (None, LLMError) for it in its):
        return
    for it, result in zip(its, outcome.result, strict=True):
        if it.error is None:
            assert list(map(line, result.message_history)) == it.history
        else:
            assert type(result) is it.error


# ---- beside all that


async def test_an_agent_that_outlives_its_stream_goes_on_unheard():
    agent = rt.agent_node("A", llm=ScriptedModel(["one two three"]))
    heard, late = [], []

    async def spawn(group):
        group.start_soon(later)
        return "spawned"

    async def later():
        await anyio.sleep(1)
        late.append(await rt.call(agent, "Hello"))

    async def stream():
        async with anyio.create_task_group() as group:
            heard.extend([chunk.text async for chunk in rt.astream(spawn, group)])

    async with rt.Session(save_state=False):
        await rt.call(stream)
    assert heard == [""]
    assert late[0].content == "one two three"


def test_a_simulated_agent_has_a_story(backend):
    """The agent is simulated itself, without a node around it."""
    outcome = simulate(rt.agent_node("A", llm=ScriptedModel(["Hi"])), "Hello", backend=backend)
    check(outcome)
    assert "simulate(" in str(outcome)
