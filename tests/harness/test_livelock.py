"""Runs in which tasks always have something to do, and no time passes: they end, and say what ran."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from functools import partial

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from railtracks.exceptions import ConfigError
from railtracks.testing import ClockHeldError, Deadlock, Livelock, VirtualClock, run
from railtracks.testing._virtual_time import _stepping
from tests.harness.clocks import in_thread, work

MAX_STEPS = 20_000
"""As many as run in about a tenth of a second."""


def livelock(backend, func, *args, seed=None):
    with pytest.raises(Livelock) as raised:
        run(func, *args, backend=backend, seed=seed, clock=VirtualClock(max_steps=MAX_STEPS))
    return raised.value


async def spins():
    while True:
        await anyio.sleep(0)


# ---- what is found


@pytest.mark.parametrize("seed", [None, 1])
def test_a_task_that_asks_again_and_again(backend, seed):
    async def main():
        await anyio.sleep(3)
        async with anyio.create_task_group() as group:
            group.start_soon(spins)
            await anyio.sleep(5)

    error = livelock(backend, main, seed=seed)
    assert "at 3 s of virtual time tasks run on and on, and no time passes (max_steps=20000)" in str(error)
    assert [place.partition(":")[0] for place in error.running] == ["spins (test_livelock.py"]
    assert [place.partition(":")[0] for place in error.waiting] == ["main (test_livelock.py"]
    assert "\n  running: spins (test_livelock.py:" in str(error)
    assert "\n  waiting: main (test_livelock.py:" in str(error)


def test_a_timeout_does_not_end_it_as_it_is_never_due(backend):
    async def main():
        with anyio.fail_after(1):
            await spins()

    livelock(backend, main)


def test_it_comes_at_the_same_step_each_time(backend):
    def steps():
        taken = 0

        async def main():
            nonlocal taken
            while True:
                await anyio.sleep(0)
                taken += 1

        livelock(backend, main, seed=1)
        return taken

    assert steps() == steps() == pytest.approx(MAX_STEPS / 25, abs=50)


async def items_that_go_round():
    async def pass_on(receive, send):
        async for item in receive:
            await send.send(item)

    one, other = anyio.create_memory_object_stream(1), anyio.create_memory_object_stream(1)
    with one[0], one[1], other[0], other[1]:
        async with anyio.create_task_group() as group:
            group.start_soon(pass_on, one[1], other[0])
            group.start_soon(pass_on, other[1], one[0])
            await one[0].send("item")


async def tasks_that_start_tasks():
    async def nothing():
        pass

    while True:
        async with anyio.create_task_group() as group:
            group.start_soon(nothing)


async def sleeps_too_short_to_move_the_clock():
    await anyio.sleep(1)
    while True:
        await anyio.sleep(1e-20)


async def many_that_spin():
    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(spins)


async def a_generator_that_never_ends():
    async def numbers():
        while True:
            await anyio.sleep(0)
            yield 1

    async for _ in numbers():
        pass


async def a_thread_that_asks_again_and_again():
    def asks():
        while True:
            anyio.from_thread.run(anyio.sleep, 0)

    await anyio.to_thread.run_sync(asks)


async def a_thread_that_looks_again_and_again():
    def looks():
        while anyio.from_thread.run_sync(threading.active_count):
            pass

    await anyio.to_thread.run_sync(looks)


async def threads_one_after_another():
    while True:
        await anyio.to_thread.run_sync(int)


@pytest.mark.parametrize(
    ("func", "place"),
    [
        (items_that_go_round, "pass_on (test_livelock.py:"),
        (tasks_that_start_tasks, "tasks_that_start_tasks (test_livelock.py:"),
        (sleeps_too_short_to_move_the_clock, "sleeps_too_short_to_move_the_clock (test_livelock.py:"),
        (many_that_spin, "spins (test_livelock.py:"),
        (a_generator_that_never_ends, "numbers (test_livelock.py:"),
        (a_thread_that_asks_again_and_again, "asks (test_livelock.py:"),
        (a_thread_that_looks_again_and_again, "looks (test_livelock.py:"),
        (threads_one_after_another, "threads_one_after_another (test_livelock.py:"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_its_relatives(backend, func, place):
    assert any(each.startswith(place) for each in livelock(backend, func).running)


async def a_callback_that_schedules_itself():
    def again():
        asyncio.get_running_loop().call_soon(again)

    again()
    await anyio.sleep(5)


async def a_timer_that_sets_itself():
    def again():
        asyncio.get_running_loop().call_later(0, again)

    again()
    await anyio.sleep(5)


async def a_reader_that_does_not_read():
    def again():
        pass

    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        asyncio.get_running_loop().add_reader(here, again)
        try:
            await anyio.sleep(5)
        finally:
            asyncio.get_running_loop().remove_reader(here)


async def a_cancellation_that_is_delivered_again():
    async def again():
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(task)

    with anyio.CancelScope() as scope:
        task = asyncio.create_task(asyncio.sleep(5))
        scope.cancel()
        await again()


@pytest.mark.parametrize(
    "func",
    [
        a_callback_that_schedules_itself,
        a_timer_that_sets_itself,
        a_reader_that_does_not_read,
        a_cancellation_that_is_delivered_again,
    ],
    ids=lambda func: func.__name__,
)
def test_its_relatives_on_asyncio(func):
    assert any(place.startswith("again (test_livelock.py:") for place in livelock("asyncio", func).running)


async def checkpoints_of_trio():
    import trio

    while True:
        await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.checkpoint_if_cancelled()


async def deadlines_in_the_past():
    import trio

    while True:
        await trio.sleep_until(trio.current_time() - 1)


async def a_callback_that_runs_soon_again():
    import trio

    token = trio.lowlevel.current_trio_token()

    def again():
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(again)

    again()
    await trio.sleep(5)


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (checkpoints_of_trio, "checkpoints_of_trio"),
        (deadlines_in_the_past, "deadlines_in_the_past"),
        (a_callback_that_runs_soon_again, "again"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_its_relatives_on_trio(func, name):
    assert f"{name} (test_livelock.py:" in str(livelock("trio", func))


# ---- how it ends


def test_its_cleanup_runs(backend):
    cleaned_up = []

    async def main():
        try:
            await spins()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(30)
                cleaned_up.append(anyio.current_time())

    livelock(backend, main)
    assert cleaned_up == [30]


async def swallows_everything():
    while True:
        with contextlib.suppress(BaseException):
            await anyio.sleep(0)


async def spins_in_a_shield():
    with anyio.CancelScope(shield=True):
        await spins()


@pytest.mark.parametrize("func", [swallows_everything, spins_in_a_shield], ids=lambda func: func.__name__)
def test_it_ends_although_it_cannot_be_cancelled(backend, func):
    livelock(backend, func)
    assert run(anyio.sleep, 1, backend=backend) is None  # the next run notices nothing


def test_a_task_beside_the_run_that_cannot_be_cancelled(backend):
    async def main():
        if backend == "trio":
            import trio

            trio.lowlevel.spawn_system_task(swallows_everything)
            await anyio.sleep(5)
        else:
            task = asyncio.create_task(swallows_everything())
            await anyio.sleep(5)
            task.cancel()

    assert "swallows_everything (test_livelock.py:" in str(livelock(backend, main))


def test_after_a_deadlock_it_is_still_a_deadlock(backend):
    async def main():
        try:
            await anyio.sleep_forever()
        finally:
            await swallows_everything()

    with pytest.raises(Deadlock):
        run(main, backend=backend, clock=VirtualClock(max_steps=MAX_STEPS))


def test_a_thread_that_waits_for_such_a_run_is_released(backend):
    raised = threading.Event()

    def waits():
        try:
            anyio.from_thread.run(swallows_everything)
        except BaseException:
            raised.set()
            raise

    async def main():
        await anyio.to_thread.run_sync(waits)

    livelock(backend, main)
    assert raised.wait(10)


@pytest.mark.parametrize("func", [spins, swallows_everything], ids=lambda func: func.__name__)
def test_a_loop_that_is_stepped(backend, func, monkeypatch):
    monkeypatch.setattr(_stepping, "VirtualClock", partial(VirtualClock, max_steps=MAX_STEPS))
    stepped = _stepping.SteppedLoop(backend, seed=0)
    with pytest.raises(Livelock, match=func.__name__):
        stepped.start(func)
    with pytest.raises(Livelock, match=func.__name__):
        stepped.advance(1)
    work()  # between two steps it spins on, and nothing comes of it
    stepped.close()


def test_python_exits_after_it(tmp_path):
    """Python discards coroutines when it exits; one that swallows everything would spin in real time then."""
    code = """
