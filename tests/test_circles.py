"""Calls that would wait for each other for ever: for slots of limits, and for equal calls that are cached."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._concurrency import _wait_graph
from railtracks.exceptions import LimitExceededError
from railtracks.state import Status
from tests import virtual
from tests.effort import examples


@pytest.fixture(autouse=True)
def _no_waits_are_left():
    yield
    assert _wait_graph._waits == {}


async def together(*calls):
    """Make calls at almost the same time, in their order. Return their results, or exceptions."""
    results: list[Any] = [None] * len(calls)

    async def make(position, call):
        await anyio.sleep(position / 1000)
        try:
            results[position] = await call()
        except Exception as exc:
            results[position] = exc

    async with anyio.create_task_group() as group:
        for position, call in enumerate(calls):
            group.start_soon(make, position, call)
    return results


# ---- a limit and a cache


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_equal_call_that_waits_for_my_limit_is_not_waited_for(scope):
    """The cached call comes first, and waits for the slot whose holder comes to the same call."""
    limit = rt.Limit("api", concurrency=1)

    @rt.function_node(limit=limit)
    async def ask(number):
        return number

    @rt.function_node(cache=rt.Cache(scope=scope))
    async def known(number: int) -> int:
        await anyio.sleep(1)
        return await rt.call(ask, number)

    @rt.function_node(limit=limit)
    async def holder():
        await anyio.sleep(2)  # until the other one waits for the limit
        return await rt.call(known, 7)

    async with rt.Session(timeout=60):
        assert await together(partial(rt.call, holder), partial(rt.call, known, 7)) == [7, 7]
        assert anyio.current_time() < 10


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_call_that_waits_goes_on_when_its_limit_is_wanted(scope):
    """The holder of the slot waits for an equal call, which comes to the same limit later."""
    limit = rt.Limit("api", concurrency=1)

    @rt.function_node(limit=limit)
    async def ask(number):
        return number

    @rt.function_node(cache=rt.Cache(scope=scope))
    async def known(number: int) -> int:
        await anyio.sleep(2)
        return await rt.call(ask, number)

    @rt.function_node(limit=limit)
    async def holder():
        await anyio.sleep(1)  # until the equal call has begun
        return await rt.call(known, 7)

    async with rt.Session(timeout=60) as session:
        assert await together(partial(rt.call, known, 7), partial(rt.call, holder)) == [7, 7]
        assert anyio.current_time() < 10
    own = [each for each in session.info.records if each.name == "known" and each.parent is not None]
    assert [(each.status, each.policy.cached) for each in own] == [(Status.COMPLETED, None)]
    assert own[0].policy.waited == pytest.approx(1, abs=0.1)


async def test_max_concurrency_and_a_cache_do_not_block_each_other():
    @rt.function_node(cache=True)
    async def known(number: int) -> int:
        await anyio.sleep(1)
        return number

    @rt.function_node
    async def caller():
        await anyio.sleep(1)
        return await rt.call(known, 7)

    async with rt.Session(timeout=60, max_concurrency=1):
        assert await together(partial(rt.call, caller), partial(rt.call, known, 7)) == [7, 7]
        assert anyio.current_time() < 10


async def test_only_as_many_calls_run_twice_as_have_to():
    """Of two calls that wait, one alone is in the circle; the other one gets the result."""
    runs = []
    limit = rt.Limit("api", concurrency=1)

    @rt.function_node(limit=limit)
    async def ask(number):
        return number

    @rt.function_node(cache=True)
    async def known(number: int) -> int:
        runs.append(number)
        await anyio.sleep(2)
        return await rt.call(ask, number)

    @rt.function_node(limit=limit)
    async def holder():
        return await rt.call(known, 7)

    async with rt.Session(timeout=60):
        calls = [partial(rt.call, known, 7), partial(rt.call, holder), partial(rt.call, known, 7)]
        assert await together(*calls) == [7, 7, 7]
    assert len(runs) == 2


async def test_wait_beside_a_free_slot_is_no_circle():
    """One of the two holders just runs, so the others get their turn in time."""
    limit = rt.Limit("api", concurrency=2)
    runs = []

    @rt.function_node(limit=limit)
    async def ask(number):
        await anyio.sleep(5)
        return number

    @rt.function_node(cache=True)
    async def known(number: int) -> int:
        runs.append(number)
        await anyio.sleep(2)
        return await rt.call(ask, number)

    @rt.function_node(limit=limit)
    async def holder():
        return await rt.call(known, 7)

    async with rt.Session(timeout=60):
        calls = [partial(rt.call, ask, 1), partial(rt.call, known, 7), partial(rt.call, holder)]
        assert await together(*calls) == [1, 7, 7]
    assert runs == [7]


def test_circle_over_two_event_loops_is_noticed(backend):
    """The slot is held in one thread, and wanted in another."""
    limit = rt.Limit("api", concurrency=1)
    holds, wants = threading.Event(), threading.Event()

    @rt.function_node(limit=limit)
    async def ask(number):
        return number

    @rt.function_node(cache=rt.Cache(scope="store"))
    async def known(number: int) -> int:
        holds.wait(10)
        wants.set()
        return await rt.call(ask, number)

    @rt.function_node(limit=limit)
    async def holder():
        holds.set()
        wants.wait(10)
        return await rt.call(known, 7)

    results = []

    def run(node, *args):
        async def main():
            async with rt.Session(timeout=20):
                return await rt.call(node, *args)

        results.append(anyio.run(main, backend=backend))

    threads = [threading.Thread(target=run, args=each) for each in [(known, 7), (holder,)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [7, 7]


# ---- limits alone


def both_ways(**options):
    api, base = rt.Limit("api", concurrency=1, **options), rt.Limit("base", concurrency=1, **options)

    @rt.function_node(limit=api)
    async def load(depth):
        await anyio.sleep(1)
        return await rt.call(store, depth - 1) if depth else "loaded"

    @rt.function_node(limit=base)
    async def store(depth):
        await anyio.sleep(1)
        return await rt.call(load, depth - 1) if depth else "stored"

    return load, store


async def test_two_limits_that_block_each_other_are_an_error():
    load, store = both_ways()
    async with rt.Session(timeout=60) as session:
        first, second = await together(partial(rt.call, load, 1), partial(rt.call, store, 1))
        assert anyio.current_time() < 10
    assert (first, second.limit) == ("stored", "api")
    assert type(second) is LimitExceededError
    assert "would wait for ever for the limit api" in str(second)
    assert "store for the limit base" in str(second)
    assert "load for the limit api" in str(second)
    assert session.info.records[-1].policy.waiting == "limit api"


async def test_circle_with_a_wait_that_ends_is_left_to_that():
    load, store = both_ways(wait=5)
    async with rt.Session(timeout=60):
        results = await together(partial(rt.call, load, 1), partial(rt.call, store, 1))
        assert 6 <= anyio.current_time() < 8
    assert any("it has waited 5 s" in str(each) for each in results)


async def test_circle_that_the_end_of_a_call_closes_is_noticed():
    """A call lends its slot to one below it, while another one below it waits. Then the slot comes back."""
    api, base = rt.Limit("api", concurrency=1), rt.Limit("base", concurrency=1)

    @rt.function_node(limit=api)
    async def small(seconds):
        await anyio.sleep(seconds)

    @rt.function_node(limit=base)
    async def other():
        await anyio.sleep(1)
        await rt.call(small, 0)  # waits for the slot of `parent`, which that lends to another one
        return "other"

    @rt.function_node(limit=base)
    async def wanting():
        return "wanted"

    @rt.function_node(limit=api)
    async def parent():
        await anyio.sleep(0.5)  # until the other limit is taken
        return await together(partial(rt.call, small, 5), partial(rt.call, wanting))

    async with rt.Session(timeout=60):
        first, second = await together(partial(rt.call, parent), partial(rt.call, other))
        assert anyio.current_time() < 10
    errors = [each for each in [*first, second] if isinstance(each, Exception)]
    assert [type(each) for each in errors] == [LimitExceededError]


# ---- any program


LIMITS = [None, "own", "api", "base"]


@st.composite
def programs(draw, limits):
    """Draw nodes, each with its limit, whether it is cached, and what it does: sleep, and call nodes that come later.

    Calls are made one by one, or together.
    """
    count = draw(st.integers(2, 5))
    nodes = []
    for index in range(count):
        later = st.integers(index + 1, count - 1) if index + 1 < count else st.nothing()
        step = st.one_of(st.sampled_from([0, 1, 2]), st.lists(later, min_size=1, max_size=3))
        steps = draw(st.lists(step if index + 1 < count else st.sampled_from([0, 1, 2]), max_size=3))
        nodes.append((draw(st.sampled_from(limits)), draw(st.booleans()), steps))
    calls = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    return nodes, calls


async def run_program(nodes, calls, concurrency, max_concurrency):
    shared = {name: rt.Limit(name, concurrency=concurrency) for name in LIMITS[2:] if name}
    made = []

    def make(index, limit, is_cached, steps):
        async def node(index: int) -> int:
            for step in steps:
                if isinstance(step, int):
                    await anyio.sleep(step)
                else:
                    results = await together(*(partial(rt.call, made[each], each) for each in step))
                    for each in results:
                        if isinstance(each, Exception):
                            raise each
            return index

        return rt.function_node(
            node, name=f"node{index}", cache=is_cached, limit=concurrency if limit == "own" else shared.get(limit)
        )

    made += [make(index, *each) for index, each in enumerate(nodes)]
    async with rt.Session(timeout=1000, max_concurrency=max_concurrency, logging_setting="NONE", save_state=False):
        results = await together(*(partial(rt.call, made[each], each) for each in calls))
    assert anyio.current_time() < 500
    return results


@pytest.mark.parametrize("kind", ["api", "own"])
@given(st.data(), st.integers(1, 2))
@examples(60)
def test_one_limit_and_caches_never_block_each_other(backend, kind, data, concurrency):
    """One pool of slots, with any use of the cache: all calls complete."""
    nodes, calls = data.draw(programs([None, "api"] if kind == "api" else [None]))
    most = concurrency if kind == "own" else None
    results = virtual.run(backend, run_program, nodes, calls, concurrency, most)
    assert results == calls
    assert _wait_graph._waits == {}


@given(programs(LIMITS), st.integers(1, 2), st.sampled_from([None, 2, 3]))
@examples(60)
def test_no_calls_wait_for_ever_whatever_they_wait_for(backend, program, concurrency, most):
    """Limits in any order may block each other; then a call fails, which says so."""
    results = virtual.run(backend, run_program, *program, concurrency, most)
    for result, expected in zip(results, program[1], strict=True):
        assert result == expected or (isinstance(result, LimitExceededError) and "for ever" in str(result))
    assert _wait_graph._waits == {}


def test_an_owner_that_is_named_twice_waits_once():
    class Held:
        def held_by(self):
            return [self]

    resource = Held()
    wait = _wait_graph.Wait(resource, [resource, resource], "itself", None)
    assert _wait_graph.is_stuck(resource)
    wait.end()
    wait.end()
