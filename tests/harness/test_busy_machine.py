"""Threads of a simulated run on a machine that gives them no processor: the run is the same as on an idle one."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.testing import check, simulate
from railtracks.testing._virtual_time import _blocked_threads, _real_clock
from railtracks.testing._virtual_time._blocked_threads import BlockedThreads, StallDetector
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing.invariants import is_determined

LONG = 0.3
"""Real seconds: longer than a thread may stand still."""


def sync(function, **options):
    return rt.function_node(function, name="main", **options)


def test_a_thread_that_ends_has_woken_another_one_before(backend, monkeypatch):
    """One that is not part of the run wakes one that is, and ends, just when the clock asks what is going on."""
    go, woken = threading.Event(), []

    def wake():
        go.wait()
        for each in woken:
            each.set()

    def wait():
        woken.append(threading.Event())
        return woken[0].wait(60)

    def grant_turn(self, is_blocked):
        granted = real(self, is_blocked)
        if not granted and self.waits():
            go.set()
            while thread.is_alive():  # `join` would take virtual time
                _real_clock.block(0.001)
        return granted

    real = SeededThreadScheduler.grant_turn
    monkeypatch.setattr(SeededThreadScheduler, "grant_turn", grant_turn)
    thread = threading.Thread(target=wake)
    thread.start()
    outcome = simulate(sync(wait), backend=backend)
    assert (outcome.unwrap(), outcome.duration) == (True, 0)


@pytest.mark.parametrize("seed", [0, 1, 2, 20, 21])
def test_an_answer_may_come_before_the_wait_for_it(backend, seed, monkeypatch):
    def ask(me):
        for _ in range(3):
            anyio.from_thread.run(anyio.sleep, 0)
            order.append(me)

    async def main():
        async with anyio.create_task_group() as group:
            for me in range(3):
                group.start_soon(anyio.to_thread.run_sync, ask, me)

    def note_request(self, request):
        real(self, request)
        _real_clock.block(0.01)

    order = []
    usual = simulate(main, seed=seed, backend=backend).order, order
    real, order = BlockedThreads.note_request, []
    monkeypatch.setattr(BlockedThreads, "note_request", note_request)
    assert (simulate(main, seed=seed, backend=backend).order, order) == usual


def test_turns_are_not_counted_while_a_thread_is_waited_for(backend):
    def work(seconds):
        anyio.from_thread.run(anyio.sleep, 1)
        _real_clock.block(seconds)

    async def main(seconds):
        await anyio.to_thread.run_sync(work, seconds)
        await rt.call(sync(len), "abc")

    short, long = (simulate(main, seconds, backend=backend).trace for seconds in (0, LONG))
    assert [event.turn for event in short] == [event.turn for event in long]


def test_a_thread_does_not_stand_still_while_who_asks_does(monkeypatch):
    """Where one has no processor that holds the lock of the interpreter, the others cannot run."""
    times = [0.0, 10.0, 20.0, *(20 + count / 100 for count in range(1, 21))]
    found: list[float] = []
    monkeypatch.setattr(_real_clock, "monotonic", lambda: times[len(found)])
    monkeypatch.setattr(_blocked_threads, "is_running", lambda _: False)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert thread.ident is not None
    stalls = StallDetector()
    for _ in times:
        found.append(stalls.stalled_for(thread.ident))
    stop.set()
    thread.join()
    assert found[2] == pytest.approx(2 * 0.02)
    assert found[-1] == pytest.approx(2 * 0.02 + 20 * 0.01)


def test_the_end_of_another_event_loop_takes_turns(backend, monkeypatch):
    def shutdown(self, wait=True, **options):
        time.sleep(30 * wait)
        real(self, wait, **options)

    def run():
        async def main():
            return await asyncio.to_thread(len, "abc")

        return asyncio.run(main())

    real = ThreadPoolExecutor.shutdown
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    outcome = simulate(sync(run), backend=backend)
    check(outcome, is_determined)
    assert (outcome.unwrap(), outcome.duration) == (3, 30)


def test_a_thread_that_has_done_its_work_may_be_slow_to_end(backend):
    class Slow(threading.Thread):
        def _delete(self):
            _real_clock.block(LONG)
            super()._delete()  # type: ignore[misc]

    def wait():
        Slow(target=time.sleep, args=(0.5,)).start()
        return threading.Event().wait(1)

    outcome = simulate(sync(wait), backend=backend)
    assert (outcome.result, outcome.duration, outcome.undetermined) == (False, 1, ())
