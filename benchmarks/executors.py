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

CALLS = 100
"""Calls in a round, one after another."""


def work(loops: int) -> int:
    """Keep the processor busy, as what is worth a process of its own does."""
    for _ in range(loops):
        pass
    return loops


LOOPS = 50_000
"""What :func:`work` gets for a millisecond or two."""


@asynccontextmanager
async def pool_of_one() -> AsyncIterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(work, 1).result()
        yield pool


def through(runner: Runner, loops: int) -> Variant:
    async def run(count: int) -> None:
        for _ in range(count):
            answer = await runner.run(pack_work(work, (loops,), name="work"), node="work")
            assert unpack_outcome(answer).unwrap() == loops

    return run


def bare_process(loops: int) -> Variant:
    async def run(count: int) -> None:
        for _ in range(count):
            assert await to_process.run_sync(work, loops) == loops

    return run


def bare_pool(pool: ProcessPoolExecutor, loops: int) -> Variant:
    """Wait for a future, with the least code that does not block the event loop."""

    async def on_asyncio(count: int) -> None:
        for _ in range(count):
            assert await asyncio.wrap_future(pool.submit(work, loops)) == loops

    async def on_trio(count: int) -> None:
        for _ in range(count):
            done, token = trio.Event(), trio.lowlevel.current_trio_token()
            future = pool.submit(work, loops)
            future.add_done_callback(partial(_set_soon, token, done))
            await done.wait()
            assert future.result() == loops

    return on_trio if running_library() == "trio" else on_asyncio


def _set_soon(token: trio.lowlevel.TrioToken, done: trio.Event, _: object) -> None:
    token.run_sync_soon(done.set)


async def take_times(rounds: int) -> dict[str, list[float]]:
    processes = process_runner(1)
    try:
        async with pool_of_one() as pool:
            variants: dict[str, Variant] = {}
            for name, loops in (("", LOOPS), (" at rest", 0)):
                variants |= {
                    f"process{name}": through(processes, loops),
                    f"bare process{name}": bare_process(loops),
                    f"pool{name}": through(runner_of(pool, "pool"), loops),
                    f"bare pool{name}": bare_pool(pool, loops),
                }
            return await in_turns(variants, CALLS, rounds)
    finally:
        await processes.close()


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure a call that works for a millisecond or two, and one that does nothing, in a worker that is there already.

    The second shows what the transport costs, and has no target: nobody sends nothing to a process.
    """
    times = anyio.run(take_times, rounds, backend=backend)

    def row(work: str, name: str, against: str, target: float | None) -> Result:
        base = f"bare {name}"
        shown = f"{against} ({micro(times[base])})"
        return Result(work, micro(times[name]), shown, ratio(times, name, base), target)

    return [
        row("work in a process of the session", "process", "bare anyio.to_process", 1.5),
        row("work in a ProcessPoolExecutor", "pool", "bare submit and wait", 1.4),
        row("no work in a process of the session", "process at rest", "bare anyio.to_process", None),
        row("no work in a ProcessPoolExecutor", "pool at rest", "bare submit and wait", None),
    ]
