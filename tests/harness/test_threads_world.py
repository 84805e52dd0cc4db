"""Threads in a virtual world: sleeps and waits take virtual time, and races show as they would in real time."""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import queue
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from trio._core._thread_cache import ThreadCache

import railtracks as rt
from railtracks.testing import ClockHeldError, Deadlock, Livelock, VirtualClock, check, simulate
from railtracks.testing._virtual_time import _world_patches
from railtracks.testing.invariants import is_determined

ASYNCIO = ["asyncio"]
"""For what trio does not have."""


def both(*functions):
    """Return an async function that calls these in threads at once."""

    async def main():
        async with anyio.create_task_group() as group:
            for function in functions:
                group.start_soon(anyio.to_thread.run_sync, function)

    return main


def results(flow, backend, seeds=range(12), **options):
    return [simulate(flow, seed=seed, backend=backend, **options).unwrap() for seed in seeds]


# ---- sleeps


def sell(shop):
    if shop["seats"] > 0:
        time.sleep(0.01)  # the payment
        shop["seats"] -= 1


async def by_node(shop):
    await rt.call_batch(sell, [shop] * 3)


async def by_anyio(shop):
    await both(*[lambda: sell(shop)] * 3)()


async def by_asyncio(shop):
    await asyncio.gather(*(asyncio.to_thread(sell, shop) for _ in range(3)))


async def by_trio(shop):
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.to_thread.run_sync, sell, shop)


async def by_pool(shop):
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(sell, shop)


