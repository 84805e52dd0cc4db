"""Virtual time: what the clock jumps over, what it waits for, and how it tells that it cannot go on.

Where a test wants to see that the clock waits for something outside the event loop, that has to take real time: such
waits are a few hundredths of a second, and go through ``work``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
import trio.testing

import railtracks as rt
from railtracks.exceptions import ConfigError, SessionError
from railtracks.testing import ClockHeldError, Deadlock, VirtualClock, run

DAY = 86400
BRIEFLY = 0.05
"""Real seconds."""


def work(seconds=BRIEFLY):
    """Take real time, as work in a thread does."""
    threading.Event().wait(seconds)
    return "worked"


@contextlib.contextmanager
def in_thread(func, *args):
    """A thread that the library knows nothing of."""
    thread = threading.Thread(target=func, args=args)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def takes_less_than(seconds):
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < seconds


# ---- time


def test_a_timeout_of_an_hour_passes_at_once(backend):
    async def main():
        with anyio.move_on_after(3600) as scope:
            await anyio.sleep_forever()
        return scope.cancelled_caught, anyio.current_time()

    with takes_less_than(1):
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

    with takes_less_than(2):
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


def test_it_returns_what_the_function_returns_and_passes_arguments_on(backend):
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
    assert abs(rt._ids.sources.get().clock() - time.perf_counter()) < 1


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
    with pytest.raises(ValueError, match="time does not go back"):
        VirtualClock().jump(-1)


def test_the_clock_stands_still_inside_hold(backend):
    """As for work that it cannot know of: a future of a thread that the library did not start."""
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


# ---- worker threads


async def by_call():
    return await rt.call(work)


async def by_anyio():
    return await anyio.to_thread.run_sync(work)


async def by_anyio_with_a_limiter():
    return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))


async def by_to_thread():
    return await asyncio.to_thread(work)


async def by_default_executor():
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def by_own_executor():
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


async def by_trio():
    return await trio.to_thread.run_sync(work)


async def by_trio_with_a_limiter():
    return await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1))


WAYS = [
    *((backend, way) for backend in ("asyncio", "trio") for way in (by_call, by_anyio, by_anyio_with_a_limiter)),
    *(("asyncio", way) for way in (by_to_thread, by_default_executor, by_own_executor)),
    *(("trio", way) for way in (by_trio, by_trio_with_a_limiter)),
]
ALL_WAYS = pytest.mark.parametrize(("library", "way"), WAYS, ids=[f"{way.__name__}-{name}" for name, way in WAYS])


@ALL_WAYS
def test_a_thread_at_work_holds_the_clock(library, way):
    async def main():
        with anyio.fail_after(5):
            assert await way() == "worked"
        return anyio.current_time()

    assert run(main, backend=library) == 0


@ALL_WAYS
@pytest.mark.parametrize("seed", [0, 1])
def test_with_a_seed_it_does_so_too(library, way, seed):
    async def main():
        with anyio.fail_after(5):
            assert await way() == "worked"
        return anyio.current_time()

    assert run(main, backend=library, seed=seed) == 0


def test_a_thread_that_waits_for_the_event_loop_does_not_hold_it(backend):
    async def main():
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep, 60))
        return anyio.current_time()

    with takes_less_than(2):
        assert run(main, backend=backend) == 60


def test_nor_does_a_sync_node_that_calls(backend):
    def node():
        rt.call_sync(anyio.sleep, 60)
        anyio.from_thread.run(anyio.sleep, 30)

    async def main():
        await rt.call(node)
        return anyio.current_time()

    with takes_less_than(2):
        assert run(main, backend=backend) == 90


def test_a_thread_that_waits_and_one_at_work_are_told_apart(backend):
    async def main():
        seen = []

        async def worker():
            with anyio.fail_after(5):
                await anyio.to_thread.run_sync(work)
            seen.append(anyio.current_time())

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, lambda: anyio.from_thread.run(anyio.sleep, 60))
            group.start_soon(worker)
        return [*seen, anyio.current_time()]

    assert run(main, backend=backend) == [0, 60]


def test_many_threads_at_work_and_waiting(backend):
    async def main():
        def each(seconds):
            work(0.001)
            anyio.from_thread.run(anyio.sleep, seconds)
            work(0.001)

        async with anyio.create_task_group() as group:
            for seconds in range(1, 11):
                group.start_soon(anyio.to_thread.run_sync, each, seconds)
        return anyio.current_time()

    assert run(main, backend=backend) == 10


def test_the_default_executor_is_shut_down_without_a_warning():
    async def main():
        await asyncio.to_thread(work)
        future = asyncio.get_running_loop().run_in_executor(None, work)
        await asyncio.sleep(0)
        future.cancel()  # the thread is still at work when the event loop shuts its executor down

    run(main)  # warnings are errors


# ---- portals


def test_a_thread_uses_a_portal_of_the_run(backend):
    async def main():
        ended = anyio.Event()

        def outside(portal):
            seen.append(portal.call(anyio.current_time))
            portal.call(anyio.sleep, 60)
            seen.append(portal.call(anyio.current_time))
            portal.call(ended.set)

        seen = []
        async with anyio.from_thread.BlockingPortal() as portal:
            with in_thread(outside, portal):
                await ended.wait()
        return seen

    with takes_less_than(2):
        assert run(main, backend=backend) == [0, 60]


def test_a_worker_at_work_holds_the_clock_also_beside_a_thread_that_waits_by_a_portal(backend):
    async def main():
        seen = []

        async def worker():
            with anyio.fail_after(5):
                await anyio.to_thread.run_sync(work)
            seen.append(anyio.current_time())

        async with anyio.from_thread.BlockingPortal() as portal, anyio.create_task_group() as group:
            thread = threading.Thread(target=portal.call, args=(anyio.sleep, 60))
            thread.start()
            await anyio.to_thread.run_sync(work, 0.02)  # until it waits
            group.start_soon(worker)
            await anyio.sleep(60)
            await anyio.to_thread.run_sync(thread.join)
        return seen

    assert run(main, backend=backend) == [0]


def test_a_worker_that_waits_for_another_event_loop_is_at_work(backend):
    """That one's time is real."""

    def use_another():
        with anyio.from_thread.start_blocking_portal(backend) as portal:
            portal.call(anyio.sleep, BRIEFLY)

    async def main():
        with anyio.fail_after(5):
            await anyio.to_thread.run_sync(use_another)
        return anyio.current_time()

    assert run(main, backend=backend) == 0


