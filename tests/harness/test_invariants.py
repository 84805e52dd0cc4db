"""Invariants: the promise, what users add to it, and the text that shows how one was broken."""

from __future__ import annotations

from typing import Any, cast

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.state import Status
from railtracks.testing import Violation, check, invariant, invariants, simulate
from railtracks.testing.faults import Cancel, Delay, DelaySave, Fault, Kill
from railtracks.testing.trees import (
    Broadcast,
    Fatal,
    Nested,
    Parallel,
    Race,
    Raise,
    Return,
    Sequence,
    Shield,
    Sleep,
    Swallow,
    Thread,
    Try,
)


@pytest.fixture(autouse=True)
def none_registered(monkeypatch):
    monkeypatch.setattr(invariants, "_registered", [])


FLOWS = [
    Return(1),
    Raise("x"),
    Fatal("x"),
    Sequence(Sleep(1), Try(Raise("x")), Thread(1)),
    Parallel(Sleep(1), Raise("x"), Shield(3)),
    Race(Sleep(1), Thread(2), Swallow(3)),
    Nested(Parallel(Thread(1), Raise("x")), timeout=2.5),
    Sleep(1000),
]


@pytest.mark.parametrize("flow", FLOWS, ids=repr)
@pytest.mark.parametrize("plan", [[], [Fault(None, Cancel(), call=2)], [Kill(after=3)]], ids=str)
def test_the_promise_holds(backend, flow, plan):
    check(simulate(flow, backend=backend, faults=plan))
    if not plan:
        check(simulate(flow, backend=backend, end_on_error=True, timeout=2.5))


# ---- the promise, broken: outcomes that no run should have


def broken(outcome):
    with pytest.raises(Violation) as raised:
        check(outcome)
    assert raised.value.outcome is outcome
    return raised.value


def test_a_result_that_is_not_the_node_s():
    outcome = attrs.evolve(simulate(Return(1)), result=2)
    assert broken(outcome).broken == "the_caller_has_the_real_result_or_the_real_exception"


def test_an_equal_exception_is_not_the_same():
    outcome = simulate(Raise("x"))
    violation = broken(attrs.evolve(outcome, exception=type(outcome.exception)("x")))  # type: ignore[misc]
    assert violation.broken == "the_caller_has_the_real_result_or_the_real_exception"


def test_an_exception_that_was_lost():
    violation = broken(attrs.evolve(simulate(Raise("x")), exception=None))
    assert "raised TreeError('x')" in str(violation)


def test_an_exception_from_nowhere():
    broken(attrs.evolve(simulate(Return(1)), result=None, exception=ValueError("x")))


def test_a_timeout_that_came_too_soon():
    outcome = simulate(Sleep(10), timeout=5)
    outcome.calls["s0", 0].time = 4.0
    assert "timed out after 4 s, but the timeout is 5 s" in str(broken(outcome))


def test_a_timeout_that_did_not_come():
    outcome = simulate(Sleep(3), timeout=5)
    outcome.calls["s0", 0].time = 6.0
    assert "after 6 s" in str(broken(outcome))


def test_the_timeout_is_of_the_call_alone(backend):
    """Time after the call does not count."""

    async def slow(item):
        await anyio.sleep(5)

    outcome = simulate(Broadcast(1), timeout=1, broadcast_callback=slow, backend=backend)
    check(outcome)
    assert outcome.duration == 5


def test_what_was_left_behind():
    violation = broken(attrs.evolve(simulate(Return(1)), left_running=("the thread stray",)))
    assert violation.broken == "nothing_is_left_running"
    assert "left behind: the thread stray" in str(violation)


def test_a_deadlock_breaks_it_and_says_where_it_waits(backend):
    async def node():
        await anyio.Event().wait()

    violation = broken(simulate(node, backend=backend, timeout=float("inf")))
    assert violation.broken == "nothing_is_left_running"
    assert "hangs for ever" in str(violation)
    assert "node (test_invariants.py:" in str(violation)


def test_a_livelock_breaks_it_and_says_what_ran(backend):
    async def node():
        while True:
            await anyio.sleep(0)

    violation = broken(simulate(node, backend=backend, max_steps=10_000))
    assert violation.broken == "nothing_is_left_running"
    assert "the flow never ends: at 0 s of virtual time tasks run on and on" in str(violation)
    assert "running: node (test_invariants.py:" in str(violation)
    assert "> " in str(violation)  # the call is marked


def test_a_record_that_lies():
    outcome = simulate(Sequence(Return(1), Return(2)))
    lie = attrs.evolve(outcome.calls["s0", 1], outcome="raised", value=ValueError("x"))
    violation = broken(attrs.evolve(outcome, calls={**outcome.calls, ("s0", 1): lie}))
    assert violation.broken == "every_call_is_on_record_as_it_was"
    assert "Return raised ValueError('x'), but the record says Completed" in str(violation)


