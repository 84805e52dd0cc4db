"""Event loops in threads of a run, beside its own: their timers are virtual, and they take turns with other threads."""

from __future__ import annotations

import asyncio
import threading
import time

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from railtracks.testing import Deadlock, check, simulate
from railtracks.testing.invariants import is_determined


def simulate_in_thread(function, backend, seed=0, **options):
    """Return the outcome of a flow that runs ``function`` in a thread, checked."""

    async def main():
        return await anyio.to_thread.run_sync(function)

    outcome = simulate(main, seed=seed, backend=backend, **options)
    check(outcome, is_determined)
    return outcome


async def double(number):
    await anyio.sleep(60)
    return 2 * number


def by_asyncio():
    return asyncio.run(double(2))


def by_portal():
    with anyio.from_thread.start_blocking_portal() as portal:
        return portal.call(double, 2)


def by_thread():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        return asyncio.run_coroutine_threadsafe(double(2), loop).result(timeout=61)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("function", [by_asyncio, by_portal, by_thread])
def test_another_event_loop_sleeps_in_virtual_time(backend, function):
    for seed in range(3):
        outcome = simulate_in_thread(function, backend, seed)
        assert (outcome.unwrap(), outcome.duration) == (4, 60)


def test_a_timeout_of_another_event_loop_is_virtual(backend):
    async def give_up():
        began = time.monotonic()
        with anyio.move_on_after(30):
            await anyio.sleep(60)
        return time.monotonic() - began

    assert simulate_in_thread(lambda: asyncio.run(give_up()), backend, start=999_999_000).unwrap() == 30


def test_threads_of_another_event_loop_take_turns(backend):
    async def sleep_in_threads():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(anyio.to_thread.run_sync, time.sleep, 5)
        return await asyncio.to_thread(lambda: "slept")

    outcome = simulate_in_thread(lambda: asyncio.run(sleep_in_threads()), backend)
    assert (outcome.unwrap(), outcome.duration) == ("slept", 5)


def test_two_event_loops_call_one_another(backend):
    def call_back_and_forth():
        with (
            anyio.from_thread.start_blocking_portal() as ping,
            anyio.from_thread.start_blocking_portal() as pong,
        ):

            async def count(number, here, there):
                await anyio.sleep(1)
                if number:
                    await asyncio.wrap_future(there.start_task_soon(count, number - 1, there, here))

            ping.call(count, 3, ping, pong)

    assert simulate_in_thread(call_back_and_forth, backend).duration == 4


def test_another_event_loop_may_have_sockets(backend):
    async def echo(reader, writer):
        writer.write(await reader.read())
        writer.close()

    async def send():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"sent")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

    assert simulate_in_thread(lambda: asyncio.run(send()), backend).unwrap() == b"sent"


def test_a_wait_of_another_event_loop_that_nothing_ends(backend):
    async def main():
        await anyio.to_thread.run_sync(lambda: asyncio.run(asyncio.Event().wait()))

    assert isinstance(simulate(main, backend=backend, timeout=float("inf")).exception, Deadlock)


def test_joining_in_a_worker_takes_virtual_time(backend):
    async def main():
        thread = threading.Thread(target=time.sleep, args=(60,))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        return anyio.current_time()

    outcome = simulate(main, backend=backend)
    check(outcome, is_determined)
    assert outcome.duration == 60
