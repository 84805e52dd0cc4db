"""Calls that wait for a place: their timeout and their running time begin when they have one."""

from __future__ import annotations

import math
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError, NodeTimeOutError
from railtracks.executors._process_runner import _BOOT
from railtracks.state import Reason, Status
from tests import virtual

pytestmark = pytest.mark.either_backend  # what workers do is the same on either; trio runs with the slow tests


def hold(name):
    """Work until the test lets it end. Files do that, as they are the same in all places."""
    Path(name).touch()
    wait_for_file(f"{name}.end")
    return name


def wait_for_file(name):
    path = Path(name).absolute()  # what was given up sees the file in the time of the next test, in another folder
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)  # real: other threads and processes make them
    raise AssertionError(f"there is no {path}")


async def fetch(name):
    Path(name).touch()
    wait_for_file(f"{name}.end")
    return name


class Bounded(ThreadPoolExecutor):
    """One whose ``submit`` waits until a worker is free."""

    def submit(self, *args, **kwargs):
        while self._work_queue.qsize() or any(not each.done() for each in getattr(self, "futures", ())):
            time.sleep(0.01)  # real, as executors of others do it
        self.futures = [*getattr(self, "futures", ()), super().submit(*args, **kwargs)]
        return self.futures[-1]


POOLS = {
    "threads": lambda: ThreadPoolExecutor(1),
    "processes": lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn")),
    "loky": lambda: pytest.importorskip("loky").ProcessPoolExecutor(1),
    "pebble": lambda: pytest.importorskip("pebble").ProcessPool(1, context=get_context("spawn")),
    "bounded": lambda: Bounded(1),
}
WAITS = {"thread": "a worker thread", "process": "a worker process", **{name: f"a place in {name!r}" for name in POOLS}}


@pytest.fixture
def session(monkeypatch):
    """Make sessions with one worker of each kind."""
    monkeypatch.setattr("railtracks.executors._process_runner._processors", lambda: 1)
    return partial(rt.Session, max_threads=1, executors=POOLS)


def nodes_at(place, timeout):
    return (
        rt.function_node(hold, name="held", where=place, timeout=math.inf),
        rt.function_node(hold, name="late", where=place, timeout=timeout),
    )


async def begun(*names):
    for name in names:
        await anyio.to_thread.run_sync(wait_for_file, name)


async def waiting(session, *indices):
    """Wait until calls wait for a place."""
    while any(_waiting_for(session, index) is None for index in indices):
        await checkpoint()


def _waiting_for(session, index):
    records = session.info.records
    return None if len(records) <= index or records[index].policy is None else records[index].policy.waiting


@pytest.mark.parametrize(
    "place", [pytest.param(name, marks=[pytest.mark.slow] if name in POOLS else []) for name in WAITS]
)
def test_timeout_begins_when_there_is_a_place(backend, session, place):
    held, late = nodes_at(place, 2)

    async def main(clock):
        async with session(timeout=60) as opened, anyio.create_task_group() as group:
            group.start_soon(rt.call, held, "first")
            await begun("first")
            while _waiting_for(opened, 0):  # it may begin before its `submit` returns
                await checkpoint()
            group.start_soon(rt.call, late, "second")
            await waiting(opened, 1)
            assert f"waiting for {WAITS[place]}" in str(opened.info)
            clock.jump(5)  # by hand, as it stands still while others work
            for _ in range(10):
                await checkpoint()
            Path("second.end").touch()
            Path("first.end").touch()
        return opened

    opened = virtual.run(backend, lambda: main(virtual.clock()))
    first, second = opened.info.records
    assert (second.status, second.result) == (Status.COMPLETED, "second")
    assert (second.policy.waited, second.policy.waiting) == (pytest.approx(5), None)
    assert first.policy is None or first.policy.waited == 0
    summary = opened.info.summary()
    assert [each.name for each in summary.nodes if each.total] == ["held"]
    assert "after it waited 5 s" in str(opened.info)


@pytest.mark.parametrize("place", ["thread", "process", "threads"])
def test_timeout_is_as_long_as_ever_after_the_wait(backend, session, place):
    held, late = nodes_at(place, 2)

    async def main(clock):
        async with session(timeout=60) as opened, anyio.create_task_group() as group:
            group.start_soon(rt.call, held, "first")
            await begun("first")

            async def call_late():
                with pytest.raises(NodeTimeOutError, match="late exceeded its timeout of 2 s"):
                    await rt.call(late, "second")
                Path("second.end").touch()

            group.start_soon(call_late)
            await waiting(opened, 1)
            clock.jump(5)
            Path("first.end").touch()
            await begun("second")
            while _waiting_for(opened, 1):
                await checkpoint()
            clock.jump(1.9)
            for _ in range(10):
                await checkpoint()
            assert opened.info.records[1].status is Status.OPEN
            clock.jump(0.2)
        return opened

    record = virtual.run(backend, lambda: main(virtual.clock())).info.records[1]
    assert (record.status, record.reason) == (Status.FAILED, Reason.NODE_TIMEOUT)
    assert record.policy.waited == pytest.approx(5)