async def by_threads(shop):
    threads = [threading.Thread(target=sell, args=(shop,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


WAYS = [
    *((library, way) for library in ("asyncio", "trio") for way in (by_node, by_anyio, by_pool, by_threads)),
    ("asyncio", by_asyncio),
    ("trio", by_trio),
]


@pytest.mark.parametrize(("library", "way"), WAYS, ids=lambda value: getattr(value, "__name__", value))
def test_a_race_at_a_sleep_is_found(library, way):
    async def flow():
        shop = {"seats": 1}
        await way(shop)
        return shop["seats"], anyio.current_time()

    for seed in range(3):
        assert simulate(flow, seed=seed, backend=library, start=0).result == (-2, pytest.approx(0.01))


def test_sleeps_of_threads_end_in_their_order(backend):
    async def flow():
        order = []

        def nap(seconds):
            time.sleep(seconds)
            order.append(seconds)

        await rt.call_batch(nap, [30, 10, 20])
        return order, anyio.current_time()

    assert results(flow, backend, start=0) == [([10, 20, 30], 30)] * 12


def test_a_sleep_in_the_event_loop_takes_virtual_time(backend):
    async def flow():
        with anyio.move_on_after(5) as scope:
            time.sleep(20)  # blocks all tasks
            await anyio.sleep(1)
        return scope.cancelled_caught, anyio.current_time()

    assert simulate(flow, backend=backend).result == (True, 20)


def test_a_timeout_ends_a_sleep_of_a_sync_node(backend):
    async def flow():
        with anyio.move_on_after(5):
            await rt.call(time.sleep, 50)
        return anyio.current_time()

    outcome = simulate(flow, backend=backend)
    assert outcome.result == 5


def test_an_abandoned_thread_goes_on_while_time_passes(backend):
    async def flow():
        written = []

        def write():
            time.sleep(10)
            written.append(1)

        with anyio.move_on_after(5):
            await rt.call(write)
        before = list(written)
        await anyio.sleep(10)
        return before, written

    assert simulate(flow, backend=backend).result == ([], [1])


# ---- waits


def test_waits_for_each_other_take_no_real_time(backend):
    async def flow():
        event, items, condition = threading.Event(), queue.Queue(), threading.Condition()
        simple, lock, log = queue.SimpleQueue(), threading.Lock(), []

        def first():
            event.wait()
            log.append(items.get())
            with condition:
                condition.wait_for(lambda: "ready" in log)
            log.append(simple.get())
            with lock:
                log.append("locked")

        def second():
            time.sleep(1)
            event.set()
            time.sleep(1)
            items.put("item")
            time.sleep(1)
            with condition:
                log.append("ready")
                condition.notify_all()
            with lock:
                simple.put("simple")
                time.sleep(1)
                log.append("released")

        await both(first, second)()
        return log, anyio.current_time()

    expected = ["item", "ready", "simple", "released", "locked"], 4
    assert results(flow, backend, start=0) == [expected] * 12


def test_timeouts_of_waits_are_virtual(backend):
    async def flow():
        def wait():
            assert not threading.Event().wait(10)
            with pytest.raises(queue.Empty):
                queue.Queue().get(timeout=10)
            with pytest.raises(queue.Empty):
                queue.SimpleQueue().get(timeout=10)
            assert not threading.Semaphore(0).acquire(timeout=10)
            lock = threading.RLock()
            with lock, lock:
                assert lock.acquire()

        await rt.call(wait)
        return anyio.current_time()

    assert simulate(flow, backend=backend).result == pytest.approx(40)


def test_threads_that_wait_for_the_event_loop_let_others_go_on(backend):
    async def flow():
        log = []

        def nap(number):
            log.append("in")
            anyio.from_thread.run(anyio.sleep, 1)
            log.append("out")

        with anyio.move_on_after(2.5):
            await rt.call_batch(nap, range(3))
        return log, anyio.current_time()

    assert results(flow, backend, range(4), start=0) == [(["in"] * 3 + ["out"] * 3, 1)] * 4


def test_a_result_from_another_event_loop_is_waited_for():
    async def flow():
        loop = asyncio.get_running_loop()

        def nap():
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(5, "slept"), loop).result(timeout=10)

        return await asyncio.gather(*(asyncio.to_thread(nap) for _ in range(3))), anyio.current_time()

    assert simulate(flow).result == (["slept"] * 3, 5)


def test_a_wait_for_ever_is_a_deadlock_at_once(backend):
    async def flow():
        await rt.call(threading.Event().wait)

    outcome = simulate(flow, backend=backend, timeout=float("inf"))
    assert isinstance(outcome.exception, Deadlock)
    assert "in a thread" in str(outcome.exception) or outcome.exception.waiting


def test_threads_that_yield_for_ever_are_a_livelock(backend):
    async def flow():
        def spin():
            while True:
                time.sleep(0)

        await rt.call(spin)

    outcome = simulate(flow, backend=backend, max_steps=5_000)
    assert isinstance(outcome.exception, Livelock)
    assert "spin (test_threads_world.py:" in str(outcome.exception)


# ---- threads of the user's own


def test_a_thread_that_feeds_the_event_loop_is_in_time():
    async def flow():
        items, loop = asyncio.Queue(), asyncio.get_running_loop()

        def feed():
            for number in range(3):
                time.sleep(0.02)
                loop.call_soon_threadsafe(items.put_nowait, number)

        thread = threading.Thread(target=feed)
        thread.start()
        got = [await asyncio.wait_for(items.get(), 1) for _ in range(3)]
        thread.join()
        return got, anyio.current_time()

    assert results(flow, "asyncio", start=0) == [([0, 1, 2], pytest.approx(0.06))] * 12


def test_a_thread_that_is_left_is_named(backend):
    async def flow():
        def feed():
            time.sleep(100)

        threading.Thread(target=feed).start()

    outcome = simulate(flow, backend=backend)
    assert outcome.left_running == ("the thread Thread (feed)",)
    assert not [thread for thread in threading.enumerate() if "feed" in thread.name]


def test_a_thread_that_can_end_is_not_left(backend):
    async def flow():
        threading.Thread(target=lambda: None).start()

    check(simulate(flow, backend=backend))


def test_a_timer_is_virtual(backend):
    async def flow():
        rung = []
        timer = threading.Timer(30, lambda: rung.append(time.monotonic()))
        timer.start()
        await anyio.sleep(60)
        timer.join()
        return rung

    assert simulate(flow, backend=backend, start=0).result == [30]


@pytest.mark.either_backend
def test_a_thread_that_is_started_twice_stays_what_it_is():
    async def flow():
        thread = threading.Thread(target=time.sleep, args=(5,))
        thread.start()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        thread.join()
        return anyio.current_time()

    assert simulate(flow).result == 5


@pytest.mark.either_backend
def test_a_worker_that_cannot_be_started_leaves_no_work(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    async def flow():
        with pytest.raises(RuntimeError, match="new thread"):
            await trio.to_thread.run_sync(print)
        await anyio.sleep(1)
        return clock.thread_scheduler.unfinished()

    monkeypatch.setattr(ThreadCache, "start_thread_soon", refuse)
    clock = VirtualClock()
    assert simulate(flow, backend="trio", clock=clock).unwrap() == []


@pytest.mark.either_backend
def test_threads_are_discarded_with_their_run():
    made = []

    async def flow():
        thread = threading.Thread(target=time.sleep, args=(5,))
        made.append(weakref.ref(thread))
        thread.start()
        thread.join()

    simulate(flow)
    gc.collect()
    assert made[0]() is None


@pytest.mark.either_backend
@pytest.mark.skipif(sys.version_info < (3, 13), reason="threading.Lock is a function there")
def test_locks_are_of_the_class_that_makes_them():
    async def flow():
        made = threading.Lock()
        assert made.acquire(timeout=1)
        assert not await anyio.to_thread.run_sync(functools.partial(made.acquire, timeout=5))
        return [isinstance(each, threading.Lock) for each in (made, before, 3)], threading.Lock | None, made.locked()

    before = threading.Lock()
    classes, union, locked = simulate(flow).unwrap()
    assert classes == [True, True, False]
    assert type(None) in union.__args__
    assert locked


@pytest.mark.either_backend
def test_queues_are_of_the_class_that_makes_them():
    class Own(queue.SimpleQueue):
        pass

    async def flow():
        class Inner(queue.SimpleQueue):
            def __init__(self, size):
                self.size = size

        made, inner = queue.SimpleQueue(), Inner(3)
        inner.put(1)
        assert inner.get() == 1
        return [isinstance(each, queue.SimpleQueue) for each in (made, inner, Own(), before, 3)], [
            isinstance(each, Inner) for each in (made, inner)
        ]

    before = queue.SimpleQueue()
    assert simulate(flow).result == ([True] * 4 + [False], [False, True])


def test_a_pool_with_few_threads_does_the_work_in_turns(backend):
    async def flow():
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(time.sleep, 10) for _ in range(4)]
            assert not any(future.done() for future in futures)
        return anyio.current_time()

    assert simulate(flow, backend=backend).result == 20


def test_stories_of_threads_are_the_same_each_time(backend):
    def nap(number, seconds):
        time.sleep(seconds)
        rt.context.put("last", number)

    async def flow():
        await rt.call_batch(nap, range(4), [0.3, 0.2, 0.3, 0.2])

    stories = [simulate(flow, seed=seed, backend=backend).story for seed in range(8)]
    assert stories == [simulate(flow, seed=seed, backend=backend).story for seed in range(8)]
    assert len(set(stories)) > 1


def names():
    thread = threading.Thread
    return threading.Condition.wait, thread.start, thread.join, ThreadPoolExecutor.submit, time.sleep, threading.Lock


def test_nothing_is_left_replaced(backend):
    before = names()
    simulate(by_node, {"seats": 1}, backend=backend)
    assert names() == before


@pytest.mark.either_backend
def test_nothing_is_left_replaced_if_something_cannot_be(monkeypatch):
    before = names()
    missing = ValueError, "no_such_method", lambda real: real
    monkeypatch.setattr(_world_patches, "METHODS", [*vars(_world_patches)["METHODS"], missing])
    with pytest.raises(KeyError, match="no_such_method"):
        simulate(by_node, {"seats": 1})
    assert names() == before
    monkeypatch.undo()
    assert simulate(by_node, {"seats": 1}).exception is None
    assert names() == before


@pytest.mark.either_backend
def test_what_replaces_a_method_in_a_run_stays():
    def join(self, timeout=None):
        """Stands for a method that a user has replaced."""

    async def flow():
        threading.Thread.join = join  # type: ignore[method-assign]

    before = threading.Thread.join
    try:
        simulate(flow)
        assert threading.Thread.join is join
    finally:
        threading.Thread.join = before  # type: ignore[method-assign]
    simulate(by_node, {"seats": 1})
    assert threading.Thread.join is before


@pytest.mark.either_backend
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
@pytest.mark.parametrize("arguments", [(True, -2), (True, -0.5), (False, 3), (True, 1e12), (True, float("nan"))])
def test_a_lock_refuses_what_a_real_one_refuses(kind, arguments):
    def refusal():
        lock = getattr(threading, kind)()
        found = []
        for _ in range(2):  # free, and then held
            with pytest.raises((ValueError, OverflowError)) as raised:
                lock.acquire(*arguments)
            found.append((raised.type, str(raised.value)))
            lock.acquire()
            if kind == "Lock":
                break
        return found

    async def flow():
        return refusal(), await rt.call(refusal)

    expected = refusal()
    assert simulate(flow).result == (expected, expected)


@pytest.mark.either_backend
def test_cancelled_work_of_a_pool_makes_no_room():
    async def flow():
        with ThreadPoolExecutor(1) as pool:
            first, second, third = (pool.submit(time.sleep, 10) for _ in range(3))
            await anyio.sleep(1)
            assert third.cancel()
        assert first.done()
        assert second.done()
        return anyio.current_time()

    outcome = simulate(flow, start=0)
    assert outcome.result == 20
    check(outcome, is_determined)


@pytest.mark.slow
@pytest.mark.either_backend
def test_runs_in_several_threads_share_a_pool():
    async def flow(pool):
        jobs = [pool.submit(time.sleep, 1) for _ in range(6)]
        await anyio.to_thread.run_sync(lambda: [job.result() for job in jobs])
        return anyio.current_time() >= 3

    def work():
        results.extend(simulate(flow, pool, seed=seed, start=0).unwrap() for seed in range(3))

    results = []
    with ThreadPoolExecutor(2) as pool:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 6


@pytest.mark.either_backend
def test_a_run_inside_of_a_run_may_have_to_wait_for_its_pool():
    async def inner(pool):
        pool.submit(print)
        await anyio.sleep(1)

    async def outer(pool):
        pool.submit(time.sleep, 10)
        await anyio.sleep(1)
        await rt.call(simulate_inner, pool)

    def simulate_inner(pool):
        with pytest.raises(ClockHeldError, match="work of another run in the same executor has been under way"):
            simulate(inner, pool, patience=0.1)

    with ThreadPoolExecutor(1) as pool:
        assert simulate(outer, pool).exception is None


@pytest.mark.parametrize("seed", range(4))
def test_pools_of_several_nodes_do_not_wait_for_each_other(seed, backend):
    """A pool asks for an idle worker with a timeout of 0 while it holds a lock that all pools of a process share."""

    @rt.function_node
    def squares(number):
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda other: number * other, range(3)))

    @rt.function_node
    async def main():
        return await rt.call_batch(squares, range(3), return_exceptions=False)

    outcome = simulate(main, seed=seed, backend=backend)
    check(outcome, is_determined)
    assert outcome.result == [0, 3, 6]