def test_another_event_loop_may_wake_the_run(backend):
    async def main():
        done = anyio.Event()
        native = anyio.lowlevel.current_token().native_token
        soon = native.run_sync_soon if backend == "trio" else native.call_soon_threadsafe

        async def wake():
            await anyio.sleep(BRIEFLY)
            soon(done.set)

        with anyio.from_thread.start_blocking_portal("asyncio") as portal:
            portal.start_task_soon(wake)
            await done.wait()

    run(main, backend=backend)


# ---- sockets


@contextlib.contextmanager
def served(answer, delay=BRIEFLY):
    """A TCP server in a real thread, which answers one request after a while; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                work(delay)
                connection.sendall(answer)

        with in_thread(serve):
            yield listener.getsockname()[1]


async def ask(port):
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"?")
        return await stream.receive()


def test_data_from_a_real_thread_comes_before_a_virtual_timeout(backend):
    async def main(port):
        with anyio.fail_after(5):
            answer = await ask(port)
        return answer, anyio.current_time()

    with served(b"hello") as port:
        assert run(main, port, backend=backend) == (b"hello", 0)


def test_it_does_not_when_sockets_do_not_hold_the_clock(backend):
    async def main(port):
        with anyio.fail_after(5):
            await ask(port)

    with served(b"hello", delay=0.2) as port, pytest.raises(TimeoutError):
        run(main, port, backend=backend, clock=VirtualClock(hold_for_sockets=False))


def test_a_reader_of_raw_asyncio_streams_gets_its_data_too():
    async def main(port):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"?")
            answer = await reader.read(100)
            writer.close()
            await writer.wait_closed()
        return answer, asyncio.get_running_loop().time()

    with served(b"hello") as port:
        assert run(main, port) == (b"hello", 0)


async def serve_one(listener, handle, *, task_status=anyio.TASK_STATUS_IGNORED):
    async with listener:
        task_status.started(listener.extra(anyio.abc.SocketAttribute.local_port))
        await listener.serve(handle)


async def local_listener():
    return (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]


def test_a_server_and_a_client_in_one_event_loop_do_not_hold_the_clock(backend):
    async def handle(stream):
        async with stream:
            await stream.receive()
            await anyio.sleep(60)
            await stream.send(b"late")

    async def main():
        async with anyio.create_task_group() as group:
            port = await group.start(serve_one, await local_listener(), handle)
            answer = await ask(port)
            group.cancel_scope.cancel()
        return answer, anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == (b"late", 60)


def test_nor_does_a_server_that_waits_for_a_client_which_sleeps(backend):
    async def handle(stream):
        async with stream:
            await stream.send(await stream.receive())

    async def main():
        async with anyio.create_task_group() as group:
            port = await group.start(serve_one, await local_listener(), handle)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await anyio.sleep(60)
                await stream.send(b"late")
                answer = await stream.receive()
            group.cancel_scope.cancel()
        return answer, anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == (b"late", 60)


def test_nor_does_a_pair_of_sockets_in_one_event_loop(backend):
    async def main():
        here, there = socket.socketpair()
        async with (
            await anyio.abc.UNIXSocketStream.from_socket(here) as one,
            await anyio.abc.UNIXSocketStream.from_socket(there) as other,
            anyio.create_task_group() as group,
        ):

            async def late():
                await anyio.sleep(60)
                await other.send(b"late")

            group.start_soon(late)
            return await one.receive(), anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == (b"late", 60)


def test_a_listener_that_nobody_calls_does_not_hold_the_clock(backend):
    async def main():
        async with await local_listener() as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, anyio.sleep)
            await anyio.sleep(60)
            group.cancel_scope.cancel()
        return anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == 60


# ---- processes

SLOW_PROGRAM = [sys.executable, "-S", "-c", "import time; time.sleep(0.05); print('hello')"]


def test_the_output_of_a_process_comes_before_a_virtual_timeout(backend):
    async def main():
        with anyio.fail_after(5):
            process = await anyio.run_process(SLOW_PROGRAM)
        return process.stdout.strip(), anyio.current_time()

    assert run(main, backend=backend) == (b"hello", 0)


def test_a_process_without_pipes_ends_before_a_virtual_timeout(backend):
    async def main():
        with anyio.fail_after(5):
            await anyio.run_process(SLOW_PROGRAM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return anyio.current_time()

    assert run(main, backend=backend) == 0


def test_a_process_of_asyncio():
    async def main():
        async with asyncio.timeout(5):
            process = await asyncio.create_subprocess_exec(*SLOW_PROGRAM, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
        return out.strip(), asyncio.get_running_loop().time()

    assert run(main) == (b"hello", 0)


def test_a_process_of_trio():
    async def main():
        with trio.fail_after(5):
            process = await trio.run_process(SLOW_PROGRAM, capture_stdout=True)
        return process.stdout.strip(), trio.current_time()

    assert run(main, backend="trio") == (b"hello", 0)


# ---- what cannot go on


def test_after_its_patience_it_tells_what_holds_the_clock(backend):
    release = threading.Event()

    async def main():
        try:
            with anyio.move_on_after(5):
                await anyio.to_thread.run_sync(release.wait, 10, abandon_on_cancel=True)
        finally:
            release.set()

    with takes_less_than(3), pytest.raises(ClockHeldError) as raised:
        run(main, backend=backend, clock=VirtualClock(patience=0.2))
    text = str(raised.value)
    assert "for 0.2 s of real time a worker thread has been under way" in text
    assert "the next deadline, at 5 s" in text
    assert "main (test_clock.py:" in text


def test_a_socket_that_stays_silent_is_told_too(backend):
    here, there = socket.socketpair()

    async def main():
        async with await anyio.abc.UNIXSocketStream.from_socket(here) as stream:
            with anyio.fail_after(5):
                await stream.receive()

    with there, idle_thread(), pytest.raises(ClockHeldError, match="file descriptor"):
        run(main, backend=backend, clock=VirtualClock(patience=0.2))


@contextlib.contextmanager
def idle_thread():
    """It might use the other end of a socket, for all that the clock knows."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield
    done.set()
    thread.join()


