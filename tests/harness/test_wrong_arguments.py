"""Wrong arguments of the harness are errors that say what came, and what to write."""

from __future__ import annotations

import functools
import math
from typing import Any

import hypothesis.strategies as st
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, NodeCreationError
from railtracks.testing import (
    Cassette,
    Fault,
    ScriptedModel,
    ScriptError,
    Violation,
    VirtualClock,
    check,
    compare,
    explore,
    invariant,
    linearizable,
    operation,
    replay,
    resume,
    run,
    simulate,
    simulate_restarts,
    sweep,
    tool_call,
)
from railtracks.testing.faults import Hang, Network
from railtracks.testing.invariants import is_determined
from railtracks.testing.strategies import fault_plans, flows, model_faults, networks, policies

pytestmark = pytest.mark.either_backend


@rt.function_node
async def double(number, *, times=1):
    return 2 * number * times


@rt.function_node
async def refund(number):
    return -number


@rt.function_node
async def work(number=1):
    return await rt.call(double, number)


flow = rt.Flow("Work", entry_point=work)


class Doubled:
    def init(self):
        return 0

    def apply(self, state, operation, args):
        return state, 2 * args[0]


@pytest.fixture(scope="module")
def outcome():
    return simulate(work)


async def is_async(outcome=None):
    raise AssertionError("it is never awaited")


def refused(text, function, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        function(*args, **kwargs)
    assert text in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("function", "targets", "options", "why"),
    [
        (sweep, [work], {"faults": [Hang()]}, "sweep: faults=[Hang()] is not allowed: it injects its own"),
        (sweep, [work], {"clock": VirtualClock()}, "sweep: clock=VirtualClock() is not allowed: each run has its own"),
        (compare, [work, work], {"clock": VirtualClock()}, "compare: clock=VirtualClock() is not allowed: each run"),
        (compare, [work, work], {"seed": 3}, "compare: seed=3 is not allowed: seeds says which ones are tried"),
    ],
)
def test_options_that_many_runs_cannot_have_are_refused(function, targets, options, why):
    refused(why, function, *targets, **options)


# ---- names of nodes


@pytest.mark.parametrize("names", [{"nodes": ["double", "doublee"]}, {"returns": {"doublee": 1}}])
def test_sweep_refuses_a_name_that_no_node_has(names):
    text = "sweep: no node 'doublee' was called; did you mean 'double'? These ran: 'work', 'double'"
    refused(text, sweep, work, max_runs=2, **names)


def test_sweep_takes_a_node_that_may_be_called_later():
    assert "refund: not called" in sweep(work, nodes=[double, refund], max_runs=2).left_out


def test_sweep_refuses_results_of_a_node_that_is_left_out():
    refused("returns has 'work', at which nothing goes wrong", sweep, work, returns={"work": 3}, max_runs=2)
    assert sweep(work, nodes=[work], returns={"work": 3}, pairs=0, kills=False).tried["a call returns something else"]


@pytest.mark.parametrize("names", [["doublee"], ["double", "worrk"], ["nothing like it"]])
def test_linearizable_refuses_a_name_that_nothing_has(names):
    @rt.function_node
    async def worrk_():
        return 0

    @rt.function_node
    async def both():
        await rt.call(worrk_)
        return await rt.call(double, 1)

    outcome = simulate(both)
    refused("was called", check, outcome, linearizable(Doubled, nodes=names))


def test_linearizable_takes_names_that_are_not_called_this_time(outcome):
    check(outcome, linearizable(Doubled, nodes=["double", "read"]))
    check(outcome, linearizable(Doubled, nodes=[refund]))
    check(simulate(double, 1), linearizable(Doubled, nodes=["read", "write"]))  # it has called nothing
    broken = simulate(work, faults=[Fault("work", Hang())], timeout=1)
    check(broken, linearizable(Doubled, nodes=["doublee"]))  # it came to nothing


