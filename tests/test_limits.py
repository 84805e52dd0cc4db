"""Limits of calls: how many run at once, how many begin in a time, and how many a session makes at all."""

from __future__ import annotations

import gc
import logging
import math
import threading
import weakref
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError, GlobalTimeOutError, LimitExceededError, NodeTimeOutError
from railtracks.execution._shared_limits import _shared, shared_limit
from railtracks.page._data import COLUMNS, page_data
from railtracks.state import Reason, Status
from railtracks.testing import check, simulate
from tests import virtual
from tests.effort import examples


class Meter:
    """A node that takes a second, and notes how many of its calls run at once, and when each began."""

    def __init__(self, seconds=1.0):
        self.seconds = seconds
        self.running = self.most = 0
        self.begun = []
        self.order = []

    async def __call__(self, item=None):
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.append(anyio.current_time())
        self.order.append(item)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.running -= 1
        return item

    def node(self, **options):
        async def measured(item=None):
            return await self(item)

        return rt.function_node(measured, **options)

    @property
    def times(self):
        return [round(each - self.begun[0], 6) for each in self.begun]


def pools_of(session):
    """Return the slots of all limits that the calls of a session have come to."""
    limits = session._coordinator.limits
    pools = [gate.pool for _, gate in limits._gates.values()]
    pools += [limit.pool for limit in _shared.get(session._coordinator.clock, {}).values()]
    return [pool for pool in [*pools, limits._everything and limits._everything.pool] if pool is not None]


def assert_nothing_is_taken(session):
    for pool in pools_of(session):
        assert (pool.used, pool.holders, pool.queue) == (0, {}, {})
    assert session._coordinator.limits.waiting == {}


def shared(name="api", **options):
    return rt.Limit(name, **options)


# ---- a number of calls at once


async def test_limit_bounds_the_calls_of_a_node_that_run_at_once():
    meter = Meter()
    async with rt.Session() as session:
        await rt.call_batch(meter.node(limit=3), range(10))
    assert meter.most == 3
    assert meter.times == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert_nothing_is_taken(session)


async def test_calls_get_their_turn_in_the_order_they_came():
    meter = Meter()
    async with rt.Session():
        await rt.call_batch(meter.node(limit=1), range(20))
    assert meter.order == [*range(20)]


async def test_options_of_a_call_share_the_limit_of_the_node():
    """What ``options`` returns is the same node, so its calls count together; each has its own number."""
    meter = Meter()
    node = meter.node(limit=2)
    async with rt.Session():
        calls = [node, node.options(retries=0), node.options(limit=1), node]
        await rt.call_batch(rt.call, calls)
    assert meter.most == 2
    assert meter.times == [0, 0, 1, 1], "the third waits until none runs, and the fourth waits behind it"


async def test_number_counts_for_each_node_and_session_by_itself():
    first, second = Meter(), Meter()
    node = first.node(limit=1)
    async with rt.Session(limit=1), anyio.create_task_group() as group:
        group.start_soon(rt.call_batch, node, range(2))
        group.start_soon(rt.call_batch, second, range(2))
        async with rt.Session():
            await rt.call_batch(node, range(2))
    assert (first.most, second.most) == (2, 1)


async def test_methods_of_different_objects_share_the_limit():
    class Service:
        def __init__(self, meter):
            self.meter = meter

        @rt.function_node(limit=1)
        async def fetch(self):
            await self.meter()

    meter = Meter()
    async with rt.Session():
        await rt.call_batch(rt.call, [Service(meter).fetch, Service(meter).fetch])
    assert meter.most == 1


async def test_infinite_limit_undoes_that_of_the_session():
    meter = Meter()
    async with rt.Session(limit=1):
        await rt.call_batch(meter.node(limit=math.inf), range(5))
    assert meter.most == 5


