"""Runs that cannot continue: the report says what holds the clock, and what waits."""

from __future__ import annotations

import contextlib
import gc
import math
import socket
import threading

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

import railtracks as rt
from railtracks.testing import ClockHeldError, Deadlock, VirtualClock, run, simulate
from tests.harness.clocks import in_thread, takes_less_than, work


def test_after_its_patience_it_says_what_holds_the_clock(backend):
    release = threading.Event()

    async def main():
        try:
            with anyio.move_on_after(5):
                await anyio.to_thread.run_sync(release.wait, 10, abandon_on_cancel=True)
        finally:
            release.set()

    with takes_less_than(5), pytest.raises(ClockHeldError) as raised:
        run(main, backend=backend, clock=VirtualClock(patience=0.2))
    text = str(raised.value)
    assert "for 0.2 s of real time a worker thread has been under way" in text
    assert "the next deadline, at 5 s" in text
    assert "main (test_deadlock.py:" in text


def test_a_socket_that_stays_silent_is_reported_too(backend):
    here, there = socket.socketpair()

    async def main():
        async with await anyio.abc.UNIXSocketStream.from_socket(here) as stream:
            with anyio.fail_after(5):
                await stream.receive()

    with there, idle_thread(), pytest.raises(ClockHeldError, match="file descriptor"):
        run(main, backend=backend, clock=VirtualClock(patience=0.2))


@contextlib.contextmanager
def idle_thread():
    """Run a thread that, as far as the clock knows, might use the other end of a socket."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


def test_sockets_that_no_thread_can_use_do_not_hold_the_clock(backend):
    here, there = socket.socketpair()

    async def main():
        async with await anyio.abc.UNIXSocketStream.from_socket(here) as stream:
            with anyio.move_on_after(5) as scope:
                await stream.receive()
            return scope.cancelled_caught

    with there:
        assert run(main, backend=backend)


def test_patience_starts_again_for_each_wait(backend):
    async def main():
        for _ in range(6):
            with anyio.fail_after(5):
                await anyio.to_thread.run_sync(work)

    run(main, backend=backend, clock=VirtualClock(patience=0.2))


def test_an_event_loop_that_never_wakes_is_reported(backend):
    """As if something had closed the file by which threads wake it: what they hand over stays there."""

    async def main(clock):
        clock.event_loop.has_news = lambda: True
        with anyio.move_on_after(5):
            await anyio.sleep_forever()

    clock = VirtualClock(patience=0.2)
    with takes_less_than(5), pytest.raises(ClockHeldError, match="for the event loop, which does not wake, has been"):
        run(main, clock, backend=backend, clock=clock)


def test_a_file_that_was_closed_behind_its_back_is_reported():
    """trio waits for it for ever."""
    here, there = socket.socketpair()
    file = here.fileno()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(trio.lowlevel.wait_readable, file)
            await anyio.wait_all_tasks_blocked()
            here.close()

    with there, takes_less_than(5), pytest.raises(ClockHeldError, match=f"file descriptor {file}"):
        run(main, backend="trio", clock=VirtualClock(patience=0.2))


def test_a_wait_that_can_never_end_is_an_error_at_once(backend):
    cleaned_up = []

    async def waits_for_an_event():
        try:
            await anyio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(30)
                cleaned_up.append(anyio.current_time())

    async def waits_for_an_item():
        await receiving.receive()

    async def main():
        await anyio.sleep(3)
        async with anyio.create_task_group() as group:
            group.start_soon(waits_for_an_event)
            group.start_soon(waits_for_an_item)

    sending, receiving = anyio.create_memory_object_stream(1)
    with sending, receiving, takes_less_than(5), pytest.raises(Deadlock) as raised:
        run(main, backend=backend)
    text = str(raised.value)
    assert "at 3 s of virtual time nothing can run" in text
    for place in (
        "waits_for_an_event (test_deadlock.py:",
        "waits_for_an_item (test_deadlock.py:",
        "main (test_deadlock.py:",
    ):
        assert f"waiting: {place}" in text
    assert cleaned_up == [33]


def test_also_when_all_sleep_for_ever(backend):
    with pytest.raises(Deadlock):
        run(anyio.sleep_forever, backend=backend)


def test_also_when_the_deadlock_is_shielded(backend):
    async def main():
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    with takes_less_than(5), pytest.raises(Deadlock, match="main"):
        run(main, backend=backend)


def test_also_when_the_cancellation_is_swallowed(backend):
    async def main():
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "as if nothing had been"

    with pytest.raises(Deadlock):
        run(main, backend=backend)


def test_also_when_cleanup_raises(backend):
    async def main():
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    with pytest.raises(Deadlock):
        run(main, backend=backend)


def test_a_deadlock_of_a_thread_and_the_event_loop_is_an_error(backend):
    async def main():
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep_forever))

    with takes_less_than(5), pytest.raises(Deadlock):
        run(main, backend=backend)


def test_a_thread_that_was_started_since_may_still_wake_it(backend):
    async def main():
        done = anyio.Event()
        token = anyio.lowlevel.current_token()

        def outside():
            work()
            anyio.from_thread.run_sync(done.set, token=token)

        with in_thread(outside):
            await done.wait()

    run(main, backend=backend)


def test_deadlock_says_which_limit_a_call_waits_for(backend):
    @rt.function_node(limit=rt.Limit("api", concurrency=1))
    async def wait(begun, event):
        begun.set()
        await event.wait()

    async def main():
        async with rt.Session(timeout=math.inf, save_state=False), anyio.create_task_group() as group:
            begun, event = anyio.Event(), anyio.Event()
            group.start_soon(rt.call, wait, begun, event)
            await begun.wait()
            await rt.call(wait, begun, event)
            event.set()  # too late: the call that would come before it waits for the one that waits for this

    with pytest.raises(Deadlock) as raised:
        run(main, backend=backend)
    assert any(place.startswith("main (") and place.endswith(", for limit api") for place in raised.value.waiting)


def test_a_hang_that_can_be_cancelled_costs_no_collection(backend, monkeypatch):
    async def hangs():
        await anyio.sleep_forever()

    collected = []  # generations; each run collects the first one, of what is new
    monkeypatch.setattr(gc, "collect", lambda generation=2: collected.append(generation))
    assert isinstance(simulate(hangs, backend=backend, timeout=math.inf).exception, Deadlock)
    assert set(collected) <= {0}
