"""How many worker threads a session uses at once, what waits for one, and what is logged about it."""

from __future__ import annotations

import logging
import math
import threading

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _threads
from railtracks._concurrency._thread_limit import PATIENCE, ThreadLimit
from railtracks.exceptions import GlobalTimeOutError
from railtracks.state import Status
from railtracks.testing import simulate
from tests import virtual


class Blocked:
    """A sync node that works until the test lets it end."""

    def __init__(self):
        self.started = anyio.Event()
        self.release = threading.Event()

    def __call__(self):
        anyio.from_thread.run_sync(self.started.set)
        self.release.wait(10)


def square(x):
    return x * x


def outer(x):
    return rt.call_sync(square, x)


def nested(depth):
    return 0 if depth == 0 else 1 + rt.call_sync(nested, depth - 1)


def congestions(caplog):
    return [record for record in caplog.records if "max_threads" in record.getMessage()]


# ---- a thread that waits holds no place


@pytest.mark.parametrize("max_threads", [1, 2, 40])
async def test_more_sync_nodes_than_places_may_call_sync_nodes(max_threads):
    """More sync nodes than there are places may each call another sync node."""
    async with rt.Session(max_threads=max_threads):
        assert await rt.call_batch(outer, range(60), return_exceptions=False) == [x * x for x in range(60)]
    assert _threads.active_work_count() == 0


async def test_sync_nodes_may_be_nested_deeper_than_there_are_places():
    async with rt.Session(max_threads=2):
        assert await rt.call_batch(nested, [12, 12, 12], return_exceptions=False) == [12, 12, 12]


async def test_batch_below_each_sync_node_ends():
    def batches(x):
        return rt.call_sync(rt.call_batch, outer, [x, x + 1])

    async with rt.Session(max_threads=1):
        results = await rt.call_batch(batches, range(5), return_exceptions=False)
    assert results == [[x * x, (x + 1) ** 2] for x in range(5)]


@pytest.mark.parametrize("seed", range(5))
def test_seeded_thread_scheduler_meets_no_deadlock(backend, seed):
    """Sync nodes that call sync nodes end under the seeded scheduler of threads too."""

    async def main():
        return await rt.call_batch(outer, range(6), return_exceptions=False)

    outcome = simulate(main, backend=backend, seed=seed, max_threads=2)
    assert outcome.result == [x * x for x in range(6)]


async def test_thread_that_waits_for_another_node_lets_it_work():
    """A thread that waits for an event lets the unrelated sync node work that sets it."""
    arrived = anyio.Event()

    def wait():
        rt.call_sync(arrived.wait)

    def arrive():
        anyio.from_thread.run_sync(arrived.set)

    async with rt.Session(max_threads=1):
        await rt.call_batch(rt.call, [wait, arrive], return_exceptions=False)


async def test_never_more_threads_work_than_there_are_places():
    """Threads that go on after a call count again, so never more work than there are places."""
    lock, now, most = threading.Lock(), 0, 0

    def work():
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.001)  # real: a chance for other threads to be at work too
        with lock:
            now -= 1

    def before_and_after(x):
        work()
        rt.call_sync(square, x)
        work()

    async with rt.Session(max_threads=3):
        await rt.call_batch(before_and_after, range(30), return_exceptions=False)
    assert most <= 3


async def test_thread_that_has_its_answer_waits_for_a_place():
    """A thread whose call has ended goes on only when there is a place again."""
    blocked, begun, answer, went_on = Blocked(), anyio.Event(), anyio.Event(), threading.Event()

    async def child():
        begun.set()
        await answer.wait()

    def waits():
        rt.call_sync(child)
        went_on.set()

    async with rt.Session(max_threads=1) as session, anyio.create_task_group() as group:
        group.start_soon(rt.call, waits)
        await begun.wait()
        group.start_soon(rt.call, blocked)
        await blocked.started.wait()
        answer.set()
        while session.info.records[1].status is not Status.COMPLETED:
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert not went_on.wait(0.05)  # real: a thread that may go on would do so by now
        blocked.release.set()
    assert went_on.is_set()


async def test_threads_that_wait_do_not_pile_up():
    """What a waiting thread calls comes before nodes that have not begun, so few threads exist at once."""
    lock, begun, most = threading.Lock(), 0, 0

    def count(x):
        nonlocal begun, most
        with lock:
            begun += 1
            most = max(most, begun)
        result = rt.call_sync(square, x)
        with lock:
            begun -= 1
        return result

    async with rt.Session(max_threads=4):
        await rt.call_batch(count, range(100), return_exceptions=False)
    assert most <= 8


async def test_cancelled_call_goes_on_beyond_the_limit():
    """A thread whose call is cancelled does not wait for a place to go on: the others may never release theirs."""
    blocked, running = Blocked(), anyio.Event()

    async def child():
        running.set()
        await anyio.sleep_forever()

    @rt.function_node(abandon_on_cancel=False)
    def waits():
        rt.call_sync(child)

    async with rt.Session(max_threads=1) as session, anyio.create_task_group() as group:
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(rt.call, waits)
            await running.wait()
            group.start_soon(rt.call, rt.function_node(blocked, name="blocked"))
            await blocked.started.wait()
            cancelled.cancel_scope.cancel()
        blocked.release.set()
    assert [(r.name, r.status) for r in session.info.records] == [
        ("waits", Status.CANCELLED), ("child", Status.CANCELLED), ("blocked", Status.COMPLETED),
    ]  # fmt: skip