@pytest.mark.parametrize("place", ["thread", "process", "threads"])
def test_timeout_of_the_session_counts_the_wait(backend, session, place):
    held, late = nodes_at(place, 20)

    async def main(clock):
        errors = []
        async with session(timeout=10) as opened, anyio.create_task_group() as group:

            async def call(node, name):
                with pytest.raises(GlobalTimeOutError) as caught:
                    await rt.call(node, name)
                errors.append(caught.value)

            group.start_soon(call, held, "first")
            await begun("first")
            group.start_soon(call, late, "second")
            await waiting(opened, 1)
            for seconds in (6, 5):  # the wait for a thread is reported in between
                clock.jump(seconds)
                for _ in range(10):
                    await checkpoint()
            while len(errors) < 2:
                await checkpoint()
            Path("first.end").touch()
        return opened, errors

    opened, errors = virtual.run(backend, lambda: main(virtual.clock()))
    record = opened.info.records[1]
    assert (f"late, waiting for {WAITS[place]}",) in [each.waiting for each in errors]
    assert (record.status, record.policy.waiting) == (Status.CANCELLED, WAITS[place])
    assert not record.abandoned
    assert not Path("second").exists()


def test_each_attempt_waits_for_a_place_of_its_own(backend, session):
    failures = [ValueError("the first attempt fails")]

    def flaky():
        if failures:
            raise failures.pop()

    held = rt.function_node(hold, timeout=math.inf)
    node = rt.function_node(flaky, timeout=2, retries=rt.Retry(attempts=2, wait_initial=0, wait_jitter=0))

    async def main(clock):
        async with session(timeout=60) as opened, anyio.create_task_group() as group:
            group.start_soon(rt.call, held, "first")
            await begun("first")
            group.start_soon(rt.call, node)
            await waiting(opened, 1)
            group.start_soon(rt.call, held, "second")
            await waiting(opened, 2)
            clock.jump(5)
            Path("first.end").touch()
            await begun("second")  # it came before the second attempt
            await waiting(opened, 3)
            clock.jump(7)
            Path("second.end").touch()
        return opened

    records = [
        each for each in virtual.run(backend, lambda: main(virtual.clock())).info.records if "flaky" in each.name
    ]
    assert [each.status for each in records] == [Status.FAILED, Status.COMPLETED]
    assert [each.policy.waited for each in records] == [pytest.approx(5), pytest.approx(7)]


def test_async_node_in_a_thread_waits_as_a_sync_one(backend, session):
    held = rt.function_node(hold, timeout=math.inf)
    late = rt.function_node(fetch, where="thread", timeout=2)

    async def main(clock):
        async with session(timeout=60) as opened, anyio.create_task_group() as group:
            group.start_soon(rt.call, held, "first")
            await begun("first")
            group.start_soon(rt.call, late, "second")
            await waiting(opened, 1)
            clock.jump(5)
            Path("second.end").touch()
            Path("first.end").touch()
        return opened

    record = virtual.run(backend, lambda: main(virtual.clock())).info.records[1]
    assert (record.status, record.policy.waited) == (Status.COMPLETED, pytest.approx(5))


def test_wait_for_a_process_can_be_cancelled_always(backend, session):
    """A node that is waited for when it is cancelled has not begun."""
    held = rt.function_node(hold, where="process", timeout=math.inf)
    late = rt.function_node(hold, where="process", name="late", abandon_on_cancel=False)

    async def main():
        async with session(timeout=60) as opened, anyio.create_task_group() as group:
            group.start_soon(rt.call, held, "first")
            await begun("first")
            handle = opened.start_soon(late, "second")
            await waiting(opened, 1)
            handle.cancel()
            while opened.info.records[1].status is Status.OPEN:
                await checkpoint()
            Path("first.end").touch()
        return opened

    assert virtual.run(backend, main).info.records[1].status is Status.CANCELLED
    assert not Path("second").exists()


def test_a_call_that_finds_a_place_has_nothing_on_record(backend, session):
    async def main():
        async with session(timeout=60) as opened:
            for place in ("thread", "threads"):
                await rt.call(rt.function_node(len, where=place, timeout=5), "abc")
        return opened

    for record in virtual.run(backend, main).info.records:
        assert record.policy is None or (record.policy.waited, record.policy.waiting) == (0, None)


@pytest.mark.slow
def test_the_start_of_a_process_does_not_count_in_a_timeout(backend, monkeypatch):
    boot = "railtracks.executors._process_runner._BOOT"
    monkeypatch.setattr(boot, f"import time; time.sleep(3); {_BOOT}")

    @rt.function_node(where="process", timeout=2.5)
    def double(number):
        return 2 * number

    async def main():
        async with rt.Session() as session:
            assert await rt.call(double, 2) == 4
        [record] = session.info.records
        assert record.policy.waited >= 3
        assert record.policy.waiting is None

    anyio.run(main, backend=backend)
