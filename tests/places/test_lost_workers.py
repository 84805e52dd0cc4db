"""Runs that are resumed, and whose workers are lost then: what had completed does not run again."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import TransferError, WorkerLostError
from railtracks.testing import check, simulate
from railtracks.testing.faults import Executor, Kill

pytestmark = pytest.mark.either_backend  # what workers do is the same on either; trio runs with the slow tests

ran: list[str] = []


@rt.function_node
async def leaf(what):
    ran.append(what)
    if what == "bad":
        raise ValueError(what)
    return what


@rt.function_node
async def leaves(number):
    await rt.call(leaf, "good")
    return await rt.call(leaf, "bad")


@rt.function_node
def leaves_in_thread(number):
    rt.call_sync(leaf, "good")
    return rt.call_sync(leaf, "bad")


@rt.function_node
async def entry(node):
    retries = rt.Retry(attempts=5, on=(WorkerLostError, TransferError))
    return await rt.call({"async": leaves, "sync": leaves_in_thread}[node].options(where="pool", retries=retries), 1)


@pytest.mark.parametrize("node", ["async", "sync"])
@pytest.mark.parametrize("fault", ["lose", "lose_answer", "corrupt", "truncate", "corrupt_work", "refuse", "break"])
def test_calls_below_one_whose_worker_is_lost_are_replayed(backend, node, fault):
    ran.clear()
    outcome = simulate(entry, node, backend=backend, executors={"pool": Executor()})
    check(outcome)
    assert ran == ["good", "bad"]
    for _ in range(2):
        ran.clear()
        made = []

        def make(made=made):
            made.append(Executor({1: fault} if not made else {}))
            return made[-1]

        outcome = simulate(
            entry, backend=backend, executors={"pool": make}, store=outcome.store, resume=outcome.info.session_id
        )
        check(outcome)
        assert set(ran) == {"bad"}
        assert isinstance(outcome.exception, ValueError)
        assert made[0].happened == [(1, fault)]


@pytest.mark.parametrize("node", ["async", "sync"])
@pytest.mark.parametrize("after", range(12))
@pytest.mark.parametrize("durability", ["async", "sync"])
def test_they_are_replayed_after_a_kill_of_the_run_that_lost_it(backend, node, after, durability):
    ran.clear()
    options = {"backend": backend, "durability": durability}
    outcome = simulate(entry, node, executors={"pool": Executor()}, **options)
    store, run = outcome.store, outcome.info.session_id
    for executor, faults in [
        (Executor({1: "lose"}), [Kill(after)]), (Executor({1: "corrupt"}), [Kill(after)]), (Executor(), []),
    ]:  # fmt: skip
        outcome = simulate(entry, executors={"pool": executor}, store=store, resume=run, faults=faults, **options)
        check(outcome)
    assert ran.count("good") == 1
    assert isinstance(outcome.exception, ValueError)