async def test_sync_nodes_wait_for_their_limit():
    most, running, lock = 0, 0, threading.Lock()

    @rt.function_node(limit=2)
    def work():
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        anyio.from_thread.run(anyio.sleep, 1)
        with lock:
            running -= 1

    async with rt.Session() as session:
        await rt.call_batch(rt.call, [work] * 6)
    assert most == 2
    assert_nothing_is_taken(session)


def test_limit_holds_in_synchronous_sessions(backend):
    meter = Meter(0.01)
    with rt.Session(backend=backend):
        rt.call_sync(rt.call_batch, meter.node(limit=2), range(6))
    assert meter.most == 2


# ---- nested calls


@pytest.mark.parametrize("options", [{"limit": 1}, {"limit": 2}, {"limit": shared("nested", concurrency=1)}])
async def test_recursion_within_a_limit_ends(options):
    @rt.function_node(**options)
    async def count(n):
        return 0 if n == 0 else 1 + await rt.call(count, n - 1)

    async with rt.Session() as session:
        assert await rt.call(count, 12) == 12
    assert_nothing_is_taken(session)


async def test_batch_within_a_call_of_the_limit_runs_one_by_one():
    meter = Meter()

    @rt.function_node(limit=1)
    async def work(n):
        if n == 0:
            return await meter()
        return await rt.call_batch(work, [n - 1] * 3, return_exceptions=False)

    async with rt.Session() as session:
        await rt.call(work, 2)
    assert (meter.most, len(meter.begun)) == (1, 9)
    assert_nothing_is_taken(session)


async def test_slot_comes_back_to_the_caller_without_waiting():
    """A caller goes on after its call although others had come before."""
    log = []

    @rt.function_node(limit=1)
    async def outer(name):
        log.append(f"{name} begins")
        await rt.call(inner, name)
        log.append(f"{name} goes on")
        await anyio.sleep(1)

    @rt.function_node
    async def inner(name):
        await rt.call(outer.options(), name + "'") if len(name) < 2 else None

    async with rt.Session():
        await rt.call_batch(outer, ["a", "b"])
    assert log == [
        f"{name} {what}"
        for name, what in [
            ("a", "begins"), ("a'", "begins"), ("a'", "goes on"), ("a", "goes on"),
            ("b", "begins"), ("b'", "begins"), ("b'", "goes on"), ("b", "goes on"),
        ]
    ]  # fmt: skip


async def test_calls_of_a_session_inside_a_call_take_over_its_slot():
    """A session that a call opens is below it, so a limit of both is no deadlock."""
    limit = shared("inner", concurrency=1)

    @rt.function_node(limit=limit)
    async def leaf():
        return 1

    @rt.function_node(limit=limit)
    async def outer():
        async with rt.Session(save_state=False):
            return sum(await rt.call_batch(rt.call, [leaf] * 3, return_exceptions=False))

    async with rt.Session(timeout=10) as session:
        assert await rt.call(outer) == 3
    assert_nothing_is_taken(session)


class Tree:
    """Calls of one limit in any shape, which note how many of them run, those left out that wait for one below."""

    def __init__(self):
        self.below = {}  # of each running call, how many of its own run
        self.most = self.done = 0

    async def run(self, call, shape, parent=None):
        seconds, is_batch, children, patience = shape
        me = object()
        self.below[me] = 0
        if parent is not None:
            self.below[parent] += 1
        self.most = max(self.most, sum(not count for count in self.below.values()))
        try:
            await anyio.sleep(seconds)
            if is_batch:
                await rt.call_batch(call, children, [me] * len(children), return_exceptions=False)
            else:
                for child in children:
                    with anyio.move_on_after(patience):
                        await rt.call(call, child, me)
            await anyio.sleep(seconds)
            self.done += 1
        finally:
            del self.below[me]
            if parent is not None:
                self.below[parent] -= 1


SECONDS = st.sampled_from([0.0, 0.0, 1.0, 2.5])
LEAF = st.tuples(SECONDS, st.booleans(), st.just(()), st.just(math.inf))


