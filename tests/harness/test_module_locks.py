"""Locks that a module made before the run: threads of a run wait for them in virtual time, and others as ever."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.testing import Deadlock, check, simulate
from railtracks.testing._virtual_time._module_locks import locks_in
from railtracks.testing.invariants import is_determined


class Odd:
    """Does not allow that anything reads its attributes."""

    def __getattribute__(self, name):
        raise RuntimeError(name)


class Slotted:
    __slots__ = ("lock",)


class Store:
    """Has a lock that all its objects share, and each has one of its own."""

    shared = threading.Lock()

    def __init__(self):
        self.lock = threading.RLock()


ODD, SLOTTED, STORE = Odd(), Slotted(), Store()
LOCK, RLOCK = threading.Lock(), threading.RLock()
ALIAS = LOCK
KINDS: dict[str, Any] = {
    "variable": lambda: LOCK,
    "reentrant": lambda: RLOCK,
    "class": lambda: Store.shared,
    "class by object": lambda: STORE.shared,
    "object": lambda: STORE.lock,
}
REAL = {name: get() for name, get in KINDS.items()}


@pytest.fixture(params=KINDS)
def lock(request):
    """A function that returns the lock: what code of the run has by its name."""
    yield KINDS[request.param]
    assert KINDS[request.param]() is REAL[request.param]


def nap(lock, seconds):
    with lock():
        time.sleep(seconds)


def at_once(function, *items):
    async def main():
        async with anyio.create_task_group() as group:
            for item in items:
                group.start_soon(rt.call, function, *item)
        return anyio.current_time()

    return main


def test_threads_of_the_run_wait_in_virtual_time(backend, lock):
    for seed in range(4):
        outcome = simulate(at_once(nap, (lock, 1), (lock, 2)), seed=seed, start=0, backend=backend)
        assert outcome.result == 3
        check(outcome, is_determined)


def test_timeouts_are_virtual(backend, lock):
    def hurry():
        time.sleep(1)
        assert not lock().acquire(timeout=5)
        return time.monotonic()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, nap, lock, 10)
            return await rt.call(hurry)

    assert simulate(main, start=0, backend=backend).result == 6


def test_locks_in_closures_are_replaced_as_well(backend):
    lock, store = threading.Lock(), Store()

    @rt.function_node
    def work(seconds):
        with lock, store.lock:
            time.sleep(seconds)

    async def main():
        await rt.call_batch(work, [1, 2])
        return type(lock), type(store.lock), anyio.current_time()

    real = lock, store.lock
    outcome = simulate(main, start=0, backend=backend)
    check(outcome, is_determined)
    assert outcome.unwrap()[2] == 3
    assert [each.__name__ for each in outcome.unwrap()[:2]] == ["VirtualLock", "AdoptedRLock"]
    assert (lock, store.lock) == real


@pytest.mark.either_backend
def test_two_names_of_a_lock_are_one_lock():
    assert simulate(at_once(nap, (lambda: LOCK, 1), (lambda: ALIAS, 2)), start=0).result == 3


@pytest.mark.parametrize(("name", "other"), [("variable", "class"), ("class", "object"), ("object", "reentrant")])
def test_locks_in_different_orders_are_a_deadlock(name, other, backend):
    lock, other = KINDS[name], KINDS[other]

    def first():
        with other():
            time.sleep(1)
            nap(lock, 1)

    def second():
        with lock():
            time.sleep(1)
            nap(other, 1)

    async def main():
        await rt.call_batch(lambda function: function(), [first, second])

    outcome = simulate(main, backend=backend, timeout=float("inf"))
    assert isinstance(outcome.exception, Deadlock)
    assert str(outcome.exception).count("for a lock, acquired in ") == 2
    assert [get() for get in KINDS.values()] == list(REAL.values())
    assert not any("<locked" in repr(each) for each in REAL.values())


def test_code_of_the_event_loop_that_blocks_is_a_deadlock(backend):
    async def main():
        with LOCK:
            LOCK.acquire()

    outcome = simulate(main, backend=backend)
    assert isinstance(outcome.exception, Deadlock)
    assert "for a lock, acquired in main (test_module_locks.py:" in str(outcome.exception)


@pytest.mark.either_backend
def test_a_lock_that_another_thread_holds_is_waited_for(lock):
    held, release, log = threading.Event(), threading.Event(), []
    real = lock()

    def hold():
        with real:
            held.set()
            assert release.wait(10)
            log.append("released")

    def work():
        release.set()
        with lock():
            log.append("acquired")

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    outcome = simulate(at_once(work, ()))
    thread.join()
    assert outcome.exception is None
    assert log == ["released", "acquired"]


@pytest.mark.either_backend
def test_a_reentrant_lock_is_a_lock_of_conditions():
    items = queue.SimpleQueue()

    async def main():
        condition = threading.Condition(RLOCK)

        def wait():
            with condition, RLOCK:
                assert condition.wait(10)
                items.put(time.monotonic())

        def notify():
            time.sleep(3)
            with RLOCK:
                condition.notify()
                time.sleep(1)
            with pytest.raises(RuntimeError, match="un-acquired"):
                RLOCK.release()

        await rt.call_batch(lambda function: function(), [wait, notify], return_exceptions=False)

    assert simulate(main, start=0).exception is None
    assert items.get() == 4
    assert items.empty()


@pytest.mark.either_backend
def test_locks_of_libraries_stay_what_they_are():
    found = list(locks_in({"__name__": "library", "__file__": "/usr/lib/python3/site-packages/library.py", "a": LOCK}))
    assert found == []
    here = {"__name__": "module", "__file__": "/project/module.py", "a": LOCK, "b": 1, "odd": ODD, "slots": SLOTTED}
    assert [key for _, key, *_ in locks_in(here)] == ["a"]