# ---- threads that compute


def compute():
    """Work for longer than a thread may stand still, in code in C that lets other threads run."""
    return hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 200_000)


@pytest.mark.either_backend
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says whether a thread runs")
def test_a_thread_that_computes_in_c_does_not_stand_still(backend):
    def compute_in_thread():
        found = []
        thread = threading.Thread(target=lambda: found.append(compute()))
        thread.start()
        thread.join(timeout=5)  # of virtual time, which does not pass meanwhile
        return len(found)

    async def main():
        return await anyio.to_thread.run_sync(compute_in_thread)

    outcome = simulate(main, backend=backend)
    check(outcome, is_determined)
    assert (outcome.unwrap(), outcome.duration) == (1, 0)


# ---- threads that the event loop answers


def sleep_by_anyio():
    anyio.from_thread.run(anyio.sleep, 1)


def sleep_by_call():
    rt.call_sync(anyio.sleep, 1)


@pytest.mark.parametrize("sleep", [sleep_by_anyio, sleep_by_call])
@pytest.mark.parametrize("start", [rt.call, anyio.to_thread.run_sync])
def test_threads_that_are_answered_at_once_go_on_in_turns(backend, sleep, start):
    def work():
        sleep()
        running.append(1)
        for _ in range(20):
            sum(range(20_000))  # long enough for Python to switch to another thread that can run
            most.add(len(running))
        running.pop()

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(start, work)

    running, most = [], set()
    outcome = simulate(main, backend=backend)
    check(outcome, is_determined)
    assert (most, outcome.duration) == ({1}, 1)