def shapes(patience):
    return st.recursive(
        LEAF,
        lambda below: st.tuples(SECONDS, st.booleans(), st.lists(below, max_size=4).map(tuple), patience),
        max_leaves=12,
    )


def size(shape):
    return 1 + sum(map(size, shape[2]))


KINDS = {
    "number": lambda total: ({"limit": total}, {}),
    "shared": lambda total: ({"limit": shared("tree", concurrency=total)}, {}),
    "session": lambda total: ({}, {"max_concurrency": total}),
}


@pytest.mark.either_backend
@pytest.mark.parametrize("kind", KINDS)
@examples(60)
@given(total=st.integers(1, 3), trees=st.lists(shapes(st.just(math.inf)), min_size=1, max_size=4))
def test_any_tree_of_calls_runs_within_its_limit(backend, kind, total, trees):
    """Never more leaves run than the limit allows, all calls run, and nothing is left taken."""
    options, session_options = KINDS[kind](total)
    tree = Tree()

    @rt.function_node(**options)
    async def call(shape, parent=None):
        await tree.run(call, shape, parent)

    async def main():
        async with rt.Session(timeout=math.inf, save_state=False, **session_options) as session:
            await rt.call_batch(call, trees, return_exceptions=False)
        return session

    session = virtual.run(backend, main)
    assert tree.most <= total
    assert tree.done == sum(map(size, trees)) == len(session.info.records)
    assert_nothing_is_taken(session)


@pytest.mark.either_backend
@pytest.mark.parametrize("kind", KINDS)
@examples(60)
@given(
    total=st.integers(1, 3),
    trees=st.lists(shapes(st.sampled_from([0.5, 1.0, 2.0, math.inf])), min_size=1, max_size=4),
    timeout=st.sampled_from([3.0, 7.0, math.inf]),
)
def test_cancelled_calls_leave_nothing_taken(backend, kind, total, trees, timeout):
    """Whatever is cancelled, running or waiting, the others go on, and nothing is left taken."""
    options, session_options = KINDS[kind](total)
    tree = Tree()

    @rt.function_node(**options)
    async def call(shape, parent=None):
        await tree.run(call, shape, parent)

    async def main():
        async with rt.Session(timeout=timeout, save_state=False, **session_options) as session:
            await rt.call_batch(call, trees)
        return session

    session = virtual.run(backend, main)
    assert tree.most <= total
    assert tree.below == {}
    assert_nothing_is_taken(session)
    for record in session.info.records:
        assert record.status is not Status.OPEN


# ---- limits that are shared by name


async def test_nodes_with_a_limit_of_one_name_count_together():
    meter = Meter()
    nodes = [meter.node(limit=shared(concurrency=2)), meter.node(limit=shared(concurrency=2))]
    async with rt.Session() as one, rt.Session() as other:
        assert one is not other
        await rt.call_batch(rt.call, nodes * 3)
    assert meter.most == 2


async def test_sessions_side_by_side_share_a_limit():
    meter = Meter()
    node = meter.node(limit=shared(concurrency=1))

    async def run():
        async with rt.Session():
            await rt.call_batch(node, range(2))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
    assert (meter.most, meter.times) == (1, [0, 1, 2, 3])


