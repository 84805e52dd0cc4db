"""Virtual time: what the clock jumps over, how it is advanced by hand, and how a run ends."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
import trio.testing

import railtracks as rt
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError, SessionError
from railtracks.testing import ClockHeldError, VirtualClock, run
from tests.harness.clocks import in_thread, takes_less_than, work

DAY = 86400


# ---- time


def test_a_timeout_of_an_hour_passes_at_once(backend):
    async def main():
        with anyio.move_on_after(3600) as scope:
            await anyio.sleep_forever()
        return scope.cancelled_caught, anyio.current_time()

    with takes_less_than(5):
        assert run(main, backend=backend) == (True, 3600)


def test_time_begins_at_zero_and_sleeps_are_exact(backend):
    async def main():
        seen = [anyio.current_time()]
        for seconds in (0.1, 0, 59.9, 3600):
            await anyio.sleep(seconds)
            seen.append(anyio.current_time())
        return seen

    assert run(main, backend=backend) == [0, 0.1, 0.1, 60, 3660]


def test_sleepers_wake_in_the_order_of_their_deadlines(backend):
    async def main():
        woken = []

        async def sleeper(seconds):
            await anyio.sleep(seconds)
            woken.append((seconds, anyio.current_time()))

        async with anyio.create_task_group() as group:
            for seconds in (3, 1, 2.5, 2):
                group.start_soon(sleeper, seconds)
        return woken

    assert run(main, backend=backend) == [(1, 1), (2, 2), (2.5, 2.5), (3, 3)]


@pytest.mark.parametrize("days", [105, 10_000])
def test_it_does_not_spin_once_the_clock_is_large(backend, days):
    """Where the resolution of a float is coarser than that of the event loop, timers are never quite due."""

    async def main():
        await anyio.sleep(days * DAY)
        for _ in range(200):
            await anyio.sleep(0.001)
            await anyio.sleep(1 / 3)
        return anyio.current_time()

    with takes_less_than(5):
        assert run(main, backend=backend) == pytest.approx(days * DAY + 200 * (0.001 + 1 / 3))


def test_the_wall_clock_of_a_session_goes_with_it(backend):
    async def main():
        async with rt.Session(timeout=5000) as session:
            await rt.call(anyio.sleep, 3600)
        return session.payload()

    payload = run(main, backend=backend)
    assert payload["end_time"] - payload["start_time"] == 3600
    assert payload["session_id"] == "s0"
    assert run(main, backend=backend) == payload


def test_a_run_passes_arguments_on_and_returns_the_result(backend):
    async def add(a, b):
        return a + b

    assert run(add, 1, 2, backend=backend) == 3


def test_it_raises_the_same_exception(backend):
    error = ValueError("mine")

    async def main():
        raise error

    with pytest.raises(ValueError, match="mine") as raised:
        run(main, backend=backend)
    assert raised.value is error


def test_runs_do_not_leave_the_clock_behind(backend):
    async def main():
        await anyio.sleep(5)
        return anyio.current_time()

    assert [run(main, backend=backend) for _ in range(2)] == [5, 5]
    assert abs(runtime_hooks.get().clock() - time.perf_counter()) < 1


# ---- by hand


def test_a_clock_that_does_not_jump_is_moved_by_hand(backend):
    clock = VirtualClock(jumps=False)
    woken = []

    async def sleeper():
        await anyio.sleep(10)
        woken.append(clock.now)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(sleeper)
            await anyio.wait_all_tasks_blocked()
            clock.jump(9)
            await anyio.wait_all_tasks_blocked()
            assert not woken
            clock.jump(1)

    run(main, backend=backend, clock=clock)
    assert woken == [10]


def test_a_clock_jumps_by_hand_too_while_it_jumps_by_itself(backend):
    clock = VirtualClock()

    async def main():
        clock.jump(7)
        await anyio.sleep(1)
        return anyio.current_time(), clock.now

    assert run(main, backend=backend, clock=clock) == (8, 8)


def test_time_does_not_go_back():
    with pytest.raises(ValueError, match="jump: -1 is not a number of seconds; use 0 or more"):
        VirtualClock().jump(-1)


def test_the_clock_stands_still_inside_hold(backend):
    """This is for work that it cannot know of, such as a future of a thread that the library did not start."""
    clock = VirtualClock()

    async def main():
        done = anyio.Event()
        token = anyio.lowlevel.current_token()

        def outside():
            work()
            anyio.from_thread.run_sync(done.set, token=token)

        with in_thread(outside), clock.hold(), anyio.fail_after(5):
            await done.wait()
        return clock.now

    assert run(main, backend=backend, clock=clock) == 0


def test_holds_nest(backend):
    clock = VirtualClock(patience=0.1)

    async def main():
        with clock.hold():
            with clock.hold():
                pass
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep(1)

    with pytest.raises(ClockHeldError, match=r"1 x clock\.hold\(\)"):
        run(main, backend=backend, clock=clock)


# ---- beside anyio, trio and other runs


def test_wait_all_tasks_blocked_of_anyio(backend):
    async def main():
        seen: list[Any] = []

        async def sleeper():
            seen.append("asleep")
            await anyio.sleep(1)

        async with anyio.create_task_group() as group:
            group.start_soon(sleeper)
            await anyio.wait_all_tasks_blocked()
            seen.append(anyio.current_time())
        return seen

    assert run(main, backend=backend) == ["asleep", 0]


def test_wait_all_tasks_blocked_of_trio():
    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked(0.01)
            return trio.current_time()

    assert run(main, backend="trio") in (0, 1)


async def test_a_run_inside_a_running_event_loop_is_refused(backend):
    with pytest.raises(SessionError, match=f"an event loop of {backend} is running in this thread"):
        run(anyio.sleep, 1)


def test_a_backend_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="backend is 'curio'; use 'asyncio' or 'trio'"):
        run(anyio.sleep, 1, backend="curio")


def test_a_keyboard_interrupt_comes_out_plain(backend):
    async def main():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        run(main, backend=backend)
    assert type(raised.value) is KeyboardInterrupt


def test_ctrl_c_comes_out_plain(backend):
    cleaned_up = []

    async def main():
        signal.raise_signal(signal.SIGINT)
        try:
            await anyio.sleep(60)
        finally:
            cleaned_up.append(True)

    with pytest.raises(KeyboardInterrupt) as raised:
        run(main, backend=backend)
    assert type(raised.value) is KeyboardInterrupt


def test_ctrl_c_while_the_run_is_deadlocked_comes_out_plain(backend):
    """It may come during the cleanup after a deadlock."""

    async def main():
        try:
            await anyio.sleep_forever()
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(main, backend=backend)


def test_an_async_generator_that_is_left_open_is_closed(backend):
    closed = []

    async def numbers():
        try:
            yield 1
        finally:
            closed.append(True)

    kept = numbers()

    async def main():
        await anext(kept)

    with contextlib.suppress(ResourceWarning):
        run(main, backend=backend)
    assert closed == [True]


def test_two_runs_in_two_threads_have_a_clock_each(backend):
    results = {}

    async def main(name, seconds):
        for _ in range(20):
            await anyio.sleep(seconds)
            await anyio.to_thread.run_sync(lambda: None)
        results[name] = anyio.current_time()

    def one(name, seconds):
        run(main, name, seconds, backend=backend)

    with in_thread(one, "a", 1), in_thread(one, "b", 10):
        pass
    assert results == {"a": 20, "b": 200}
