"""What asyncio promises about order holds for every seed: only steps of tasks that are neighbours change places."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import anyio
import pytest

import railtracks as rt
from railtracks.testing import run, simulate

SEEDS = range(40)  # from 20 on, some hold tasks back or delay timers
AT_ONCE = 4


async def a_job():
    await asyncio.sleep(0)


async def done_callback_before_the_await(log):
    task = asyncio.create_task(a_job())
    task.add_done_callback(lambda _: log.append("callback"))
    await task
    log.append("awaited")
    return ["callback", "awaited"]


async def call_soon_before_a_sleep(log):
    asyncio.get_running_loop().call_soon(log.append, "callback")
    await asyncio.sleep(0)
    log.append("slept")
    return ["callback", "slept"]


async def call_soon_before_and_after_a_task(log):
    loop = asyncio.get_running_loop()

    async def step():
        log.append("step")

    loop.call_soon(log.append, "before")
    task = asyncio.create_task(step())
    loop.call_soon(log.append, "after")
    await task
    return ["before", "step", "after"]


async def callbacks_of_a_future(log):
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: log.append(0))

    async def waits():
        await future
        log.append(1)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    future.add_done_callback(lambda _: log.append(2))
    future.set_result(None)
    await task
    await asyncio.sleep(0)
    return [0, 1, 2]


async def a_result_is_set_before_the_callback_that_reports_it(log):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, "result")
    loop.call_soon(log.append, "set")
    log.append(await future)
    return ["set", "result"]


async def timers_that_are_due_at_once(log):
    for number in range(12):
        asyncio.get_running_loop().call_later(1, log.append, number)
    await asyncio.sleep(2)
    return list(range(12))


async def a_timeout_that_was_set_before_a_sleep(log):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.sleep(1)
            log.append("slept")
    return []


async def a_connection_is_made_before_it_has_data(log):
    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            log.append("made")

        def data_received(self, data):
            log.append("data")

        def connection_lost(self, exc):
            log.append("lost")
            over.set_result(None)

    loop = asyncio.get_running_loop()
    over = loop.create_future()
    here, there = socket.socketpair()
    there.send(b"x")
    there.close()
    await loop.connect_accepted_socket(Protocol, here)
    await over
    return ["made", "data", "lost"]


async def a_process_has_its_output(log):
    process = await anyio.run_process([sys.executable, "-S", "-c", "print(1)"])
    log.append(process.stdout)
    return [b"1\n"] if sys.platform != "win32" else [b"1\r\n"]


async def a_line_that_comes_back_by_tcp(log):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"line\n")
        log.append(await reader.readline())
        await asyncio.sleep(0.1)  # the connection is open while time jumps
        writer.close()
    return [b"line\n"]


PROMISES = [
    done_callback_before_the_await,
    call_soon_before_a_sleep,
    call_soon_before_and_after_a_task,
    callbacks_of_a_future,
    a_result_is_set_before_the_callback_that_reports_it,
    timers_that_are_due_at_once,
    a_timeout_that_was_set_before_a_sleep,
    a_connection_is_made_before_it_has_data,
    a_line_that_comes_back_by_tcp,
]


async def keeps(promise):
    log = []
    expected = await promise(log)
    assert log == expected


async def all_keep(promise):
    await asyncio.gather(*(keeps(promise) for _ in range(AT_ONCE)))


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_every_seed_keeps_the_promise(promise):
    asyncio.run(all_keep(promise))  # it is one of asyncio
    for seed in SEEDS:
        run(all_keep, promise, seed=seed)


def test_also_for_subprocesses():
    for seed in range(5):  # processes take real time
        run(all_keep, a_process_has_its_output, seed=seed)


def test_processes_have_their_output_under_simulate(backend):
    async def echo(number):
        program = f"import os; os.write(1, b'{number}')"  # without text, so that all systems write the same
        return (await anyio.run_process([sys.executable, "-S", "-c", program])).stdout

    async def flow():
        return await rt.call_batch(echo, range(2))

    for seed in range(3):  # processes take real time
        assert simulate(flow, seed=seed, backend=backend).result == [b"0", b"1"]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_also_under_simulate(promise):
    node = rt.function_node(keeps)

    async def flow():
        await asyncio.gather(*(rt.call(node, promise) for _ in range(AT_ONCE)))

    for seed in SEEDS:
        assert simulate(flow, seed=seed).exception is None


def test_steps_of_neighbours_still_change_places():
    async def main():
        log = []

        async def step(number):
            log.append(number)

        await asyncio.gather(*map(step, range(4)))
        return tuple(log)

    assert len({run(main, seed=seed) for seed in range(20)}) > 10


def test_a_callback_parts_its_neighbours():
    async def main():
        log = []

        async def step(number):
            log.append(number)

        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(step(number)) for number in (1, 2)]
        loop.call_soon(log.append, "callback")
        tasks += [asyncio.create_task(step(number)) for number in (3, 4)]
        await asyncio.gather(*tasks)
        return tuple(log)

    assert {run(main, seed=seed) for seed in SEEDS} == {
        (*first, "callback", *second) for first in ((1, 2), (2, 1)) for second in ((3, 4), (4, 3))
    }


def test_cancelling_many_scopes_has_the_same_order_each_time():
    """The tasks wait for futures with callbacks, which keep their places; anyio cancels in the order of a set."""

    def story():
        log = []

        async def waits(number):
            with anyio.CancelScope():
                future = asyncio.get_running_loop().create_future()
                future.add_done_callback(lambda _: log.append(f"callback of {number}"))
                try:
                    await future
                finally:
                    log.append(number)

        async def main():
            async with anyio.create_task_group() as group:
                for number in range(8):
                    garbage.append([object()] * 7 * number)  # so that addresses differ
                    group.start_soon(waits, number)
                await anyio.sleep(1)
                group.cancel_scope.cancel()

        garbage = []
        run(main, seed=1)
        return tuple(log)

    assert len({story() for _ in range(5)}) == 1


def of_coroutines(jobs):
    return jobs


def of_futures(jobs):
    return [asyncio.ensure_future(asyncio.gather(job)) for job in jobs]


@pytest.mark.parametrize("made", [of_coroutines, of_futures])
def test_as_completed_has_the_same_order_each_time(made):
    def story():
        log = []

        async def job(number):
            log.append(number)

        async def main():
            jobs = []
            for number in range(8):
                garbage.append([object()] * 7 * number)  # so that addresses differ
                jobs.append(job(number))
            for each in asyncio.as_completed(made(jobs)):
                await each

        garbage = []
        run(main)
        return tuple(log)

    assert {story() for _ in range(5)} == {tuple(range(8))}


def test_the_futures_that_are_done_have_the_same_order_each_time():
    def story():
        async def main():
            loop = asyncio.get_running_loop()
            futures = {}
            for number in range(8):
                garbage.append([object()] * 7 * number)  # so that addresses differ
                futures[loop.create_future()] = number
            for future in futures:
                future.set_result(None)
            done, _ = await asyncio.wait(futures)
            return [futures[each] for each in done]

        garbage = []
        return tuple(run(main))

    assert {story() for _ in range(5)} == {tuple(range(8))}


def test_scopes_outside_of_virtual_time_are_as_they_were():
    def kind_of_set():
        async def main():
            with anyio.CancelScope() as scope:
                return type(scope._child_scopes)  # type: ignore[attr-defined]

        return anyio.run(main)

    before = kind_of_set()
    run(anyio.sleep, 1)
    assert kind_of_set() is before is set
