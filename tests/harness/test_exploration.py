"""``explore`` leaves out runs that cannot differ from others: it finds what all runs would find, in far fewer."""

from __future__ import annotations

import asyncio
import itertools

import anyio
import pytest
import trio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sniffio import current_async_library

import railtracks as rt
from railtracks.testing import explore
from railtracks.testing._exploration import Search
from railtracks.testing._possibilities import Order
from railtracks.testing._simulation._simulate import simulate_with

MAX_RUNS = 1_000
"""Flows for which more runs are needed without the reduction are not compared."""


def observed(outcome):
    """Return what can be seen of a run, without the turns of the event loop."""
    events = [(e.time, e.session, e.call, e.name, e.what, e.detail, e.place) for e in outcome.trace]
    return repr((outcome.result, outcome.exception, outcome.order, outcome.unseen, outcome.left_running, events))


def explored(flow, backend, reduces, **options):
    """Return what was seen in all runs, and how many there were; None if that takes too long."""
    search, seen = Search(reduces), set()
    while search.has_next:
        if search.runs == MAX_RUNS:
            return None, search.runs
        seen.add(observed(simulate_with(search.decisions(), flow, (), {"backend": backend, **options})))
        search.advance()
        assert not search.changed
    return seen, search.runs


# ---- drawn flows


class Shared:
    """What the calls of a drawn flow share."""

    def __init__(self):
        self.log = []
        self.numbers = []
        self.programs = []
        self.total = 0
        self.lock = anyio.Lock()
        self.event = anyio.Event()
        self.scope = anyio.CancelScope()


@rt.function_node
async def nested():
    await anyio.sleep(0)


async def add(shared):
    before = shared.total
    await anyio.sleep(0)
    shared.total = before + 1


async def locked(shared):
    async with shared.lock:
        await anyio.sleep(0)
        shared.total *= 2


async def wait_briefly(shared):
    with anyio.move_on_after(1):
        await shared.event.wait()
        shared.log.append("set")


async def time_out(shared):
    with anyio.move_on_after(0):
        await anyio.sleep(0)
        shared.log.append("in time")


async def fail(shared):
    raise ValueError("failed")


async def put(shared):
    rt.context.put("key", rt.context.get("key", 0) + 1)


async def call_soon(shared):
    """Have the event loop call a function in its next turn."""
    if current_async_library() == "trio":
        trio.lowlevel.current_trio_token().run_sync_soon(shared.log.append, "soon")
    else:
        asyncio.get_running_loop().call_soon(shared.log.append, "soon")


async def call_later(shared):
    """Set a timer that is due at once."""
    if current_async_library() == "trio":
        with trio.move_on_after(0):
            await trio.sleep_forever()
    else:
        asyncio.get_running_loop().call_later(0, shared.log.append, "later")


async def grow(shared):
    """Add a call to a batch of lists, which may have seen its end."""
    if len(shared.numbers) < 3:
        shared.numbers.append(9)
        shared.programs.append([])


STEPS = {
    "call_soon": call_soon,
    "call_later": call_later,
    "grow": grow,
    "wait": lambda shared: anyio.sleep(0),
    "sleep": lambda shared: anyio.sleep(1),
    "add": add,
    "locked": locked,
    "put": put,
    "call": lambda shared: rt.call(nested),
    "set": lambda shared: _run(shared.event.set),
    "wait_briefly": wait_briefly,
    "time_out": time_out,
    "cancel": lambda shared: _run(shared.scope.cancel),
    "fail": fail,
}


async def _run(function):
    function()


@rt.function_node
async def work(number, names, shared):
    for name in names:
        await STEPS[name](shared)
        shared.log.append((number, name))
    return shared.total


async def in_batch(programs, shared, limit):
    return await rt.call_batch(
        work, range(len(programs)), programs, [shared] * len(programs), return_exceptions=True, limit=limit
    )


async def of_lists(programs, shared, limit):
    shared.programs += programs
    shared.numbers += range(len(programs))
    return await rt.call_batch(work, shared.numbers, shared.programs, itertools.repeat(shared), limit=limit)


async def in_group(programs, shared, limit):
    async with anyio.create_task_group() as group:
        for number, program in enumerate(programs):
            group.start_soon(rt.call, work, number, program, shared)


async def as_given(programs, shared, limit):
    return await rt.call_batch(
        work, range(len(programs)), (each for each in programs), [shared] * len(programs), limit=limit
    )


def flow_of(make, programs, limit):
    """Return a flow whose calls take the steps of their programs, at the same time."""

    async def main():
        shared = Shared()
        result = None
        with shared.scope:
            result = await make(programs, shared, limit)
        return result, shared.log, shared.total

    return main


def programs(most):
    return st.lists(st.lists(st.sampled_from([*STEPS]), max_size=most), min_size=1, max_size=2)


