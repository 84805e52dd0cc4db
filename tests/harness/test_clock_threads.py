"""Worker threads and portals: those at work hold the clock, those that wait for the event loop do not."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio

import railtracks as rt
from railtracks.testing import ClockHeldError, VirtualClock, run
from tests.harness.clocks import BRIEFLY, in_thread, takes_less_than, work

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

    with takes_less_than(5):
        assert run(main, backend=backend) == 60


def test_nor_does_a_sync_node_that_calls(backend):
    def node():
        rt.call_sync(anyio.sleep, 60)
        anyio.from_thread.run(anyio.sleep, 30)

    async def main():
        await rt.call(node)
        return anyio.current_time()

    with takes_less_than(5):
        assert run(main, backend=backend) == 90


def test_a_waiting_thread_differs_from_one_at_work(backend):
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

    with takes_less_than(5):
        assert run(main, backend=backend) == [0, 60]


def test_a_worker_holds_the_clock_beside_a_waiting_thread(backend):
    """The worker is at work, and the other thread waits by a portal."""

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
        native: Any = anyio.lowlevel.current_token().native_token
        soon = native.run_sync_soon if backend == "trio" else native.call_soon_threadsafe

        async def wake():
            await anyio.sleep(BRIEFLY)
            soon(done.set)

        with anyio.from_thread.start_blocking_portal("asyncio") as portal:
            portal.start_task_soon(wake)
            await done.wait()

    run(main, backend=backend)


# ---- threads of other runs, and of libraries


def abandon_a_thread(backend, release):
    """Leave a worker thread behind, at work, in a run that is over."""

    async def main():
        with anyio.move_on_after(0.01):
            await anyio.to_thread.run_sync(release.wait, abandon_on_cancel=True)

    anyio.run(main, backend=backend)


def test_a_thread_of_an_earlier_run_does_not_hold_the_clock(backend):
    release = threading.Event()
    abandon_a_thread(backend, release)

    async def main():
        await anyio.sleep(1_000)
        assert await anyio.to_thread.run_sync(work) == work()  # this one does, in a thread of the same pool
        release.set()
        await anyio.sleep(1_000)
        return await anyio.to_thread.run_sync(work)

    with takes_less_than(5):
        assert run(main, backend=backend) == work()


LIBRARY = """
import asyncio, contextlib, queue, threading, time

class Connection:
    def __init__(self):
        self._requests = queue.SimpleQueue()
        threading.Thread(target=answer, args=(self._requests,), name="answers", daemon=True).start()
    def ask(self, seconds):
        future = asyncio.get_running_loop().create_future()
        self._requests.put((future, seconds))
        return future
    def close(self):
        self._requests.put((None, 0))

def answer(requests):
    while (request := requests.get())[0] is not None:
        future, seconds = request
        time.sleep(seconds)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            future.get_loop().call_soon_threadsafe(future.set_result, seconds)
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library that answers from a thread that it starts, as aiosqlite does."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "answering.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(folder))
    import answering  # type: ignore[import-not-found]

    yield answering
    del sys.modules["answering"]


def test_a_library_that_answers_from_a_thread_holds_the_clock(library):
    async def main():
        connection = library.Connection()
        try:
            with anyio.fail_after(1):
                return await connection.ask(0.1)
        finally:
            connection.close()

    assert run(main) == 0.1


def test_its_thread_does_not_while_nothing_is_asked(library):
    async def main():
        connection = library.Connection()
        await connection.ask(0)
        await anyio.sleep(10_000)
        connection.close()
        return anyio.current_time()

    with takes_less_than(5):
        assert run(main) == pytest.approx(10_000)


def test_a_thread_of_a_library_that_does_not_answer_is_named(library):
    async def main():
        connection = library.Connection()
        try:
            with anyio.move_on_after(100):
                await connection.ask(1)
        finally:
            connection.close()

    with pytest.raises(ClockHeldError, match="the thread answers of answering"):
        run(main, clock=VirtualClock(patience=0.2))
    for thread in threading.enumerate():
        if thread.name == "answers":
            thread.join()  # or it would hold the clock of the next tests