def test_event_loops_in_several_threads_share_a_limit(backend):
    """Real threads and real time: the slots go from one event loop to another."""
    lock, running, most = threading.Lock(), 0, 0

    @rt.function_node(limit=shared(f"threads-{backend}", concurrency=2))
    async def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        await anyio.sleep(0.002)
        with lock:
            running -= 1

    async def main():
        async with rt.Session(save_state=False):
            await rt.call_batch(rt.call, [work] * 20, return_exceptions=False)

    threads = [threading.Thread(target=partial(anyio.run, main, backend=backend), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most == 2


async def test_two_limits_of_one_name_are_an_error_that_shows_both():
    meter = Meter()
    one, other = meter.node(limit=shared(concurrency=1)), meter.node(limit=shared(concurrency=2, rate="10/s"))
    async with rt.Session():
        await rt.call(one)
        with pytest.raises(ConfigError) as caught:
            await rt.call(other)
    assert "rt.Limit('api', concurrency=1) and rt.Limit('api', concurrency=2, rate='10/s')" in str(caught.value)
    assert "give one another name" in str(caught.value)


async def test_limit_may_be_replaced_when_its_nodes_are_gone():
    """As when a cell of a notebook is run again."""
    meter = Meter()
    async with rt.Session():
        node = meter.node(limit=shared(concurrency=1))
        await rt.call(node)
    del node
    async with rt.Session():
        await rt.call_batch(meter.node(limit=shared(concurrency=2)), range(4))
    assert meter.most == 2


def test_clock_of_a_simulation_is_not_kept_by_a_rate():
    def make_clock():
        return lambda: 1.0

    clock, limit = make_clock(), rt.Limit("rated", rate="1/s")
    assert shared_limit(limit, clock).rate is not None
    known = weakref.ref(clock)
    del clock
    gc.collect()
    assert known() is None


# ---- what a call over the limit does


async def test_call_that_may_not_wait_fails():
    meter = Meter()
    node = meter.node(limit=shared(concurrency=1, wait=False))
    async with rt.Session() as session:
        results = await rt.call_batch(node, range(2))
    error = results[1]
    assert isinstance(error, LimitExceededError)
    assert error.limit == "api"
    assert "rt.Limit('api', concurrency=1, wait=False)" in str(error)
    assert "wait=True" in str(error)
    failed = session.info.records[1]
    assert (failed.status, failed.policy.waiting, failed.policy.waited) == (Status.FAILED, "limit api", 0)
    assert_nothing_is_taken(session)


async def test_call_fails_when_it_has_waited_as_long_as_it_may():
    meter = Meter(seconds=3)
    node = meter.node(limit=shared(concurrency=1, wait=2))
    async with rt.Session() as session:
        results = await rt.call_batch(node, range(2))
    assert isinstance(results[1], LimitExceededError)
    assert "has waited 2 s" in str(results[1])
    assert session.info.records[1].policy.waited == 2
    assert_nothing_is_taken(session)


async def test_call_that_waits_for_its_own_call_does_not_fail():
    """With ``wait=False`` a call that takes over the slot of its caller need not wait."""

    @rt.function_node(limit=shared(concurrency=1, wait=False))
    async def count(n):
        return 0 if n == 0 else 1 + await rt.call(count, n - 1)

    async with rt.Session():
        assert await rt.call(count, 5) == 5


async def test_exceeded_limit_is_not_retried():
    meter = Meter()
    node = meter.node(limit=shared(concurrency=1, wait=False), retries=5)
    async with rt.Session() as session:
        await rt.call_batch(node, range(2))
    assert len(session.info.records) == 2


# ---- rates


async def test_rate_never_lets_more_begin_in_any_period():
    """The first calls begin at once, and each other one a period after the one that is so many before it."""
    meter = Meter(seconds=0)
    node = meter.node(limit=shared(rate="3/10s"))
    async with rt.Session(timeout=math.inf):
        await rt.call(node)
        await anyio.sleep(4)
        await rt.call_batch(node, range(7))
    assert meter.times == [0, 4, 4, 10, 14, 14, 20, 24]


async def test_rate_holds_for_a_session_after_another():
    meter = Meter(seconds=0)
    node = meter.node(limit=shared(rate="1/min"))
    for _ in range(3):
        async with rt.Session():
            await rt.call(node)
    assert meter.times == [0, 60, 120]


async def test_rate_and_concurrency_both_hold():
    meter = Meter(seconds=2)
    async with rt.Session():
        await rt.call_batch(meter.node(limit=shared(concurrency=2, rate="1/s")), range(4))
    assert meter.most == 2
    assert meter.times == [0, 1, 2, 3]


async def test_cancelled_waiter_does_not_use_up_the_rate():
    meter = Meter(seconds=0)
    node = meter.node(limit=shared(rate="1/10s"))
    async with rt.Session() as session, anyio.create_task_group() as group:
        await rt.call(node)

        async def give_up():
            with anyio.move_on_after(5):
                await rt.call(node)

        group.start_soon(give_up)
        await anyio.sleep(1)
        await rt.call(node)
    assert meter.times == [0, 10]
    assert_nothing_is_taken(session)


async def test_call_over_the_rate_fails_if_it_may_not_wait():
    meter = Meter(seconds=0)
    node = meter.node(limit=shared(rate="1/s", wait=False))
    async with rt.Session():
        await rt.call(node)
        with pytest.raises(LimitExceededError, match="rate='1/s'"):
            await rt.call(node)
        await anyio.sleep(1)
        await rt.call(node)


@examples(60)
@given(
    count=st.integers(1, 4),
    period=st.sampled_from([1, 3, 10]),
    pauses=st.lists(st.sampled_from([0, 0, 0.3, 1, 4]), max_size=15),
)
def test_no_period_has_more_beginnings_than_the_rate(backend, count, period, pauses):
    meter = Meter(seconds=0)

    async def main():
        node = meter.node(limit=shared(rate=f"{count}/{period}s"))
        async with rt.Session(timeout=math.inf, save_state=False), anyio.create_task_group() as group:
            for pause in pauses:
                group.start_soon(rt.call, node)
                await anyio.sleep(pause)

    virtual.run(backend, main)
    assert len(meter.begun) == len(pauses)
    for first, next_one in zip(meter.begun, meter.begun[count:], strict=False):
        assert next_one - first >= period - 1e-5


# ---- what is told of it


async def test_waiting_call_says_so_while_it_waits_and_afterwards():
    meter = Meter(seconds=2)
    node = meter.node(limit=1)
    async with rt.Session() as session, anyio.create_task_group() as group:
        group.start_soon(rt.call_batch, node, range(2))
        await anyio.sleep(1)
        assert "Open (waiting for limit=1)" in str(session.info)
    first, second = session.info.records
    assert first.policy is None
    assert (second.policy.waited, second.policy.waiting) == (2, None)
    assert "2 s  after it waited 2 s" in session.info.tree()


async def test_waiting_is_on_record_in_the_store():
    meter = Meter(seconds=2)
    async with rt.Session(name="waits"):
        await rt.call_batch(meter.node(limit=1), range(2))
    loaded = rt.state.load_run("waits")
    assert loaded.records[1].policy.waited == 2


async def test_waiting_does_not_count_as_running_time():
    meter = Meter(seconds=2)

    @rt.function_node
    async def flow():
        await rt.call_batch(meter.node(limit=1), range(3))

    async with rt.Session() as session:
        await rt.call(flow)
    summary = session.info.summary()
    nodes = {node.name: node for node in summary.nodes}
    assert nodes["measured"].longest == pytest.approx(2)
    assert summary.max_concurrency == 1
    assert [(step.record.name, round(step.seconds, 6)) for step in summary.critical_path] == [
        ("flow", 0), ("measured", 2),
    ]  # fmt: skip
    assert "flow()  Completed  6 s (own 0 µs)" in session.info.tree()


async def test_page_has_the_wait_beside_the_time_that_a_call_ran():
    meter = Meter(seconds=2)
    async with rt.Session() as session:
        await rt.call_batch(meter.node(limit=1), range(2))
    row = dict(zip(COLUMNS, page_data(session.info)["calls"][1], strict=True))
    assert (row["started"], row["ended"], row["more"]["waited"]) == (2000, 4000, "2 s")


async def test_timeout_of_the_node_begins_after_the_wait():
    meter = Meter(seconds=2)
    async with rt.Session():
        results = await rt.call_batch(meter.node(limit=1, timeout=3), range(4))
    assert results == [0, 1, 2, 3]


async def test_timeout_of_the_node_gives_its_slot_back():
    meter = Meter(seconds=2)
    async with rt.Session() as session:
        results = await rt.call_batch(meter.node(limit=1, timeout=1), range(3))
    assert all(isinstance(each, NodeTimeOutError) for each in results)
    assert meter.times == [0, 1, 2]
    assert_nothing_is_taken(session)


async def test_timeout_of_the_session_names_the_limit_that_was_awaited():
    meter = Meter(seconds=100)
    node = meter.node(limit=shared(concurrency=1))

    @rt.function_node
    async def flow():
        await rt.call_batch(node, range(2))

    async with rt.Session(timeout=5) as session:
        with pytest.raises(GlobalTimeOutError) as caught:
            await rt.call(flow)
    assert any("measured, waiting for limit api" in place for place in caught.value.waiting)
    waited = session.info.records[2]
    assert (waited.status, waited.reason) == (Status.CANCELLED, Reason.TIMEOUT)
    assert (waited.policy.waiting, waited.policy.waited) == ("limit api", 5)
    assert_nothing_is_taken(session)


async def test_retried_call_keeps_how_long_it_waited():
    calls = 0

    @rt.function_node(limit=1, retries=rt.Retry(attempts=2, wait_initial=0, wait_jitter=0))
    async def flaky(item):
        nonlocal calls
        calls += 1
        await anyio.sleep(1)
        if item == 1 and calls == 2:
            raise ValueError
        return item

    async with rt.Session() as session:
        assert await rt.call_batch(flaky, range(2)) == [0, 1]
    assert session.info.records[1].policy._replace(retry=0) == rt.state._records.PolicyFacts(retried=True, waited=1)


async def test_beginning_to_wait_is_a_line_for_debugging(caplog):
    caplog.set_level(logging.DEBUG)
    meter = Meter()
    async with rt.Session(logging_setting="VERBOSE"):
        await rt.call_batch(meter.node(limit=2), range(3))
    lines = [record.getMessage() for record in caplog.records if "waits for" in record.getMessage()]
    assert lines == ["measured waits for the limit=2"]


async def test_very_long_wait_is_warned_of_once(caplog):
    meter = Meter(seconds=100)
    async with rt.Session(timeout=math.inf):
        await rt.call_batch(meter.node(limit=shared(concurrency=2)), range(6))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "measured has waited 60 s for its turn: rt.Limit('api', concurrency=2), and what runs is measured (2)"
    ]


# ---- limits of a session


async def test_max_concurrency_bounds_all_calls_that_run():
    first, second = Meter(), Meter()
    async with rt.Session(max_concurrency=2) as session, anyio.create_task_group() as group:
        group.start_soon(rt.call_batch, first, range(4))
        group.start_soon(rt.call_batch, second, range(4))
        await anyio.sleep(0.5)
        assert first.running + second.running == 2
    assert session.info.summary().max_concurrency == 2
    assert_nothing_is_taken(session)


async def test_max_concurrency_and_a_limit_do_not_block_each_other():
    meter = Meter()
    node = meter.node(limit=1)

    @rt.function_node
    async def flow(n):
        await rt.call_batch(node, range(n))
        return n

    async with rt.Session(max_concurrency=1, timeout=math.inf) as session:
        assert await rt.call_batch(flow, [2, 3, 2]) == [2, 3, 2]
    assert meter.most == 1
    assert_nothing_is_taken(session)


async def test_max_calls_fails_the_call_that_is_one_too_many():
    meter = Meter()
    async with rt.Session(max_calls=3) as session:
        results = await rt.call_batch(meter, range(5))
        with pytest.raises(LimitExceededError) as caught:
            await rt.call(meter)
    assert [isinstance(each, LimitExceededError) for each in results] == [False, False, False, True, True]
    assert caught.value.limit == "max_calls"
    assert "max_calls=3 (from the argument max_calls of the session)" in str(caught.value)
    assert session.info.records[-1].status is Status.FAILED


@pytest.mark.parametrize("kind", ["max_calls", "max_depth", "api"])
async def test_calls_over_a_limit_are_warned_of_once(caplog, kind):
    async def flow():
        return await rt.call_batch(inner, range(50))

    async def leaf(item):
        await anyio.sleep(1)
        return item

    inner = rt.function_node(leaf, limit=shared(concurrency=1, wait=False) if kind == "api" else None)
    options: Any = {"max_calls": {"max_calls": 10}, "max_depth": {"max_depth": 1}, "api": {}}[kind]
    async with rt.Session(**options):
        results = await rt.call(flow)
    assert sum(isinstance(each, LimitExceededError) for each in results) > 40
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "FAILED LimitExceededError" in warning
    assert warning.endswith("the next calls for which that is so are logged for debugging only")


async def test_error_says_where_an_option_came_from(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_MAX_CALLS", "1")
    async with rt.Session():
        await rt.call(Meter())
        with pytest.raises(LimitExceededError, match=r"max_calls=1 \(from RAILTRACKS_MAX_CALLS\)"):
            await rt.call(Meter())


async def test_attempts_count_as_calls():
    @rt.function_node(retries=rt.Retry(attempts=9, wait_initial=0, wait_jitter=0))
    async def fails():
        raise ValueError("no")

    async with rt.Session(max_calls=3) as session:
        with pytest.raises(LimitExceededError):
            await rt.call(fails)
    assert len(session.info.records) == 4


async def test_replayed_calls_do_not_count():
    @rt.function_node
    async def step(n):
        await anyio.sleep(1)
        return n

    @rt.function_node
    async def flow():
        return [await rt.call(step, n) for n in range(3)]

    with anyio.move_on_after(2.5):
        async with rt.Session(run_identifier="counted"):
            await rt.call(flow)
    async with rt.Session(run_identifier="counted", if_exists="resume", max_calls=2):
        assert await rt.call(flow) == [0, 1, 2]


async def test_max_depth_fails_the_call_that_is_too_deep():
    @rt.function_node
    async def count(n):
        return await rt.call(count, n + 1)

    async with rt.Session(max_depth=4) as session:
        with pytest.raises(
            LimitExceededError, match=r"^count would be at depth 5 of its session, which has max_depth=4"
        ) as caught:
            await rt.call(count, 1)
    assert caught.value.limit == "max_depth"
    assert len(session.info.records) == 5


async def test_own_nodes_of_the_library_do_not_count():
    @rt.function_node
    async def asks():
        return await rt.ask("?")

    async with rt.Session(max_calls=1, max_depth=1, max_concurrency=1, ask_callback=lambda question: "!"):
        assert await rt.call(asks) == "!"


async def test_budget_cancels_all_calls_of_the_session():
    meter = Meter(seconds=6)
    async with rt.Session(budget=10) as session:
        await anyio.sleep(100)  # it begins with the first call
        await rt.call(meter)
        results = await rt.call_batch(meter, range(2))
    for error in results:
        assert isinstance(error, LimitExceededError)
        assert error.limit == "budget"
        assert "budget of 10 s (from the argument budget of the session)" in str(error)
    for record in session.info.records[1:]:
        assert (record.status, record.reason, record.timeout) == (Status.CANCELLED, Reason.BUDGET, 10)
    assert round(anyio.current_time() - meter.begun[0], 6) == 10
    assert "Cancelled (budget)" in str(session.info)
    assert isinstance(session.info.answer[1].exception, LimitExceededError)


async def test_no_call_begins_after_the_budget():
    meter = Meter()
    async with rt.Session(budget=3) as session:
        await rt.call(meter)
        await anyio.sleep(5)
        with pytest.raises(LimitExceededError, match="had used up its budget"):
            await rt.call(meter)
    assert len(session.info.records) == 1


async def test_budget_ends_a_call_that_would_time_out_later():
    async with rt.Session(budget=3, timeout=5) as session:
        with pytest.raises(LimitExceededError):
            await rt.call(Meter(seconds=100))
    async with rt.Session(budget=5, timeout=3):
        with pytest.raises(GlobalTimeOutError):
            await rt.call(Meter(seconds=100))
    assert session.info.records[0].reason is Reason.BUDGET


async def test_what_runs_is_named_before_what_waits():
    """The error of a timeout names at most five calls, and most of a batch may wait for its limit."""

    async def nap():
        await anyio.sleep(50)

    @rt.function_node(limit=1)
    async def limited(n):
        await anyio.sleep(1)  # the call below begins after all others
        await rt.call(nap)

    async with rt.Session(timeout=3):
        with pytest.raises(GlobalTimeOutError) as caught:
            await rt.call(rt.call_batch, limited, range(9))
    first, *others = caught.value.waiting
    assert first.startswith("nap, line ")
    assert others == ["limited, waiting for limit=1"] * 4


async def test_budget_is_said_in_the_log(caplog):
    async with rt.Session(budget=3):
        with pytest.raises(LimitExceededError):
            await rt.call(Meter(seconds=100))
    assert any(
        "CANCELLED (budget): the session has used up its budget of 3 s" in each.getMessage() for each in caplog.records
    )


async def test_started_children_raise_when_the_budget_is_used_up():
    with pytest.raises(LimitExceededError):
        async with rt.Session(budget=3) as session:
            handle = session.start_soon(Meter(seconds=100))
    assert handle.status is Status.CANCELLED


# ---- resuming and suspending


async def test_run_that_was_killed_while_calls_waited_is_resumed():
    done = []

    @rt.function_node(limit=1)
    async def work(n):
        await anyio.sleep(1)
        done.append(n)
        return n

    @rt.function_node
    async def flow():
        return await rt.call_batch(work, range(4), return_exceptions=False)

    with anyio.move_on_after(2.5):
        async with rt.Session(run_identifier="killed"):
            await rt.call(flow)
    async with rt.Session(run_identifier="killed", if_exists="resume") as session:
        assert await rt.call(flow) == [0, 1, 2, 3]
    assert done == [0, 1, 2, 3]
    assert session.info.records[2].policy.waited == 1, "it keeps how long it had waited"


def test_run_is_suspended_although_calls_wait_for_a_limit(backend):
    @rt.function_node(limit=1)
    async def asks(n):
        return await rt.receive(f"topic-{n}")

    async def flow():
        return await rt.call_batch(asks, range(3), return_exceptions=False)

    async def main():
        with pytest.raises(rt.RunSuspended) as caught:
            await rt.Flow("waits", flow, run_identifier="suspended").ainvoke()
        return caught.value

    assert virtual.run(backend, main).topics == ("topic-0",)


# ---- under the harness


@pytest.mark.parametrize("seed", range(8))
def test_promise_holds_with_limits_under_any_schedule(backend, seed):
    @rt.function_node(limit=2)
    async def work(n):
        await anyio.sleep(1)
        return n

    @rt.function_node(limit=shared(concurrency=1, rate="3/s"))
    def in_thread(n):
        return rt.call_sync(work, n)

    @rt.function_node(limit=1)
    async def top(n):
        return await rt.call_batch(in_thread, range(n), return_exceptions=False)

    async def main():
        return await rt.call_batch(top, [3, 2], return_exceptions=False)

    outcome = simulate(main, backend=backend, seed=seed, max_concurrency=3)
    check(outcome)
    assert outcome.result == [[0, 1, 2], [0, 1]]
    outcome = simulate(main, backend=backend, seed=seed, budget=3)
    check(outcome)
    assert isinstance(outcome.exception, LimitExceededError)