WAYS = [in_batch, of_lists, in_group, as_given]
FLOWS = st.builds(flow_of, st.sampled_from(WAYS), programs(1), st.sampled_from([None, 1, 2]))
LARGER = st.builds(flow_of, st.sampled_from(WAYS), programs(2), st.sampled_from([None, 1, 2]))


def compare(flow, backend):
    """Compare what is found with what all runs find, and return whether there are few enough of these."""
    everything, needed = explored(flow, backend, reduces=False)
    if everything is None:
        return False
    found, runs = explored(flow, backend, reduces=True)
    assert found == everything
    assert runs <= needed
    return True


@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(flow=FLOWS)
def test_it_finds_all_that_all_runs_find(backend, flow):
    assume(compare(flow, backend))


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=[*HealthCheck])
@given(flow=LARGER)
def test_it_finds_all_that_all_runs_of_larger_flows_find(backend, flow):
    assume(compare(flow, backend))


@pytest.mark.parametrize(
    ("make", "programs"),
    [
        # A callback that cancels stands among the steps of calls that let others go first.
        (in_group, [[], ["time_out", "fail"]]),
        # A call ends in the step in which it begins, so its worker looks for another call.
        (in_batch, [[], []]),
        # The calls come from code of the user.
        (as_given, [[], []]),
    ],
)
def test_it_finds_all_in_flows_that_were_difficult(make, programs):
    assert compare(flow_of(make, programs, None), "asyncio")


# ---- how many runs it takes


async def leaf(number, waits, log):
    for _ in range(waits):
        await anyio.sleep(0)
    log.append(number)


def batch_of(count, waits):
    async def main():
        log = []
        await rt.call_batch(leaf, range(count), [waits] * count, [log] * count)  # type: ignore[arg-type]
        return tuple(log)

    return main


@pytest.mark.parametrize(("count", "waits", "most"), [(2, 0, 15), (2, 1, 30), (3, 0, 70)])
def test_a_batch_takes_few_runs(backend, count, waits, most):
    results = set()
    result = explore(batch_of(count, waits), invariants=[lambda o: results.add(o.result)], backend=backend)
    assert result.is_complete, result
    assert result.runs <= most
    assert results == {*itertools.permutations(range(count))}


@pytest.mark.slow
@pytest.mark.parametrize(("count", "waits", "most"), [(3, 1, 320), (4, 0, 350)])
def test_a_larger_batch_takes_hundreds_of_runs(backend, count, waits, most):
    result = explore(batch_of(count, waits), backend=backend)
    assert result.is_complete, result
    assert result.runs <= most


def test_unlike_orders_are_all_tried_if_threads_are_at_work(backend):
    @rt.function_node
    def work(number, log):
        log.append(number)

    async def main():
        log = []
        await rt.call_batch(work, range(2), [log] * 2)
        return tuple(log)

    results = set()
    explore(main, invariants=[lambda o: results.add(o.result)], backend=backend, max_runs=40)
    assert results == {(0, 1), (1, 0)}


# ---- the orders of one turn


def orders_of(count, alike, conflicts):
    """Return the orders that are tried if these pairs matter in each of them."""
    decision, orders = Order(count, alike), []
    while True:
        orders.append(tuple(decision.chosen))
        decision.conflicts |= conflicts
        if not decision.advance():
            return orders


def pairs_in(order, conflicts):
    return frozenset((a, b) if order.index(a) < order.index(b) else (b, a) for a, b in conflicts)


PAIRS = st.sets(st.sampled_from([*itertools.combinations(range(5), 2)]))


@pytest.mark.either_backend
@settings(max_examples=20)
@given(conflicts=PAIRS)
def test_of_orders_that_agree_where_it_matters_one_is_tried(conflicts):
    orders = orders_of(5, [], conflicts)
    everything = {pairs_in(order, conflicts) for order in itertools.permutations(range(5))}
    assert [pairs_in(order, conflicts) for order in orders] == list(
        dict.fromkeys(pairs_in(order, conflicts) for order in orders)
    )
    assert {pairs_in(order, conflicts) for order in orders} == everything


@pytest.mark.either_backend
def test_steps_that_are_alike_keep_their_order():
    everything = {*itertools.combinations(range(4), 2)}
    orders = orders_of(4, [[1, 3]], everything)
    assert {*orders} == {each for each in itertools.permutations(range(4)) if each.index(1) < each.index(3)}


@pytest.mark.either_backend
def test_steps_that_do_not_matter_take_no_time():
    orders = orders_of(14, [[*range(5, 14)]], {*itertools.combinations(range(5), 2)})
    assert {tuple(each for each in order if each < 5) for order in orders} == {*itertools.permutations(range(5))}
    assert len(orders) == 120


@pytest.mark.either_backend
def test_one_order_of_many_steps_is_tried_if_none_matters():
    assert orders_of(200, [], set()) == [tuple(range(200))]