async def test_abandoned_thread_holds_no_place():
    blocked = Blocked()
    async with rt.Session(max_threads=1):
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, blocked)
            await blocked.started.wait()
            group.cancel_scope.cancel()
        assert await rt.call(square, 3) == 9
        blocked.release.set()


async def test_thread_abandoned_while_it_waits_holds_no_place():
    running = anyio.Event()

    async def child():
        running.set()
        await anyio.sleep_forever()

    def waits():
        rt.call_sync(child)

    async with rt.Session(max_threads=1):
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, waits)
            await running.wait()
            group.cancel_scope.cancel()
        assert await rt.call_batch(outer, range(3), return_exceptions=False) == [0, 1, 4]


# ---- the option


async def test_max_threads_is_how_many_work_at_once():
    full = threading.Barrier(3)
    async with rt.Session(max_threads=3):
        await rt.call_batch(lambda _: full.wait(10), range(6), return_exceptions=False)


async def test_one_thread_at_a_time_excludes_all_others():
    inside = threading.Lock()

    def work(_):
        assert inside.acquire(blocking=False)
        inside.release()

    async with rt.Session(max_threads=1):
        await rt.call_batch(work, range(20), return_exceptions=False)


# ---- what waits too long says so


def test_wait_for_a_thread_is_logged_with_what_holds_them(backend, caplog):
    """What waits for more than five seconds is logged once, with the names of the nodes that hold the threads."""

    async def main(clock):
        blocked = [Blocked() for _ in range(3)]
        async with rt.Session(max_threads=3, timeout=60) as session, anyio.create_task_group() as group:
            for name, each in zip(["fetch", "read", "fetch"], blocked, strict=True):
                group.start_soon(rt.call, rt.function_node(each, name=name))
            for each in blocked:
                await each.started.wait()
            for name in ("late", "later"):
                group.start_soon(rt.call, rt.function_node(lambda: None, name=name))
            while len(session.info.records) < 5:
                await anyio.lowlevel.checkpoint()
            assert congestions(caplog) == []
            clock.jump(PATIENCE + 1)  # by hand, as it stands still while threads work
            while not congestions(caplog):
                await anyio.lowlevel.checkpoint()
            clock.jump(PATIENCE + 1)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            for each in blocked:
                each.release.set()
        return session

    session = virtual.run(backend, lambda: main(virtual.clock()))
    [warning] = congestions(caplog)
    assert warning.levelno == logging.WARNING
    text = warning.getMessage()
    assert text.startswith("late")
    assert "has waited 5 s for a worker thread" in text
    assert "max_threads=3" in text
    assert "fetch (2), read" in text
    assert warning.session_id == session.identifier


def test_next_congestion_is_logged_again(backend, caplog):
    async def main(clock):
        async with rt.Session(max_threads=1, timeout=math.inf):
            for count in (1, 2):
                blocked = Blocked()
                async with anyio.create_task_group() as group:
                    group.start_soon(rt.call, blocked)
                    await blocked.started.wait()
                    group.start_soon(rt.call, square, 2)
                    for _ in range(10):
                        await anyio.lowlevel.checkpoint()
                    clock.jump(PATIENCE + 1)
                    while len(congestions(caplog)) < count:
                        await anyio.lowlevel.checkpoint()
                    blocked.release.set()

    virtual.run(backend, lambda: main(virtual.clock()))
    assert len(congestions(caplog)) == 2


def test_timeout_ends_the_wait_for_a_thread(backend):
    async def main(clock):
        blocked = Blocked()
        async with rt.Session(max_threads=1, timeout=60) as session:
            async with anyio.create_task_group() as group:

                async def ask():
                    with pytest.raises(GlobalTimeOutError):
                        await rt.call(blocked)

                group.start_soon(ask)
                await blocked.started.wait()

                async def late():
                    with pytest.raises(GlobalTimeOutError):
                        await rt.call(square, 1)

                group.start_soon(late)
                while len(session.info.records) < 2:
                    await anyio.lowlevel.checkpoint()
                clock.jump(61)
            blocked.release.set()
        return session

    records = virtual.run(backend, lambda: main(virtual.clock())).info.records
    assert [(r.status, r.abandoned) for r in records] == [(Status.CANCELLED, True), (Status.CANCELLED, False)]


# ---- the limit by itself


async def test_urgent_ones_come_first_and_the_others_in_order():
    limit = ThreadLimit(1, lambda *_: None)
    order = []

    async def take(name, is_urgent):
        holder = object()
        await limit.acquire(holder, name, is_urgent=is_urgent)
        order.append(name)
        await anyio.sleep(1)
        limit.release(holder)

    async with anyio.create_task_group() as group:
        for name, is_urgent in [("first", False), ("second", False), ("third", False), ("urgent", True)]:
            group.start_soon(take, name, is_urgent)
            await anyio.wait_all_tasks_blocked()
    assert order == ["first", "urgent", "second", "third"]


async def test_place_of_one_that_is_cancelled_goes_to_the_next():
    limit = ThreadLimit(1, lambda *_: None)
    holder, taken = object(), []
    await limit.acquire(holder, "holder")

    async def take(name):
        await limit.acquire(name, name)
        taken.append(name)
        limit.release(name)

    async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
        cancelled.start_soon(take, "cancelled")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(take, "next")
        await anyio.wait_all_tasks_blocked()
        limit.release(holder)  # wakes the first, which is cancelled before it goes on
        cancelled.cancel_scope.cancel()
    assert taken[-1] == "next"
