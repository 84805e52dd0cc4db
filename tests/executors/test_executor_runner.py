"""Work in executors of concurrent.futures and of others: results, cancellation, lost workers, their end."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from railtracks.exceptions import ConfigError, SessionError, WorkerLostError
from railtracks.executors._executor_runner import MAX_WORK_ON_LOOP, runner_of
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._worker import pack_work
from tests.executors import nodes

pytestmark = pytest.mark.either_backend  # what executors do is the same on either; trio runs with the slow tests


def threads():
    return ThreadPoolExecutor(2)


def spawned():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def forkserver():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"))


def loky():
    return pytest.importorskip("loky").ProcessPoolExecutor(2)


def pebble():
    return pytest.importorskip("pebble").ProcessPool(2, context=multiprocessing.get_context("spawn"))


def pebble_threads():
    return pytest.importorskip("pebble").ThreadPool(2)


def interpreters():
    futures = pytest.importorskip("concurrent.futures")
    if not hasattr(futures, "InterpreterPoolExecutor"):
        pytest.skip("needs Python 3.14")
    return futures.InterpreterPoolExecutor(2)


ALL = [threads, spawned, forkserver, loky, pebble, pebble_threads, interpreters]
PROCESSES = [spawned, loky, pebble]


async def result_of(runner, func, *args, **options):
    return unpack_outcome(await runner.run(pack_work(func, args, name="the_node"), node="the_node", **options)).unwrap()


@pytest.mark.parametrize("make", ALL)
async def test_work_runs_in_each_kind_of_executor(make):
    runner = runner_of(make, "pool")
    try:
        assert await result_of(runner, nodes.add, 1, 2) == 3
        assert await result_of(runner, nodes.async_add, 1, 2) == 3
        with pytest.raises(nodes.Picky, match="bad 7"):
            await result_of(runner, nodes.fail_picky, 7)
        here = await result_of(runner, os.getpid) == os.getpid()
        assert here == (runner.capabilities.kind in ("thread", "interpreter"))
    finally:
        await runner.close()


async def test_an_executor_of_the_caller_stays_open():
    with ThreadPoolExecutor(1) as pool:
        runner = runner_of(pool, "pool")
        assert await result_of(runner, nodes.add, 1, 2) == 3
        await runner.close()
        assert pool.submit(int).result() == 0


async def test_large_work_is_submitted_in_another_thread(monkeypatch):
    submitted_in = []

    with ThreadPoolExecutor(1) as pool:
        submit = pool.submit

        def noting(*args):
            submitted_in.append(threading.get_ident())
            return submit(*args)

        monkeypatch.setattr(pool, "submit", noting)
        runner = runner_of(pool, "pool")
        assert await result_of(runner, len, b"x") == 1
        assert await result_of(runner, len, b"x" * MAX_WORK_ON_LOOP) == MAX_WORK_ON_LOOP
    here = threading.get_ident()
    assert [each == here for each in submitted_in] == [True, False]


class Blocking(Executor):
    """``submit`` waits until there is room."""

    def __init__(self):
        self.room = threading.Event()
        self.waits = threading.Event()
        self.futures = []

    def submit(self, func, /, *args, **kwargs):
        self.waits.set()
        self.room.wait()
        self.futures.append(Future())
        return self.futures[-1]


async def test_a_submit_that_blocks_leaves_the_event_loop_alone():
    pool = Blocking()
    runner = runner_of(pool, "pool")
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(result_of, runner, nodes.add, 1, 2)
            await anyio.to_thread.run_sync(pool.waits.wait)
            group.cancel_scope.cancel()
    finally:
        pool.room.set()
    await anyio.to_thread.run_sync(
        lambda: [None for _ in iter(lambda: pool.futures and pool.futures[0].cancelled(), True)]
    )
    assert pool.futures[0].cancelled()


async def test_queued_work_is_cancelled_with_its_call():
    begun, release = threading.Event(), threading.Event()
    abandoned = []

    async def on_abandon():
        abandoned.append(True)
        return False

    with ThreadPoolExecutor(1) as pool:

        def work():
            begun.set()
            release.wait()

        pool.submit(work)
        await anyio.to_thread.run_sync(begun.wait)
        runner = runner_of(pool, "pool")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: result_of(runner, nodes.add, 1, 2, on_abandon=on_abandon))
            await anyio.wait_all_tasks_blocked()
            [queued] = runner._futures
            group.cancel_scope.cancel()
        assert queued.cancelled()
        assert abandoned == []
        release.set()


@pytest.mark.parametrize("must_wait", [False, True])
async def test_running_work_is_abandoned_with_its_call(must_wait):
    events.clear()
    release.clear()
    begun.clear()

    async def on_abandon():
        events.append("abandoned")
        release.set()
        return must_wait

    with ThreadPoolExecutor(1) as pool:
        runner = runner_of(pool, "pool")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: result_of(runner, wait_in_thread, on_abandon=on_abandon))
            await anyio.to_thread.run_sync(begun.wait)
            group.cancel_scope.cancel()
        if must_wait:
            assert events == ["abandoned", "ended"]
        else:
            assert events[0] == "abandoned"


events, begun, release = [], threading.Event(), threading.Event()


def wait_in_thread():
    begun.set()
    release.wait()
    events.append("ended")


@pytest.mark.parametrize("how", [nodes.exit_at_once, nodes.kill_self])
@pytest.mark.parametrize("make", PROCESSES)
async def test_a_worker_that_dies_is_an_error_that_names_it(make, how):
    runner = runner_of(make, "pool")
    try:
        with pytest.raises(WorkerLostError, match=r"the_node: a worker of the executor 'pool' was lost") as caught:
            await result_of(runner, how)
        assert caught.value.executor == "pool"
        assert "\n" not in str(caught.value)
        assert ".." not in str(caught.value)
        assert await result_of(runner, nodes.add, 1, 2) == 3  # it was replaced, if it is broken
    finally:
        await runner.close()


async def test_a_broken_executor_of_the_caller_says_what_to_write():
    with spawned() as pool:
        runner = runner_of(pool, "pool")
        with pytest.raises(WorkerLostError, match=r"executors=\{'pool': lambda: ProcessPoolExecutor\(\.\.\.\)\}"):
            await result_of(runner, nodes.exit_at_once)
        with pytest.raises(WorkerLostError, match=r"broken for all who use it"):
            await result_of(runner, nodes.add, 1, 2)


async def test_pebble_kills_what_is_cancelled(tmp_path):
    abandoned = []

    def begin_and_wait():
        Path(tmp_path, "pid").write_text(f"{os.getpid()}.")
        time.sleep(600)

    async def on_abandon():
        abandoned.append(True)
        return False

    def pid():
        text = Path(tmp_path, "pid").read_text() if Path(tmp_path, "pid").exists() else ""
        return int(text[:-1]) if text.endswith(".") else None

    def wait_until_gone():
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid(), 0)

    runner = runner_of(pebble, "pool")
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: result_of(runner, begin_and_wait, on_abandon=on_abandon))
            while pid() is None:
                await anyio.to_thread.run_sync(lambda: None)
            group.cancel_scope.cancel()
        await anyio.to_thread.run_sync(wait_until_gone)
        assert abandoned == []
        assert runner.capabilities.kills_running
    finally:
        await runner.close()


async def test_an_executor_that_was_shut_down_is_a_clear_error():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(WorkerLostError, match=r"the_node did not run: the executor 'pool' takes no work: RuntimeError"):
        await result_of(runner_of(pool, "pool"), nodes.add, 1, 2)


async def test_a_closed_runner_takes_no_work():
    runner = runner_of(threads, "pool")
    await runner.close()
    await runner.close()
    with pytest.raises(WorkerLostError, match="was closed with its session"):
        await result_of(runner, nodes.add, 1, 2)


async def test_work_that_the_executor_cancels_is_lost():
    pool = Blocking()
    pool.room.set()
    runner = runner_of(pool, "pool")
    async with anyio.create_task_group() as group:

        async def lose():
            with pytest.raises(WorkerLostError, match=r"did not run: its executor 'pool' cancelled it"):
                await result_of(runner, nodes.add, 1, 2)

        group.start_soon(lose)
        while not pool.futures:
            await anyio.to_thread.run_sync(lambda: None)
        pool.futures[0].cancel()


async def test_the_workers_of_a_closed_executor_are_gone():
    runner = runner_of(spawned, "pool")
    pid = await result_of(runner, os.getpid)
    await runner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_closing_kills_workers_that_were_abandoned():
    runner = runner_of(spawned, "pool")
    pid = await result_of(runner, os.getpid)
    reader, writer = os.pipe()
    async with anyio.create_task_group() as group:
        group.start_soon(result_of, runner, nodes.sleep_long)
        while not any(future.running() for future in runner._futures):
            await anyio.to_thread.run_sync(lambda: None)
        group.cancel_scope.cancel()
    os.close(reader)
    os.close(writer)
    await runner.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


async def test_an_executor_that_forks_is_warned_of(caplog):
    runner = runner_of(lambda: ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")), "pool")
    try:
        # It forks in the thread that submits, which no event loop runs in, so that workers can run one.
        assert await result_of(runner, nodes.async_add, 1, 2) == 3
        assert await result_of(runner, nodes.add, 1, 2) == 3
    finally:
        await runner.close()
    [record] = caplog.records
    assert record.name == "RT"
    assert record.getMessage().startswith("executors['pool'] forks its workers while an event loop and threads run")
    assert "get_context('forkserver')" in record.getMessage()


async def test_a_worker_that_was_forked_in_the_loop_says_so(backend):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(int).result()
        runner = runner_of(pool, "pool")  # its workers are there, and it forks no more
        assert await result_of(runner, nodes.add, 1, 2) == 3
        if backend == "trio":
            with pytest.raises(SessionError, match=r"forked in a trio event loop.*get_context\('forkserver'\)"):
                await result_of(runner, nodes.async_add, 1, 2)
        else:
            assert await result_of(runner, nodes.async_add, 1, 2) == 3


@pytest.mark.parametrize("wrong", [5, "pool", None])
def test_what_is_no_executor_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"executors\['pool'\] is .*no method `submit`"):
        runner_of(wrong, "pool")


async def test_an_executor_made_after_the_end_is_closed():
    reached, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args, **kwargs):
            super().shutdown(*args, **kwargs)
            closed.set()

    def make():
        reached.set()
        go_on.wait()
        return Pool(1)

    runner = runner_of(make, "pool")
    async with anyio.create_task_group() as group:
        group.start_soon(result_of, runner, nodes.add, 1, 2)
        await anyio.to_thread.run_sync(reached.wait)
        group.cancel_scope.cancel()
    await runner.close()
    go_on.set()
    assert await anyio.to_thread.run_sync(closed.wait, 20)


@pytest.mark.parametrize("make", PROCESSES)
def test_an_executor_with_cancelled_work_leaves_nothing(make, backend, capfd):
    """What was queued and cancelled must not keep its workers running; in real time."""

    async def main():
        runner = runner_of(make, "pool")
        pid = await result_of(runner, os.getpid)
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(result_of, runner, nodes.sleep_long)
            await anyio.sleep(0.2)
            group.cancel_scope.cancel()
        await runner.close()
        return pid

    pid = anyio.run(main, backend=backend)
    assert "Exception in" not in capfd.readouterr().err  # of a thread of the executor
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def die_at(path):
    while not path.exists():
        time.sleep(0.01)
    os._exit(3)


@pytest.mark.either_backend
@pytest.mark.parametrize("make", [spawned, loky])
def test_work_behind_cancelled_work_is_failed_when_workers_die(make, backend, tmp_path, capfd):
    """The executor fails all that is queued, and must not stumble over what was cancelled; in real time."""
    lost = []

    async def wait_for(runner, func, *args):
        try:
            await result_of(runner, func, *args)
        except WorkerLostError:
            lost.append(func)

    async def main():
        runner = runner_of(make, "pool")
        await result_of(runner, os.getpid)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(wait_for, runner, die_at, tmp_path / "now")
                await anyio.sleep(0.2)
                async with anyio.create_task_group() as left:
                    for _ in range(20):
                        left.start_soon(wait_for, runner, nodes.add, 1, 2)
                    await anyio.sleep(0.1)
                    for _ in range(5):
                        group.start_soon(wait_for, runner, nodes.sleep_long)
                    await anyio.sleep(0.1)
                    left.cancel_scope.cancel()
                (tmp_path / "now").touch()
        await runner.close()

    anyio.run(main, backend=backend)
    assert lost.count(nodes.sleep_long) == 5
    assert "Exception in" not in capfd.readouterr().err  # of a thread of the executor
