"""The promise holds for calls whose nodes have policies."""

from __future__ import annotations

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
