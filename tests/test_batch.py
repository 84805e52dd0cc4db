"""call_batch: order, concurrency, errors, limits."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math

import anyio
import pytest
from anyio.lowlevel import checkpoint

import railtracks as rt
from railtracks._calls import _workers
from railtracks.execution import _coordinator


@rt.function_node
async def nap(seconds):
    await anyio.sleep(seconds)
    return seconds


async def in_node(func, *args, **kwargs):
    """Run ``call_batch`` nested below a node."""

    @rt.function_node
    async def parent():
        return await func(*args, **kwargs)

    return await rt.call(parent)


@pytest.fixture(params=["nested", "top-level"])
def batch(request):
    async def nested(*args, **kwargs):
        return await in_node(rt.call_batch, *args, **kwargs)

    return nested if request.param == "nested" else rt.call_batch


@pytest.fixture(params=[None, 1, 3, 100])
def limit(request):
    return request.param


async def test_results_keep_the_order_of_the_arguments(batch, limit):
    async with rt.Session(timeout=1000):
        assert await batch(nap, [3, 1, 2, 0], limit=limit) == [3, 1, 2, 0]


async def test_the_shortest_iterable_ends_the_batch(batch, limit):
    @rt.function_node
    async def add(a, b):
        return a + b

    async with rt.Session():
        assert await batch(add, [1, 2, 3], [10, 20], limit=limit) == [11, 22]
        assert await batch(add, [], itertools.count(), limit=limit) == []


async def test_all_run_at_once_without_a_limit(batch):
    start = anyio.current_time()
    async with rt.Session():
        await batch(nap, [5] * 1000)
    assert anyio.current_time() - start == 5


async def test_no_more_than_the_limit_run_at_once(batch):
    running = peak = 0

    @rt.function_node
    async def count(i):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(1 + i % 3)
        running -= 1

    async with rt.Session():
        await batch(count, range(100), limit=7)
    assert (peak, running) == (7, 0)


async def test_calls_that_never_wait_take_few_tasks(monkeypatch, batch):
    """With more of them in each turn, the turns would take ever longer."""
    started = []
    start_workers = _workers.CallWorkers._start_workers

    def count(self):
        start_workers(self)
        started.extend(self._started)

    monkeypatch.setattr(_workers.CallWorkers, "_start_workers", count)
    monkeypatch.setattr(_coordinator, "YIELD_EVERY", 1)

    @rt.function_node
    async def double(number):
        return 2 * number

    async with rt.Session():
        assert await batch(double, range(1_000)) == [2 * number for number in range(1_000)]
    assert len(started) < 10


async def test_calls_that_wait_for_a_moment_take_few_tasks(batch):
    tasks = set()

    @rt.function_node
    async def wait_once(_):
        tasks.add(anyio.get_current_task().id)
        await checkpoint()

    async with rt.Session(save_state=False):
        await batch(wait_once, range(3_000))
    assert len(tasks) < 300


async def test_calls_that_wait_for_each_other_begin_among_others(batch):
    """Workers suffice for the calls that end soon; the last call, for which some wait, begins all the same."""
    count, last = 400, anyio.Event()

    @rt.function_node
    async def wait(number):
        if number == count - 1:
            last.set()
        await (last.wait() if number % 3 == 0 else checkpoint())
        return number

    async with rt.Session(save_state=False):
        with anyio.fail_after(20):
            assert await batch(wait, range(count)) == [*range(count)]


async def test_iterables_are_read_as_the_calls_begin():
    read = []

    def numbers():
        for number in range(10):
            read.append(number)
            yield number

    async with rt.Session():
        with anyio.move_on_after(1):
            await rt.call_batch(nap, (50 for _ in numbers()), limit=2)
    assert read == [0, 1]


async def test_calls_that_wait_for_each_other_all_begin():
    events = [anyio.Event() for _ in range(500)]

    @rt.function_node
    async def wait_for_the_last(i):
        if i == len(events) - 1:
            events[i].set()
        await events[-1].wait()
        return i

    async with rt.Session():
        assert await rt.call_batch(wait_for_the_last, range(500)) == list(range(500))


async def test_exceptions_stand_in_their_place(batch, limit):
    error = ValueError(2)

    @rt.function_node
    async def node(i):
        await anyio.sleep(i)
        if i == 2:
            raise error
        return i

    async with rt.Session():
        results = await batch(node, range(4), limit=limit)
    assert results == [0, 1, error, 3]


async def test_first_error_cancels_the_rest_and_is_raised_as_itself(batch):
    error = ValueError("x")
    cancelled = []

    @rt.function_node
    async def node(i):
        if i == 2:
            await anyio.sleep(1)
            raise error
        try:
            await anyio.sleep(50)
        finally:
            cancelled.append(i)

    async with rt.Session():
        with pytest.raises(ValueError, match="x") as caught:
            await batch(node, range(4), return_exceptions=False)
    assert caught.value is error
    assert sorted(cancelled) == [0, 1, 3]


async def test_error_of_the_iterable_ends_the_batch(batch, limit):
    """An error of the iterable is raised as itself and ends the batch."""

    def broken():
        yield 1
        raise LookupError("no more")

    async with rt.Session() as session:
        with pytest.raises(LookupError, match="no more"):
            await batch(nap, broken(), limit=limit)
    assert all(record.ended is not None for record in session.info.records)


async def test_end_on_error_reaches_a_batch():
    @rt.function_node
    async def node(i):
        await anyio.sleep(i)
        if i == 2:
            raise ValueError("two")

    start = anyio.current_time()
    with pytest.raises(ValueError, match="two"):
        async with rt.Session(end_on_error=True):
            await in_node(rt.call_batch, node, range(10))
    assert anyio.current_time() - start == 2


async def test_each_top_level_item_is_a_run_of_its_own():
    async with rt.Session(timeout=3) as session:
        results = await rt.call_batch(nap, [1, 5, 2])
    assert [type(result).__name__ for result in results] == ["int", "GlobalTimeOutError", "int"]
    assert len(session.info.insertion_requests) == 3


async def test_nested_items_belong_to_the_run_of_their_caller():
    async with rt.Session() as session:
        await in_node(rt.call_batch, nap, [1, 2])
    assert [record.parent for record in session.info.records] == [None, 0, 0]


async def test_batch_in_a_task_of_the_caller_has_the_right_parent(backend):
    if backend == "trio":
        pytest.skip("asyncio.gather")

    @rt.function_node
    async def parent():
        return await asyncio.gather(rt.call_batch(nap, [1, 2]), rt.call_batch(nap, [3]))

    async with rt.Session() as session:
        assert await rt.call(parent) == [[1, 2], [3]]
    assert [record.parent for record in session.info.records] == [None, 0, 0, 0]


async def test_future_cancelled_under_one_item_spares_the_others(backend, batch):
    """A future cancelled under one item does not cancel the others."""
    if backend == "trio":
        pytest.skip("asyncio futures")

    @rt.function_node
    async def node(i):
        if i == 1:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        await anyio.sleep(1)
        return i

    async with rt.Session():
        results = await batch(node, range(3))
        assert [type(result).__name__ for result in results] == ["int", "CancelledError", "int"]
        with pytest.raises(asyncio.CancelledError):
            await batch(node, range(3), return_exceptions=False)
        assert await rt.call(nap, 1) == 1


async def test_sync_nodes_run_in_threads():
    async with rt.Session():
        assert await rt.call_batch(rt.function_node(str.upper), ["a", "b"]) == ["A", "B"]


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True])
async def test_wrong_limit_is_refused_with_what_to_use(limit):
    async with rt.Session() as session:
        with pytest.raises(ValueError, match=r"limit must be an integer of at least 1, or None"):
            await rt.call_batch(nap, [1], limit=limit)
    assert session.info.records == ()


async def test_a_batch_without_iterables_says_what_to_write():
    with pytest.raises(TypeError, match=r"needs an iterable for each argument.*`rt.call_batch\(node, items\)`"):
        await rt.call_batch(nap)


async def test_batch_over_what_cannot_be_iterated_raises_type_error():
    with pytest.raises(
        TypeError, match=r"rt\.call_batch\(nap.*argument 2 .* of type int, .* itertools\.repeat\(value\)"
    ):
        await rt.call_batch(nap, [1], 5)  # type: ignore[call-overload]


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("place", ["call", "task"])
async def test_calls_are_created_in_the_order_of_the_items(limit, place):
    """Equal calls of a resumed run are known by their order, also where each of them has to wait before it begins."""

    @rt.function_node
    async def item(number):
        await anyio.sleep(1)

    @rt.function_node
    async def main():
        await anyio.sleep(10)  # so that the next calls let other tasks run first
        if place == "call":
            await rt.call_batch(item, range(20), limit=limit)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(rt.call_batch, item, range(20), limit=limit))

    async with rt.Session(logging_setting="QUIET") as session:
        await rt.call(main)
    assert [record.args[0] for record in session.info.records if record.name == "item"] == list(range(20))


async def test_async_iterables_are_read_as_calls_begin(batch, limit):
    read, closed = [], []

    async def numbers():
        try:
            for number in itertools.count():
                await anyio.sleep(0.1)
                read.append(number)
                yield number
        finally:
            closed.append(True)

    @rt.function_node
    async def add(number, other):
        await anyio.sleep(1)
        return number + other

    async with rt.Session():
        assert await batch(add, numbers(), [10, 20, 30, 40], limit=limit) == [10, 21, 32, 43]
        assert closed == [True]
        assert read == list(range(5))  # the last one finds the end of the other iterable, as in `zip`
        with anyio.move_on_after(5):
            await batch(nap, numbers(), limit=2)
        assert len(closed) == 2
        assert len(read) < 5 + 10


async def test_an_async_generator_that_does_not_close_is_cut_off(caplog):
    async def stubborn():
        try:
            yield 0
            yield 0
        finally:
            await anyio.sleep(math.inf)

    async def first(number, _):
        return number

    async with rt.Session():
        assert await rt.call_batch(first, stubborn(), [1]) == [0]
    assert "did not close within 10 s" in caplog.text
