"""fault_plans: what it draws, by itself and after the example of a run; and that it finds what goes wrong late."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import ProcessKilled, Violation, check, resume, simulate
from railtracks.testing.faults import Cancel, Delay, Fault, Hang, Kill, LoseWorker, Raise, Return
from railtracks.testing.strategies import fault_plans, seeds
from tests.effort import examples


def finds(plans, test, count=1000):
    """Return whether a test that is given plans and seeds fails within so many examples."""

    @settings(max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(plans, seeds())
    def tried(faults, seed):
        test(faults, seed)

    try:
        tried()
    except Violation:
        return True
    return False


def is_drawn(plans, condition):
    try:
        find(
            plans,
            lambda plan: any(map(condition, plan)),
            settings=settings(max_examples=200, database=None, derandomize=True),
        )
    except NoSuchExample:
        return False
    return True


@rt.function_node
async def step(number):
    await anyio.sleep(2)


@rt.function_node
async def flow():
    await step(0)
    with anyio.move_on_after(30):
        await rt.call_batch(step, range(3))


KINDS = [
    (lambda fault: isinstance(fault, Fault) and isinstance(fault.does, Hang | LoseWorker), {"hang": True}),
    (lambda fault: isinstance(fault, Fault) and isinstance(fault.does, Return), {"returns": {"step": 3}}),
    (lambda fault: isinstance(fault, Kill), {"kill": True}),
]


@pytest.mark.parametrize(("condition", "options"), KINDS, ids=["hang", "returns", "kill"])
def test_what_breaks_right_flows_is_drawn_on_demand(condition, options):
    assert not is_drawn(fault_plans(["step"]), condition)
    assert is_drawn(fault_plans(["step"], **options), condition)


def test_it_returns_what_it_was_given():
    value = find(fault_plans(["other"], returns={step: 3}), lambda plan: any(fault.node == "step" for fault in plan))
    assert value == [Fault("step", Return(3), call=1)]


@pytest.mark.parametrize("condition", [
    lambda fault: isinstance(fault, Fault) and fault.call == 7,
    lambda fault: isinstance(fault, Fault) and isinstance(fault.does, Delay) and fault.does.seconds > 20,
    lambda fault: isinstance(fault, Kill) and fault.after > 20,
], ids=["late call", "long delay", "late kill"])  # fmt: skip
def test_the_ranges_that_are_guessed_are_wide(condition):
    assert is_drawn(fault_plans(["step"], kill=True), condition)


@examples(100)
@given(st.data())
def test_a_plan_after_the_example_of_a_run_fits_it(data):
    like = data.draw(st.sampled_from(CLEAN))
    plan = data.draw(fault_plans(like=like, kill=True, store=False))
    assert len(plan) <= 3
    for fault in plan:
        if isinstance(fault, Kill):
            assert fault.after < len(like.trace)
        else:
            assert fault.node == "step" or (fault.node == "flow" and isinstance(fault.does, Cancel))
            assert fault.call in (None, 1, 2, 3)
            if isinstance(fault.does, Delay):
                assert fault.does.seconds in (0.2, 1, 2.2, 4.4, 31, 60, 151)


CLEAN = [simulate(flow, backend=backend) for backend in ("asyncio", "trio")]


def test_calls_that_ran_at_one_time_fail_together():
    plan = find(fault_plans(like=CLEAN[0]), lambda plan: len(plan) == 2 and _both_raise(plan))
    assert [fault.call for fault in plan] == [1, 2]


def _both_raise(plan):
    return all(isinstance(fault, Fault) and isinstance(fault.does, Raise) and fault.call for fault in plan)


def test_cancellations_in_the_run_itself_are_drawn():
    @rt.function_node
    async def waits():
        await anyio.sleep(1)
        await rt.call(step, 0)

    cancelled = Fault("waits", Cancel(0.5), call=1)
    assert is_drawn(fault_plans(like=waits), lambda fault: fault == cancelled)
    assert not is_drawn(fault_plans([step], like=waits), lambda fault: fault == cancelled)


@pytest.mark.parametrize("like", [3, simulate(step, 1)], ids=["no outcome", "no calls"])
def test_an_example_that_is_of_no_use_is_refused(like):
    with pytest.raises(ConfigError, match=r"use a flow or an outcome|made no call"):
        fault_plans(like=like)


@pytest.mark.either_backend
@pytest.mark.parametrize(
    "wrap", [lambda node: node, lambda node: rt.Flow("Like", entry_point=node)], ids=["node", "flow"]
)
def test_a_flow_is_run_once_in_place_of_an_outcome(wrap):
    ran = []

    @rt.function_node
    async def counted():
        ran.append(1)
        await rt.call(flow)

    given = repr(fault_plans(like=wrap(counted)))
    assert ran == [1]
    assert given == repr(fault_plans(like=simulate(counted)))
    assert given != repr(fault_plans())


@pytest.mark.either_backend
def test_a_flow_that_fails_is_no_example():
    @rt.function_node
    async def needs(number):
        return number

    with pytest.raises(ConfigError, match=r"the run of like raised TypeError.*; write like=simulate\(flow, \.\.\.\)"):
        fault_plans(like=needs)


# ---- what it finds


def test_no_kind_of_fault_is_drawn_for_most_examples():
    """Hypothesis prefers some numbers; a choice among kinds must not follow it."""
    kinds: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(fault_plans(["step", "other"], kill=True))
    def draw(plan):
        kinds[" ".join(sorted({type(getattr(fault, "does", fault)).__name__ for fault in plan}))] += 1

    draw()
    assert kinds[""] < 60
    assert kinds["Kill"] > 80
    assert kinds["Raise"] > 60
    assert kinds["Delay"] > 20


def seventh_call():
    @rt.function_node
    async def page(number):
        return number

    @rt.function_node
    async def pages():
        got = []
        for number in range(8):
            try:
                got.append(await rt.call(page, number))
            except ConnectionError:
                if number == 6:
                    break
                raise
        return got

    def whole(outcome):
        assert outcome.exception or len(outcome.result) == 8

    return pages, whole


def late_step():
    mails = []

    @rt.function_node
    async def mail(number):
        if number == 10:
            mails.append(number)

    @rt.function_node
    async def mails_of_a_day():
        for number in range(11):
            await rt.call(mail, number)

    def once(outcome):
        assert len(mails) <= 1

    return mails_of_a_day, once


@pytest.mark.parametrize("guessed", [True, False], ids=["guessed", "like"])
@pytest.mark.slow
@pytest.mark.parametrize("make", [seventh_call, late_step])
def test_it_finds_what_goes_wrong_late(make, guessed):
    options: dict[str, Any] = {"kill": True} if make is late_step else {}
    options |= {"nodes": ["page", "mail"]} if guessed else {"like": simulate(make()[0])}

    def test(faults, seed):
        broken, rule = make()
        outcome = simulate(broken, seed=seed, faults=faults)
        check(outcome, rule)
        if isinstance(outcome.exception, ProcessKilled):
            check(resume(outcome), rule)

    assert finds(fault_plans(**options), test)
