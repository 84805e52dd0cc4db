"""The promise holds for calls whose nodes have policies."""

from __future__ import annotations

import contextlib
from functools import partial

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError
from railtracks.testing import check, simulate

AGAIN = rt.Retry(attempts=4, wait_initial=0.5)
SEEDS = range(15)
tries: list[int] = []


@pytest.fixture(autouse=True)
def _no_tries():
    tries.clear()


@rt.function_node(cache=rt.Cache(ttl=5), retries=AGAIN)
async def leaf(x):
    await anyio.sleep(1)
    tries.append(x)
    if len(tries) % 3 == 1:
        raise OSError("lost")
    return x


@rt.function_node
async def cached():
    return [*await rt.call_batch(leaf, [1, 2, 1, 2, 1], return_exceptions=False), await rt.call(leaf, 1)]


@rt.function_node(retries=AGAIN)
async def again(failures):
    tries.append(1)
    if len(tries) <= failures:
        raise OSError("lost")
    return len(tries)


@pytest.mark.parametrize("end_on_error", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_calls_that_are_cached_and_tried_again(seed, backend, end_on_error):
    outcome = simulate(cached, seed=seed, backend=backend, end_on_error=end_on_error)
    check(outcome)
    assert outcome.result == [1, 2, 1, 2, 1, 1]


@pytest.mark.parametrize("end_on_error", [False, True])
@pytest.mark.parametrize("failures", [0, 2, 4])
def test_a_run_that_is_tried_again(failures, backend, end_on_error):
    outcome = simulate(again, failures, seed=1, backend=backend, end_on_error=end_on_error)
    check(outcome)
    assert outcome.result == (None if failures == 4 else failures + 1)
    assert isinstance(outcome.exception, OSError) is (failures == 4)


def test_a_run_that_times_out_between_two_attempts(backend):
    outcome = simulate(again.options(retries=rt.Retry(wait_initial=9, wait_max=9)), 9, backend=backend, timeout=5)
    check(outcome)
    assert isinstance(outcome.exception, GlobalTimeOutError)


def test_a_run_whose_result_is_cached(backend):
    @rt.function_node(cache=rt.Cache(scope="store"), key="whole")
    async def whole(x):
        tries.append(x)
        return x

    store = rt.state.MemoryStore()
    for _ in range(2):
        outcome = simulate(whole, 1, backend=backend, store=store)
        check(outcome)
        assert outcome.result == 1
    assert tries == [1]


@rt.function_node(timeout=5)
def in_thread(number):
    anyio.from_thread.run(anyio.sleep, 2)
    return number


def test_a_wait_for_a_worker_thread_is_part_of_the_promise(backend):
    outcome = simulate(partial(rt.call_batch, in_thread), range(4), backend=backend, max_threads=1)
    check(outcome)
    assert outcome.result == [0, 1, 2, 3]
    assert outcome.duration == pytest.approx(8)


def test_a_call_that_was_cancelled_as_it_waited_for_a_thread(backend):
    @rt.function_node
    async def first(_):
        await anyio.sleep(1)
        raise OSError("lost")

    @rt.function_node
    async def both():
        await rt.call_batch(rt.call, [in_thread, in_thread, first], range(3), return_exceptions=False)

    outcome = simulate(both, backend="asyncio", max_threads=1, end_on_error=True)
    assert any(record.policy and record.policy.waiting for record in outcome.info.records)
    check(outcome)


@rt.function_node(retries=rt.Retry(attempts=2, wait_initial=1, wait_jitter=0))
async def item_again(number):
    tries.append(number)
    if number == 3 or tries.count(number) == 1:
        raise OSError(f"lost {number}")


@rt.function_node(limit=rt.Limit("harness of few records", concurrency=1, wait=False))
async def item_refused(number):
    await anyio.sleep(1)


@pytest.mark.parametrize("item", [item_again, item_refused])
@pytest.mark.parametrize("keep_records", ["failures", "summary"])
def test_what_ends_a_session_may_not_be_on_record(backend, item, keep_records):
    @rt.function_node
    async def batch():
        await rt.call_batch(item, range(4), keep_records=keep_records)

    outcome = simulate(batch, backend=backend, end_on_error=True)
    assert outcome.exception is not None
    check(outcome)


@pytest.mark.parametrize("handles", [False, True])
def test_what_ends_a_session_may_come_from_a_worker(backend, handles):
    @rt.function_node
    async def fails():
        raise OSError("lost")

    @rt.function_node(where="thread")
    async def sent():
        with contextlib.suppress(OSError if handles else ZeroDivisionError):
            await rt.call(fails)

    @rt.function_node
    async def calls():
        await rt.call(sent)

    outcome = simulate(calls, backend=backend, end_on_error=True)
    assert isinstance(outcome.exception, OSError)
    check(outcome)