def test_a_record_with_another_result():
    outcome = simulate(Sequence(Return(1), Return(2)))
    lie = attrs.evolve(outcome.calls["s0", 1], value=3)
    assert "but the record has 1" in str(broken(attrs.evolve(outcome, calls={**outcome.calls, ("s0", 1): lie})))


def test_a_call_that_is_not_on_record():
    outcome = simulate(Return(1))
    extra = {**outcome.calls, ("s0", 7): outcome.calls["s0", 0]}
    assert "a call ran that is not on record" in str(broken(attrs.evolve(outcome, calls=extra)))


def test_a_file_that_says_something_else():
    outcome = simulate(Sequence(Return(1)))
    other = simulate(Sequence(Return(2)))
    sessions = (attrs.evolve(outcome.sessions[0], stored=other.sessions[0].stored),)
    assert "what was saved of session s0 is not what happened" in str(broken(attrs.evolve(outcome, sessions=sessions)))


def test_a_call_after_which_another_session_was_current():
    outcome = simulate(Return(1))
    leaked = attrs.evolve(outcome.calls["s0", 0], context_leaked=True)
    violation = broken(attrs.evolve(outcome, calls={("s0", 0): leaked}))
    assert violation.broken == "the_sessions_around_it_noticed_nothing"


# ---- the user's own


async def charge():
    await anyio.sleep(1)


def test_an_invariant_by_decorator_is_checked_for_all_runs(backend):
    seen = []

    @invariant
    def quick(outcome):
        seen.append(outcome)
        assert outcome.duration < 1

    check(simulate(Return(1), backend=backend))
    with pytest.raises(Violation) as raised:
        check(simulate(charge, backend=backend))
    assert raised.value.broken == "quick"
    assert isinstance(raised.value.__cause__, AssertionError)
    assert [outcome.duration for outcome in seen] == [0, 1]


def test_an_invariant_of_a_node_or_flow_is_checked_for_it_only(backend):
    seen = []
    flow = rt.Flow("Charging", charge)

    @invariant(of=flow)
    def of_flow(outcome):
        seen.append("flow")

    @invariant(of=charge)
    def of_node(outcome):
        seen.append("node")

    check(simulate(Return(1), backend=backend))
    check(simulate(flow, backend=backend))
    check(simulate(charge, backend=backend))
    assert seen == ["flow", "node"]


def test_an_invariant_of_a_tree_is_checked_for_that_tree(backend):
    seen = []
    tree = Return(1)
    invariant(of=tree)(seen.append)
    check(simulate(tree, backend=backend))
    check(simulate(Return(2), backend=backend))
    assert len(seen) == 1


def test_the_decorators_return_the_function():
    def mine(outcome):
        pass

    assert invariant(mine) is mine
    assert invariant(of=charge)(mine) is mine


@pytest.mark.parametrize("given", [3, "name"])
def test_what_is_not_a_function_is_refused(given):
    with pytest.raises(ConfigError, match="write `@invariant` or `@invariant\\(of=flow\\)`"):
        invariant(given)


@pytest.mark.either_backend
@pytest.mark.parametrize(("wrong", "message"), [
    (lambda: check(cast(Any, "settle")), "check: 'settle' is not an outcome; write check(simulate(flow))"),
    (
        lambda: check(simulate(Return(1)), cast(Any, 3)),
        "check: 3 is not an invariant; write check(outcome, function_of_an_outcome)",
    ),
    (
        lambda: check(simulate(Return(1)), cast(Any, invariants.ends_within)),
        (
            "ends_within: <Outcome of simulate(Return(value=1), seed=0, backend='asyncio'): "
            "returned 1 after 0 s; 4 events> is not a number of seconds; write ends_within(5)"
        ),
    ),
    (lambda: invariants.ends_within(-1), "ends_within: -1 is not a number of seconds; write ends_within(5)"),
])  # fmt: skip
def test_arguments_of_check_that_are_not_allowed(wrong, message):
    with pytest.raises(ConfigError) as raised:
        wrong()
    assert str(raised.value) == message


def test_an_invariant_passed_to_check(backend):
    def never(outcome):
        raise AssertionError

    with pytest.raises(Violation, match="never: "):
        check(simulate(Return(1), backend=backend), never)
    check(simulate(Return(1), backend=backend))


def test_a_violation_is_an_assertion_error_with_the_story(backend):
    flow = Sequence(Return(1), Sleep(2))
    outcome = simulate(flow, seed=5, backend=backend, faults=[Fault("Sleep", Delay(1))], timeout=9)

    def is_quick(outcome):
        assert outcome.duration < 3, "it took 3 s"

    with pytest.raises(AssertionError) as raised:
        check(outcome, is_quick)
    text = str(raised.value)
    assert text.startswith("is quick: it took 3 s")
    for event in outcome.trace:
        assert repr(event) in text
    assert text.endswith(outcome.code)
    assert (
        f"simulate({flow!r}, seed=5, backend={backend!r}, faults=[Fault('Sleep', Delay(1))], timeout=9)" in outcome.code
    )
    assert eval(outcome.code, {**globals()}).story == outcome.story