# ---- functions


@pytest.mark.parametrize("returned", [7, None, (1, 2, 3), [1, 2]])
def test_a_model_must_return_a_pair(outcome, returned):
    class Wrong(Doubled):
        def apply(self, state, operation, args):
            return returned

    refused("`return state, result`", check, outcome, linearizable(Wrong, nodes=[double]))


def test_an_async_model_is_refused(outcome):
    class Wrong(Doubled):
        async def apply(self, state, operation, args):
            return state, 0

    model: Any = Wrong
    refused("`return state, result`", check, outcome, linearizable(model, nodes=[double]))


def test_async_functions_are_refused_where_nothing_awaits_them(outcome):
    for function, arguments in (
        (check, {}), (sweep, {"setup": is_async}), (sweep, {"restart": is_async}), (sweep, {"invariants": [is_async]}),
        (explore, {"setup": is_async}), (explore, {"invariants": [is_async]}), (compare, {"by": is_async}),
    ):  # fmt: skip
        args = (outcome, is_async) if function is check else (work, work)[: 1 + (function is compare)]
        refused("is async, and would not be awaited", function, *args, **arguments)
    refused("is async", linearizable, Doubled, nodes=[double], key=is_async)
    refused("is async", invariant, is_async)
    refused("is async", invariant(of=work), is_async)


@pytest.mark.parametrize("answer", [True, False])
def test_an_invariant_asserts_and_does_not_answer(outcome, answer):
    refused(f"returned {answer}, which means nothing; write `assert ...`", check, outcome, lambda _: answer)


@pytest.mark.parametrize("wrong", [None, 5, "x", [work]])
def test_what_is_no_flow_is_refused(wrong, outcome, tmp_path):
    simulate(work).save_replay(path := tmp_path / "run.json")
    ways: list[Any] = [simulate, explore, sweep, functools.partial(replay, path), functools.partial(compare, work)]
    for function in ways:
        for target in (wrong, outcome):
            with pytest.raises(NodeCreationError, match="is not a node"):
                function(target)
    for of_outcome in (resume, check):
        refused("is not an outcome", of_outcome, wrong)
    refused("is not an async function", run, wrong)
    if wrong is not None:
        refused("invariant: of is", invariant, of=wrong)


def test_coroutines_are_refused_where_functions_are_expected():
    refused("run: the coroutine of is_async(...) is not a function; write run(is_async, ...)", run, is_async())
    with pytest.raises(NodeCreationError, match="not the coroutine of is_async"):
        simulate(is_async())  # type: ignore[arg-type]
    refused("sweep: setup is", sweep, work, setup=is_async())
    refused("is not async; write `async def`", run, lambda: 3)


# ---- options


def test_keyword_arguments_of_a_flow_are_bound():
    text = "'times' is an argument of double, and no option; bind it: simulate(functools.partial(double, times=...))"
    for function in (
        simulate,
        explore,
        sweep,
        compare,
        lambda *args, **options: [*simulate_restarts(*args, **options)],
    ):
        args = (double, double, 3) if function is compare else (double, 3)
        refused(text, function, *args, times=2)
    refused("'number' is an argument of work, and no option; pass it by position", simulate, flow, number=2)
    assert simulate(functools.partial(double, times=2), 3).result == 12


@pytest.mark.parametrize(("wrong", "right"), [("seeds", "seed"), ("fault", "faults"), ("timeoutt", "timeout")])
def test_a_misspelt_option_names_the_right_one(wrong, right):
    refused(f"there is no option {wrong!r}; did you mean {right!r}?", simulate, work, **{wrong: 1})


