"""Measure work in processes: through the library's runners, against the same processes without them."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import trio
from anyio import to_process

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, micro, milli, quiet_session, ratio
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


FILES, FUNCTIONS = 60, 200
"""Files to audit, and functions in each."""
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


def bare_dask(client: Any, loops: int) -> Variant:
    """Wait in the thread of the event loop, which costs nothing, and which nobody can afford."""

    async def run(count: int) -> None:
        for _ in range(count):
            assert client.submit(work, loops, pure=False, retries=0).result() == loops

    return run


async def take_dask_times(client: Any, rounds: int) -> dict[str, list[float]]:
    runner = runner_of(rt.executors.Dask(client), "cluster")
    try:
        return await in_turns({"dask": through(runner, LOOPS), "bare dask": bare_dask(client, LOOPS)}, CALLS, rounds)
    finally:
        await runner.close()


def measure_dask(backend: str, rounds: int) -> list[Result]:
    """Measure a cluster of one process, where Dask is installed."""
    try:
        import distributed
    except ImportError:
        return []
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        times = anyio.run(take_dask_times, client, rounds, backend=backend)
    against = f"bare client.submit ({micro(times['bare dask'])})"
    return [Result("work in a Dask cluster", micro(times["dask"]), against, ratio(times, "dask", "bare dask"), 1.2)]


def load_audit() -> Any:
    """Import the demo, which workers import by the same name."""
    folder = str(Path(__file__).parents[1] / "docs" / "scripts")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("audit")


def write_sources(folder: Path) -> list[str]:
    """Write the files to audit, each of which takes some milliseconds to parse, and return their paths."""
    function = (
        "def f{0}(a, b):\n    c = [a * {0} + each for each in b if each != {0}]\n    return sum(c) or {{a: b}}\n\n"
    )
    source = "".join(function.format(number) for number in range(FUNCTIONS))
    files = [folder / f"module_{number}.py" for number in range(FILES)]
    for file in files:
        file.write_text(source, encoding="utf-8")
    return list(map(str, files))


def auditing(audit: Any, files: list[str], folder: str, where: str) -> Variant:
    """Audit the files with ``parse`` in one place. Processes that are started once do not count."""
    plain = audit.parse

    async def run(_: int) -> float:
        context = {"folder": folder, "max_lines": 40, "limit": 2, "top": 10}
        audit.parse = plain.options(where=where)
        try:
            async with quiet_session(context=context):
                await rt.call_batch(audit.parse, files[:2])
                began = time.perf_counter()
                found = await rt.call(audit.audit)
                elapsed = time.perf_counter() - began
        finally:
            audit.parse = plain
        assert found.functions == FILES * FUNCTIONS
        return elapsed

    return run


def measure_audit(backend: str, rounds: int) -> Result:
    """Measure the demo on two processes."""
    with tempfile.TemporaryDirectory() as name:
        files = write_sources(Path(name))
        audit = load_audit()
        variants = {where: auditing(audit, files, name, where) for where in ("process", "thread")}
        times = anyio.run(in_turns, variants, 1, rounds, backend=backend)
    against = f"in threads ({milli(times['thread'])})"
    return Result("audit on 2 processes", milli(times["process"]), against, ratio(times, "process", "thread"), 1 / 1.6)


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
        *measure_dask(backend, rounds),
        measure_audit(backend, max(1, rounds // 3)),
    ]