def test_the_story_of_a_long_run_is_cut_around_what_it_is_about():
    outcome = simulate(Sequence(*[Return(n) for n in range(100)]))
    lie = attrs.evolve(outcome.calls["s0", 50], value=-1)
    text = str(broken(attrs.evolve(outcome, calls={**outcome.calls, ("s0", 50): lie})))
    assert "events before" in text
    assert "events after" in text
    assert ">      0.000 s  s0.50 Return             completed 49" in text
    assert "s0.99 Return" not in text


# ---- those to be asked for


def test_a_store_that_is_late_does_not_count_as_the_run(backend):
    outcome = simulate(Sleep(1), backend=backend, faults=[DelaySave(5)])
    assert outcome.duration == 6
    check(outcome, invariants.ends_within(1))
    with pytest.raises(Violation, match=r"the run took 1 s, more than 0\.5 s"):
        check(outcome, invariants.ends_within(0.5))


def test_a_run_that_ends_within_its_time(backend):
    outcome = simulate(Sleep(2), backend=backend)
    check(outcome, invariants.ends_within(2))
    with pytest.raises(Violation, match="ends within 1 seconds: the run took 2 s, more than 1 s"):
        check(outcome, invariants.ends_within(1))


def test_a_node_that_swallows_a_cancellation(backend):
    async def swallows():
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            return "as if nothing had been"

    async def flow():
        return await rt.call(swallows)

    with pytest.raises(Violation, match="returned at 6 s, although it was cancelled at 5 s"):
        check(simulate(flow, backend=backend, timeout=5), invariants.passes_cancellation_on)
    check(simulate(Sequence(Sleep(100)), backend=backend, timeout=5), invariants.passes_cancellation_on)


@pytest.mark.parametrize("shielded", [True, False])
def test_calls_made_for_cleanup(backend, shielded):
    async def flow():
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=shielded):
                await rt.call(charge)

    outcome = simulate(flow, backend=backend, timeout=5)
    check(outcome)
    if shielded:
        check(outcome, invariants.is_cleaned_up)
        assert outcome.info.records[1].status is Status.COMPLETED
    else:
        with pytest.raises(Violation, match=r"put it in `with anyio\.CancelScope\(shield=True\):`"):
            check(outcome, invariants.is_cleaned_up)


class Stop(BaseException):
    """Ends a node, and is no ``Exception``."""


@pytest.mark.parametrize("end_on_error", [False, True])
@pytest.mark.parametrize("kind", [Stop, GeneratorExit, SystemExit, KeyboardInterrupt])
def test_a_base_exception_of_a_node_is_not_a_cancellation(kind, end_on_error, backend):
    error = kind("stop")

    @rt.function_node
    async def stop():
        raise error

    @rt.function_node
    async def catch():
        try:
            await rt.call(stop)
        except BaseException as exc:
            return exc is error

    caught = simulate(catch, backend=backend)
    check(caught)
    assert caught.result is True
    if kind in (Stop, GeneratorExit):
        outcome = simulate(stop, backend=backend, end_on_error=end_on_error)
        check(outcome)
        assert (outcome.exception, outcome.was_cancelled) == (error, False)
        assert outcome.end.startswith(f"raised {kind.__name__}: stop")


# ---- calls that are tried again, and calls in workers


@rt.function_node
async def fail_twice(tries):
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("lost")
    return "done"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda records: setattr(records[1], "policy", records[1].policy._replace(retry=2)), "attempt 2 is missing"),
        (
            lambda records: setattr(records[2], "policy", records[2].policy._replace(retried=True)),
            "was tried again, but",
        ),
    ],
    ids=["a missing one", "one that succeeded"],
)
def test_tries_that_do_not_follow_each_other(backend, change, text):
    outcome = simulate(fail_twice.options(retries=3), [], backend=backend, save_state=False)
    check(outcome)
    change(outcome.info.records)
    with pytest.raises(Violation, match=text):
        check(outcome)


def test_late_timers_do_not_count_as_time_that_a_run_takes(backend):
    @rt.function_node
    async def wait():
        await anyio.sleep(1)

    async def main():
        await rt.call(wait)
        await rt.call(wait)

    outcomes = [simulate(main, seed=seed, backend=backend, schedule="late timers") for seed in range(20, 60)]
    assert max(outcome.duration for outcome in outcomes) > 2
    for outcome in outcomes:
        check(outcome, invariants.ends_within(2))
