"""Waits that nothing can end: in the thread of the event loop, which then blocks, and in threads of the run."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.testing import ClockHeldError, Deadlock, Livelock, VirtualClock, run, simulate
from tests.harness.clocks import takes_less_than

FOR_EVER = float("inf")


def lock_twice():
    lock = threading.Lock()
    with lock, lock:
        pass


def acquire_twice():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def get_of_queue():
    queue.Queue().get()


def get_of_simple_queue():
    queue.SimpleQueue().get()


def wait_for_event():
    threading.Event().wait()


def wait_at_condition():
    condition = threading.Condition()
    with condition:
        condition.wait()


def wait_at_semaphore():
    threading.Semaphore(0).acquire()


def wait_at_barrier():
    threading.Barrier(2).wait()


def wait_for_future():
    Future().result()


def join_thread():
    thread = threading.Thread(target=threading.Event().wait)
    thread.start()
    thread.join()


def leave_pool():
    with ThreadPoolExecutor() as pool:
        pool.submit(threading.Event().wait)


WAITS = {
    lock_twice: "for a lock, acquired in lock_twice",
    acquire_twice: "for a lock, acquired in acquire_twice",
    get_of_queue: "for an item of a queue",
    get_of_simple_queue: "for an item of a queue",
    wait_for_event: "for an event",
    wait_at_condition: "for a condition",
    wait_at_semaphore: "for a semaphore",
    wait_at_barrier: "for a barrier",
    wait_for_future: "for a future",
    join_thread: "for the end of a thread",
    leave_pool: "for the end of a pool",
}
"""What each of them waits for, as the error says."""


@pytest.fixture(params=WAITS, ids=lambda wait: wait.__name__)
def wait(request):
    return request.param


def test_code_of_the_event_loop_that_blocks_is_a_deadlock(backend, wait):
    @rt.function_node
    async def main():
        await anyio.sleep(3)
        wait()

    outcome = simulate(main, backend=backend)
    assert isinstance(outcome.exception, Deadlock)
    text = str(outcome.exception)
    assert text.startswith(f"at 3 s of virtual time the event loop blocks in {wait.__name__} (test_blocking.py:")
    assert f"), {WAITS[wait]}" in text
    assert ", and nothing can end that; no task can run meanwhile" in text
    assert "hangs" in outcome.story
    assert outcome.undetermined == ()


def test_a_thread_that_blocks_for_ever_is_a_deadlock(backend, wait):
    outcome = simulate(wait, backend=backend, timeout=FOR_EVER)
    assert isinstance(outcome.exception, Deadlock)
    (place,) = (text for text in outcome.exception.waiting if text.startswith(wait.__name__))
    assert f", in a thread, {WAITS[wait]}" in place


async def hold(lock):
    with lock:
        await anyio.sleep(1)


def test_the_task_that_holds_the_lock_is_named(backend):
    async def main():
        lock = threading.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(hold, lock)
            await anyio.sleep(0.5)
            with lock:
                pass

    with pytest.raises(Deadlock, match=r"for a lock, acquired in hold \(test_block.*\), and nothing can end") as raised:
        run(main, backend=backend, world="virtual")
    assert any(place.startswith("hold (test_blocking.py:") for place in raised.value.waiting)
    assert not hasattr(raised.value, "__notes__")


def test_the_thread_that_holds_the_lock_is_named(backend):
    def ask(lock):
        with lock:
            anyio.from_thread.run(anyio.sleep, 1)

    async def main():
        lock = threading.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, ask, lock)
            await anyio.sleep(0.5)
            lock.acquire()

    with pytest.raises(Deadlock, match=r"acquired in ask \(test_blocking.py:\d+\), in a thread"):
        run(main, backend=backend, world="virtual")


@pytest.mark.either_backend
def test_a_result_that_its_own_event_loop_waits_for():
    async def main():
        asyncio.run_coroutine_threadsafe(anyio.sleep(1), asyncio.get_running_loop()).result()

    with pytest.raises(Deadlock, match=r"blocks in main \(test_blocking.py:\d+\), for a future, and nothing can end"):
        run(main, world="virtual")


def test_it_is_a_deadlock_although_code_handles_exceptions(backend):
    ended = []

    @rt.function_node(retries=3)
    async def main():
        try:
            threading.Event().wait()
        finally:
            with contextlib.suppress(Exception):
                threading.Event().wait()
            ended.append(1)

    outcome = simulate(main, backend=backend)
    assert isinstance(outcome.exception, Deadlock)
    assert ended == [1]


# ---- who else may end it


@contextlib.contextmanager
def outer_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    yield
    thread.join()


def test_a_thread_from_before_the_run_can_end_it(backend):
    begun, event = threading.Event(), threading.Event()

    def end_it():
        assert begun.wait(10)
        event.set()

    async def main():
        begun.set()
        return event.wait()

    with outer_thread(end_it):
        assert simulate(main, backend=backend).unwrap() is True


def test_such_a_thread_is_waited_for_as_long_as_patience(backend):
    over = threading.Event()

    async def main():
        threading.Event().wait()

    with outer_thread(over.wait), takes_less_than(5):
        outcome = simulate(main, backend=backend, patience=0.2)
        over.set()
    assert isinstance(outcome.exception, Deadlock)
    assert "and no thread that is not part of the run has ended that in 0.2 s of real time" in str(outcome.exception)
    assert outcome.undetermined == ("the event loop blocked while there were threads which are not part of the run",)


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_pool_from_before_the_run_can_end_it_if_it_works(is_busy, backend):
    begun, results = threading.Event(), queue.SimpleQueue()

    def work():
        assert begun.wait(10)
        results.put(1)

    async def main():
        begun.set()
        return (future if is_busy else Future()).result()

    with ThreadPoolExecutor(1) as pool, takes_less_than(5):
        future = pool.submit(work)
        if not is_busy:
            begun.set()
            future.result()
        outcome = simulate(main, backend=backend)
        assert isinstance(outcome.exception, type(None) if is_busy else Deadlock)


@pytest.mark.either_backend
def test_a_thread_of_the_run_waits_for_a_pool_from_before():
    begun = threading.Event()

    async def main():
        begun.set()
        return await rt.call(future.result)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: begun.wait(10))
        assert simulate(main).unwrap() is True


@pytest.mark.slow
def test_threads_that_end_just_now_are_no_deadlock(backend):
    async def main():
        for _ in range(3):
            with ThreadPoolExecutor(3) as pool:
                for _ in range(4):
                    pool.submit(time.sleep, 1)
            thread = threading.Thread(target=time.sleep, args=(1,))
            thread.start()
            thread.join()
        return anyio.current_time()

    assert [simulate(main, seed=seed, start=0, backend=backend).result for seed in range(60)] == [9] * 60


def test_threads_that_spin_while_the_event_loop_waits(backend):
    async def main():
        def spin():
            while not event.is_set():
                time.sleep(0)

        event = threading.Event()
        thread = threading.Thread(target=spin)
        thread.start()
        try:
            thread.join()
        finally:
            event.set()

    outcome = simulate(main, backend=backend, max_steps=5_000)
    assert isinstance(outcome.exception, Livelock)
    assert "spin (test_blocking.py:" in str(outcome.exception)


def test_a_thread_that_works_for_too_long_holds_the_clock(backend):
    locks = [threading.Lock()]  # made before the run, and without a name, so that the wait for it is real

    def work():
        with locks[0]:
            pass

    async def main():
        thread = threading.Thread(target=work)
        thread.start()
        try:
            thread.join()
        finally:
            locks[0].release()

    locks[0].acquire()
    with pytest.raises(ClockHeldError, match=r"a thread has been at work for 0.2 s of real time; no task can run"):
        run(main, backend=backend, world="virtual", clock=VirtualClock(patience=0.2))