@pytest.mark.parametrize("wrong", [None, -1, 1.5, math.nan, math.inf, True, "1", []])
def test_numbers_are_validated(wrong):
    for name in ("pairs", "max_runs"):
        refused(f"sweep: {name} is {wrong!r}", sweep, work, **{name: wrong})
    refused(f"explore: max_runs is {wrong!r}", explore, work, max_runs=wrong)
    refused(f"fault_plans: max_size is {wrong!r}", fault_plans, max_size=wrong)
    refused(f"networks: messages is {wrong!r}", networks, messages=wrong)
    refused(f"model_faults: requests is {wrong!r}", model_faults, requests=wrong)
    refused(f"flows: max_leaves is {wrong!r}", flows, max_leaves=wrong)


@pytest.mark.parametrize("wrong", [None, -1, math.nan, math.inf, True, "1", []])
def test_a_clock_jumps_by_seconds_only(wrong):
    refused(f"jump: {wrong!r} is not a number of seconds", VirtualClock().jump, wrong)


@pytest.mark.parametrize("wrong", [None, 1, "yes", []])
def test_flags_are_validated(wrong):
    for name in ("hang", "kills"):
        refused(f"sweep: {name} is {wrong!r}; use True or False", sweep, work, **{name: wrong})
    for name in ("store", "kill", "lease", "hang"):
        refused(f"fault_plans: {name} is {wrong!r}; use True or False", fault_plans, **{name: wrong})
    for name in ("jumps", "hold_for_sockets"):
        refused(f"VirtualClock: {name} is {wrong!r}; use True or False", VirtualClock, **{name: wrong})


def test_lists_are_validated():
    for wrong in (None, 5, "x"):
        refused("exceptions is", sweep, work, exceptions=wrong)
        refused("exceptions is", fault_plans, exceptions=wrong)
        refused("members is", networks, wrong)
        refused("places is", policies, wrong)
        refused("kinds is", model_faults, wrong)
        refused("seeds is", compare, work, work, seeds=wrong)
        refused("partitions is", Network, partitions=wrong)
    for each in (5, "x", [5]):
        refused("returns is", sweep, work, returns=each)
        refused("returns is", fault_plans, returns=each)
    refused("5 is not an exception", fault_plans, exceptions=[5])
    refused("exceptions is empty", fault_plans, exceptions=[])
    refused("5 is not the name of a member", networks, [5, "a"])
    refused("there is no fault 'x'", model_faults, ["x"])
    refused("schedule is ['shuffled']", simulate, work, schedule=["shuffled"])
    none: list[Any] = [None, 5, "Hello."]
    for answers in none:
        with pytest.raises(ScriptError, match="write a list"):
            ScriptedModel(answers)


@pytest.mark.parametrize("wrong", [None, 5, []])
def test_models_for_tests_say_what_they_need(wrong):
    given: Any = wrong
    refused("Cassette: the path is", Cassette, given)
    if wrong is not None:
        refused("is not a model; write Cassette('x.json', model)", Cassette, "x.json", given)
    with pytest.raises(ScriptError, match="is not the name of a tool"):
        tool_call(given)


@pytest.mark.parametrize("wrong", [None, 5, []])
def test_the_name_of_an_operation_is_a_string(wrong):
    def mark():
        with operation(wrong):
            raise AssertionError("it is not entered")

    refused("is not a name; write operation('read', ...)", mark)


# ---- texts


def test_what_is_not_determined_stands_in_a_violation_once():
    with pytest.raises(Violation) as caught:
        check(simulate(work, world="real"), is_determined)
    assert str(caught.value).count("as the world is real") == 1


def test_the_time_of_a_run_stands_before_the_text_of_its_error():
    @rt.function_node
    async def fails():
        raise ValueError("the card was refused; ask for another one")

    outcome = simulate(fails)
    assert "raised ValueError after 0 s: the card was refused; ask for another one" in str(outcome)
    assert outcome.end == "raised ValueError: the card was refused; ask for another one"


def test_right_arguments_are_taken():
    for strategy in (fault_plans(returns={"a": 1}), networks({"a", "b"}), policies(["thread"]), flows(1)):
        assert isinstance(strategy, st.SearchStrategy)
