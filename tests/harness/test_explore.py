"""``explore`` runs a small flow in all orders, and says whether these were all."""

from __future__ import annotations

import itertools

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import Fault, Violation, VirtualClock, explore, simulate
from railtracks.testing.faults import Delay


def together(*functions):
    """Return a node that runs the functions at one time, with a list that it returns."""

    async def main():
        log = []
        async with anyio.create_task_group() as group:
            for function in functions:
                group.start_soon(function, log)
        return log

    return main


def writes(name, times=2):
    async def write(log):
        for number in range(times):
            if number:
                await anyio.sleep(0)
            log.append(f"{name}{number}")

    return write


def results_of(target, *args, **options):
    """Explore ``target``, and return its results beside what was explored."""
    results = set()

    def note(outcome):
        results.add(tuple(outcome.result))

    return results, explore(target, *args, invariants=[note], **options)


# ---- all orders


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_tasks_of_one_step_run_in_each_order(backend, tasks):
    names = "abcd"[:tasks]
    results, explored = results_of(together(*(writes(name, 1) for name in names)), backend=backend)
    assert results == set(itertools.permutations([f"{name}0" for name in names]))
    assert explored.is_complete
    assert explored.orders == len(results)


def test_tasks_of_two_steps_take_them_in_turns_in_each_order(backend):
    results, explored = results_of(together(writes("a"), writes("b")), backend=backend)
    assert results == {
        first + second for first in [("a0", "b0"), ("b0", "a0")] for second in [("a1", "b1"), ("b1", "a1")]
    }
    assert str(explored) == f"all 4 orders, in {explored.runs} runs; no violation"


@pytest.mark.slow
def test_it_finds_what_simple_seeds_find_and_no_other_result(backend):
    async def join(state, me):
        if "leader" not in state:
            await anyio.sleep(0)
            state["leader"] = me
            state["elected"].append(me)

    async def main():
        state = {"elected": []}
        await rt.call_batch(join, [state] * 2, range(2))
        return state["elected"]

    results, explored = results_of(main, backend=backend)
    assert explored.is_complete
    assert {tuple(simulate(main, seed=seed, backend=backend).result) for seed in range(20)} <= results
    assert results == {(0,), (1,), (0, 1), (1, 0)}


def test_calls_that_begin_a_little_later_are_tried():
    async def leaf(number, log):
        log.append(number)

    async def main():
        log = []
        await rt.call_batch(leaf, range(2), [log] * 2)  # type: ignore[arg-type]
        return log

    results, explored = results_of(main)
    assert results == {(0, 1), (1, 0)}
    assert (explored.is_complete, explored.orders) == (True, 2)


def test_the_turns_of_threads_are_tried(backend):
    @rt.function_node
    def work(number, log):
        log.append(number)

    async def main():
        log = []
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(rt.call, work, number, log)
        return log

    results, _ = results_of(main, backend=backend, max_runs=40)
    assert results == {(0, 1), (1, 0)}


def test_it_is_the_same_each_time(backend):
    def stories():
        found = []
        explore(together(writes("a"), writes("b")), invariants=[lambda o: found.append(o.result)], backend=backend)
        return found

    assert stories() == stories()


def test_a_flow_that_does_one_thing_after_another_has_one_order():
    async def leaf():
        await anyio.sleep(1)

    async def main():
        for _ in range(5):
            await rt.call(leaf)

    explored = explore(main)
    assert (explored.is_complete, explored.orders) == (True, 1)


# ---- what it finds


def first_is_a(outcome):
    assert outcome.result[0] == "a0", f"{outcome.result}"


def test_check_raises_the_first_violation():
    explored = explore(together(writes("a", 1), writes("b", 1)), invariants=[first_is_a])
    assert explored.is_complete
    assert explored.failed == explored.runs // 2
    with pytest.raises(Violation, match="first is a") as raised:
        explored.check()
    assert raised.value.outcome.result == ["b0", "a0"]
    assert raised.value.__notes__ == [f"the exploration: {explored}"]
    assert str(explored) == f"all 2 orders, in {explored.runs} runs; {explored.failed} of them broke an invariant"
    assert repr(explored) == f"<Exploration: {explored}>"


def test_check_does_nothing_if_no_order_breaks_an_invariant():
    explore(together(writes("a", 1), writes("b", 1))).check()


def test_setup_is_called_before_each_run():
    made = []

    async def main():
        made.append(1)
        assert len(made) == 1
        await together(writes("a", 1), writes("b", 1))()

    explored = explore(main, setup=made.clear, invariants=[lambda outcome: outcome.unwrap()])
    explored.check()
    assert explored.runs > 1


def test_many_violations_are_counted_and_some_are_kept():
    def never(outcome):
        raise AssertionError("never")

    explored = explore(together(*(writes(name, 1) for name in "abcd")), invariants=[never])
    assert (explored.failed, len(explored.violations)) == (explored.runs, 20)


# ---- when these are not all


def test_too_many_orders():
    explored = explore(together(*(writes(name, 3) for name in "abc")), max_runs=30)
    assert not explored.is_complete
    assert explored.runs == 30
    assert explored.why_not == "more than max_runs=30 runs are needed"
    assert str(explored).endswith("no violation; not all orders: more than max_runs=30 runs are needed")


def test_faults_with_a_probability():
    explored = explore(together(), faults=[Fault(None, Delay(1), probability=0.5)])
    assert explored.why_not == "the plan has faults with a probability, of which one way was tried"


def test_a_world_in_which_something_else_decides():
    explored = explore(together(writes("a"), writes("b")), world="real")
    assert not explored.is_complete
    assert explored.why_not == (
        "something else decided as well: clocks, chance and threads of user code, as the world is real"
    )


def test_a_run_that_something_else_decides():
    runs = itertools.count()

    async def main():
        await together(*(writes(name, 1) for name in "abc"[: 3 - next(runs)]))()

    explored = explore(main)
    assert explored.why_not == "the same decisions led to another run, so something else decides as well"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 3}, "explore: seed=3 is not allowed: every order is tried; leave it out"),
        ({"clock": VirtualClock()}, "explore: clock=VirtualClock() is not allowed: each run has its own; leave it out"),
        ({"max_runs": 0}, "explore: max_runs is 0; use a whole number of at least 1"),
        ({"setup": 1}, "explore: setup is 1; use a function without arguments"),
        ({"invariants": ["x"]}, "explore: 'x' is not an invariant; write invariants=[function_of_an_outcome]"),
        ({"backend": "curio"}, "backend is 'curio'; use 'asyncio' or 'trio'"),
    ],
)
def test_arguments_that_are_not_allowed(options, message):
    with pytest.raises(ConfigError) as raised:
        explore(together(), **options)
    assert str(raised.value) == message