import anyio
from railtracks.testing import Livelock, VirtualClock, run

async def swallows():
    while True:
        try: await anyio.sleep(0)
        except BaseException: pass

for backend in ("asyncio", "trio"):
    try: run(swallows, backend=backend, clock=VirtualClock(max_steps=5000))
    except Livelock: print("livelock")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True
    )
    assert (done.stdout, done.stderr) == ("livelock\nlivelock\n", "")


# ---- what is not one


def test_a_large_fan_out_is_not_one(backend):
    async def leaf():
        await anyio.sleep(0)

    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(10_000):
                group.start_soon(leaf)

    run(main, backend=backend)


def test_nor_are_many_steps_between_which_time_passes(backend):
    async def main():
        for _ in range(2 * MAX_STEPS // 25):
            await anyio.sleep(0)
            await anyio.sleep(0.1)

    run(main, backend=backend, clock=VirtualClock(max_steps=MAX_STEPS))


@pytest.mark.parametrize("seed", [None, 1])
def test_nor_is_a_task_that_waits_for_a_thread(backend, seed):
    async def main():
        done = []
        async with anyio.create_task_group() as group:

            async def in_a_thread():
                done.append(await anyio.to_thread.run_sync(work, 0.3))

            group.start_soon(in_a_thread)
            while not done:
                await anyio.sleep(0)

    run(main, backend=backend, seed=seed, clock=VirtualClock(max_steps=MAX_STEPS))


def test_nor_is_one_that_waits_for_a_thread_of_its_own(backend):
    async def main():
        with in_thread(work, 0.3) as thread:
            while thread.is_alive():
                await anyio.sleep(0)

    run(main, backend=backend, clock=VirtualClock(max_steps=MAX_STEPS))


def test_nor_is_one_that_waits_for_what_holds_the_clock(backend):
    clock = VirtualClock(max_steps=MAX_STEPS)
    begun = threading.Event()
    done = threading.Event()

    def holds():
        with clock.hold():
            begun.set()
            work(0.3)
            done.set()

    async def main():
        while not done.is_set():
            await anyio.sleep(0)

    with in_thread(holds):
        begun.wait()
        run(main, backend=backend, clock=clock)


def test_nor_is_one_that_waits_for_a_process(backend):
    async def main():
        ended = []
        async with anyio.create_task_group() as group:

            async def process():
                ended.append(await anyio.run_process([sys.executable, "-S", "-c", "pass"]))

            group.start_soon(process)
            while not ended:
                await anyio.sleep(0)

    run(main, backend=backend, clock=VirtualClock(max_steps=MAX_STEPS))


def test_after_its_patience_it_says_what_holds_the_clock(backend):
    release = threading.Event()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, release.wait, 10)
            try:
                await spins()
            finally:
                release.set()

    with pytest.raises(ClockHeldError, match="a worker thread has been under way"):
        run(main, backend=backend, clock=VirtualClock(max_steps=MAX_STEPS, patience=0.2))


@pytest.mark.parametrize("max_steps", [0, -1, 1.5, True, "many"])
def test_a_wrong_number_of_steps_is_refused(max_steps):
    with pytest.raises(ConfigError, match=r"max_steps is .*; use a whole number of at least 1"):
        VirtualClock(max_steps=max_steps)