def test_a_pair_of_sockets_that_no_thread_can_use_does_not_hold_it(backend):
    here, there = socket.socketpair()

    async def main():
        async with await anyio.abc.UNIXSocketStream.from_socket(here) as stream:
            with anyio.move_on_after(5) as scope:
                await stream.receive()
            return scope.cancelled_caught

    with there:
        assert run(main, backend=backend)


def test_patience_counts_anew_for_each_wait(backend):
    async def main():
        for _ in range(6):
            with anyio.fail_after(5):
                await anyio.to_thread.run_sync(work)

    run(main, backend=backend, clock=VirtualClock(patience=0.2))


def test_a_wait_that_can_never_end_is_told_at_once(backend):
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
    with sending, receiving, takes_less_than(2), pytest.raises(Deadlock) as raised:
        run(main, backend=backend)
    text = str(raised.value)
    assert "at 3 s of virtual time nothing can run" in text
    for place in ("waits_for_an_event (test_clock.py:", "waits_for_an_item (test_clock.py:", "main (test_clock.py:"):
        assert f"waiting: {place}" in text
    assert cleaned_up == [33]


def test_also_when_all_sleep_for_ever(backend):
    with pytest.raises(Deadlock):
        run(anyio.sleep_forever, backend=backend)


def test_also_when_the_deadlock_is_shielded(backend):
    async def main():
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    with takes_less_than(2), pytest.raises(Deadlock, match="main"):
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


def test_a_deadlock_between_a_thread_and_the_event_loop_is_told(backend):
    async def main():
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep_forever))

    with takes_less_than(2), pytest.raises(Deadlock):
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


# ---- its place among the others


def test_wait_all_tasks_blocked_of_anyio(backend):
    async def main():
        seen = []

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
    with pytest.raises(SessionError, match=f"an event loop of {backend} is running here"):
        run(anyio.sleep, 1)


def test_a_backend_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="backend is 'curio'; give 'asyncio' or 'trio'"):
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
    """The cleanup after a deadlock may be where it hits."""

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
