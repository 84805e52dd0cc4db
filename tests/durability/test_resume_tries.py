"""Calls that are tried again belong to one call: equal ones beside it never get its results, nor it theirs."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import WorkerLostError
from railtracks.testing import check, simulate
from railtracks.testing.faults import Executor, Kill

RETRIES = rt.Retry(attempts=3, wait_initial=1, wait_max=1, wait_jitter=0, timeout=None)


class World:
    """What the equal calls of two tasks do, and what the run ends with.

    Attributes:
        made: The tasks whose calls ran, in order.
        is_broken: Whether the step after them fails.
    """

    def __init__(self):
        self.made = []
        self.is_broken = True


world = World()


@rt.function_node(retries=RETRIES)
async def equal(x):
    """The one that is called first fails after 2 s, and then succeeds; the other one takes 5 s."""
    number = len(world.made)
    world.made.append(number)
    if number == 0:
        await anyio.sleep(2)
        raise ConnectionError
    await anyio.sleep(5)
    return f"result of call {number}"


@rt.function_node
async def last():
    if world.is_broken:
        raise ValueError("broken")


@rt.function_node
async def two_tasks():
    found = {}

    async def call(name, after):
        await anyio.sleep(after)
        found[name] = await rt.call(equal, 1)

    async with anyio.create_task_group() as group:
        group.start_soon(call, "first", 0)
        group.start_soon(call, "second", 1)
    await rt.call(last)
    return found


RESULTS = {"first": "result of call 2", "second": "result of call 1"}


@pytest.fixture(autouse=True)
def new_world():
    world.__init__()  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(3))
def test_a_new_try_does_not_get_the_result_of_an_equal_call(backend, seed):
    outcome = simulate(two_tasks, backend=backend, seed=seed)
    assert isinstance(outcome.exception, ValueError)
    assert world.made == [0, 1, 2]
    world.is_broken = False
    outcome = simulate(two_tasks, backend=backend, seed=seed, store=outcome.store, resume=outcome.info.session_id)
    check(outcome)
    assert outcome.result == RESULTS
    assert world.made == [0, 1, 2]


@pytest.mark.parametrize("after", range(4, 14))
@pytest.mark.parametrize("then", [1, 4, 7])
def test_nor_after_several_kills(backend, after, then):
    """What one attempt had completed, and another one had not come to, stays with its call."""
    world.is_broken = False
    outcome = simulate(two_tasks, backend=backend, faults=[Kill(after)])
    for faults in ([Kill(after + then)], []):
        outcome = simulate(
            two_tasks, backend=backend, faults=faults, store=outcome.store, resume=outcome.info.session_id
        )
        check(outcome)
    assert set(outcome.result) == {"first", "second"}
    tries = {each.result: each.policy for each in outcome.info.records if each.name == "equal"}
    first = tries[outcome.result["first"]]
    assert tries.keys() == {None, *outcome.result.values()}
    assert first is not None
    assert first.retry == 1


# ---- calls in workers


@rt.function_node
async def leaf():
    world.made.append("leaf")


@rt.function_node(where="pool", retries=rt.Retry(attempts=3, on=WorkerLostError, wait_initial=1, timeout=None))
async def sent():
    await rt.call(leaf)
    world.made.append("sent")
    await rt.call(last)


@pytest.mark.parametrize("after", range(1, 12))
def test_tries_whose_worker_was_lost_count_after_a_kill(backend, after):
    """The calls below them, made by an earlier attempt, belong to the next try, also if that was not made."""
    outcome = simulate(sent, backend=backend, executors={"pool": Executor()})
    assert isinstance(outcome.exception, ValueError)
    store, run = outcome.store, outcome.info.session_id
    lost: dict[int, Any] = dict.fromkeys(range(1, 20), "lose")
    faults = [Kill(after)]
    outcome = simulate(
        sent, backend=backend, executors={"pool": Executor(lost)}, faults=faults, store=store, resume=run
    )
    check(outcome)
    known = [each for each in rt.state.load_run(run, store).records if each.policy and each.policy.retried]
    outcome = simulate(sent, backend=backend, executors={"pool": Executor(lost)}, store=store, resume=run)
    check(outcome)
    assert isinstance(outcome.exception, WorkerLostError)
    tries = [each for each in outcome.info.records if each.name == "sent"]
    assert [(each.policy.retry, each.policy.retried) for each in tries] == [(0, True), (1, True), (2, False)]
    assert [each.reuse == "reused" for each in tries] == [number < len(known) for number in range(3)]
    world.is_broken = False
    outcome = simulate(sent, backend=backend, executors={"pool": Executor()}, store=store, resume=run)
    check(outcome)
    assert world.made.count("leaf") == 1
