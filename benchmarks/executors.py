"""Measure work in processes: through the library's runners, against the same processes without them."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

import anyio
import trio
from anyio import to_process

from benchmarks.measure import Result, Variant, in_turns, micro, ratio
from railtracks._concurrency._event_loop import running_library
from railtracks.executors import Runner
from railtracks.executors._executor_runner import runner_of
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._process_runner import process_runner
from railtracks.executors._worker import pack_work

CALLS = 200
"""Calls in a round, one after another."""


def add(a: int, b: int) -> int:
    """Do what takes no time, so that the transport is all there is."""
    return a + b


@asynccontextmanager
async def pool_of_one() -> AsyncIterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(add, 1, 2).result()
        yield pool


def through(runner: Runner) -> Variant:
    async def run(count: int) -> None:
        for number in range(count):
            answer = await runner.run(pack_work(add, (number, 1), name="add"), node="add")
            assert unpack_outcome(answer).unwrap() == number + 1

    return run


async def bare_process(count: int) -> None:
    for number in range(count):
        assert await to_process.run_sync(add, number, 1) == number + 1


def bare_pool(pool: ProcessPoolExecutor) -> Variant:
    """Wait for a future, with the least code that does not block the event loop."""

    async def on_asyncio(count: int) -> None:
        for number in range(count):
            assert await asyncio.wrap_future(pool.submit(add, number, 1)) == number + 1

    async def on_trio(count: int) -> None:
        for number in range(count):
            done, token = trio.Event(), trio.lowlevel.current_trio_token()
            future = pool.submit(add, number, 1)
            future.add_done_callback(partial(_set_soon, token, done))
            await done.wait()
            assert future.result() == number + 1

    return on_trio if running_library() == "trio" else on_asyncio


def _set_soon(token: trio.lowlevel.TrioToken, done: trio.Event, _: object) -> None:
    token.run_sync_soon(done.set)


async def take_times(rounds: int) -> dict[str, list[float]]:
    processes = process_runner(1)
    try:
        async with pool_of_one() as pool:
            variants = {
                "process": through(processes),
                "bare process": bare_process,
                "pool": through(runner_of(pool, "pool")),
                "bare pool": bare_pool(pool),
            }
            return await in_turns(variants, CALLS, rounds)
    finally:
        await processes.close()


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure a call that does nothing, in a worker process that is there already."""
    times = anyio.run(take_times, rounds, backend=backend)
    return [
        Result(
            "work in a process of the session",
            micro(times["process"]),
            f"bare anyio.to_process ({micro(times['bare process'])})",
            ratio(times, "process", "bare process"),
            1.5,
        ),
        Result(
            "work in a ProcessPoolExecutor",
            micro(times["pool"]),
            f"bare submit and wait ({micro(times['bare pool'])})",
            ratio(times, "pool", "bare pool"),
            1.4,
        ),
    ]
