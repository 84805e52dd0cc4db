"""The promises of the modes of durability: what is on disk when a call returns, and in which order it gets there."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import time

import pytest

import railtracks as rt
from railtracks.state import Status
from railtracks.state._stores import _fsync_thread
from railtracks.state._stores._fsync_thread import FsyncThread, fsync_thread
from tests.durability.disk import both, double, triple, until
from tests.durability.world import FOLDER

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def journal_on_disk(sizes):
    """Read the part of the journal that was on disk for certain."""
    return rt.ExecutionInfo.from_journal((FOLDER / "run.journal").read_bytes()[: max(sizes)], running=True)


@pytest.fixture
def synced(monkeypatch):
    """The size of the journal each time it was put on disk, the thread that did it, and the time after it."""
    fsync, sizes = os.fsync, []

    def record(handle):
        status = os.fstat(handle)
        fsync(handle)
        if os.path.exists(FOLDER / "run.journal") and os.path.samestat(status, os.stat(FOLDER / "run.journal")):
            sizes.append((status.st_size, threading.current_thread().name, time.monotonic()))

    monkeypatch.setattr(os, "fsync", record)
    return sizes


async def test_sync_mode_returns_when_the_end_of_a_call_is_on_disk(synced):
    async def parent(i):
        results = [await checked(triple, i), await checked(double, i)]
        return sum(results)

    async def checked(node, i):
        result = await rt.call(node, i)
        on_disk = journal_on_disk(size for size, *_ in synced).records
        assert [r.status for r in on_disk if r.name == node.__name__ and r.args == (i,)] == [Status.COMPLETED]
        return result

    async def failing(i):
        raise ValueError(i)

    async with rt.Session(run_identifier="run", durability="sync"):
        assert await rt.call_batch(parent, range(20)) == [5 * i for i in range(20)]
        with pytest.raises(ValueError, match="7"):
            await rt.call(failing, 7)
        assert journal_on_disk(size for size, *_ in synced).records[-1].status is Status.FAILED


async def test_sync_mode_writes_calls_that_end_together_at_once(synced):
    """In sync mode, calls that end together go to disk together."""
    async with rt.Session(run_identifier="run", durability="sync"):
        await rt.call_batch(triple, range(200))
    assert len(synced) < 100


async def test_async_mode_hands_a_call_to_the_system_as_it_returns():
    """In async mode, the operating system has the record of a call when it returns."""
    async with rt.Session(run_identifier="run", durability="async"):
        for i in range(5):
            await rt.call(triple, i)
            assert rt.state.load_run("run").records[-1].status is Status.COMPLETED


async def test_async_mode_puts_many_records_on_disk_at_once(synced):
    """In async mode, another thread puts many records on disk at once."""
    async with rt.Session(run_identifier="run", durability="async"):
        for count in range(1, 5):  # in real time: it takes a fifth of a second
            await rt.call_batch(triple, range(10))
            await until(lambda count=count: len(synced) >= count)
    assert {thread for _, thread, _ in synced} == {"railtracks-sync"}
    times = [at for *_, at in synced]
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.9 * _fsync_thread.INTERVAL


async def test_sync_mode_puts_on_disk_what_nothing_waits_for(synced):
    async def long():
        await until(lambda: synced)
        return journal_on_disk(size for size, *_ in synced).records

    async with rt.Session(run_identifier="run", durability="sync"):
        [record] = await rt.call(long)
    assert record.status is Status.OPEN


async def test_exit_mode_writes_no_journal(disk):
    async with rt.Session(run_identifier="run", durability="exit"):
        await rt.call(both, 1)
        assert [path.name for path in FOLDER.iterdir()] == ["run.lock"]
        assert not fsync_thread._scheduled
    assert "journal" not in {step.partition(" ")[2] for step in disk.steps if not step.startswith(("unlink", "rename"))}
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_the_document_is_on_disk_before_the_journal_is_removed(durability, disk):
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        before = len(disk.steps)
    last = [step for step in disk.steps[before:] if not step.startswith(("open", "mkdir"))]
    assert [step for step in last if step not in ("write journal", "fsync journal")] == [
        "fsync json", "replace json", "fsync folder", "unlink journal", "unlink lock",
    ]  # fmt: skip


async def test_the_name_of_a_new_journal_is_on_disk_too(disk):
    async with rt.Session(run_identifier="run", durability="sync"):
        await rt.call(triple, 1)
        assert [step for step in disk.steps if step.startswith("fsync")] == ["fsync journal", "fsync folder"]


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_values_are_on_record_as_they_were(durability):
    def keep(items):
        items.append("node")
        rt.context.put("items", items)
        items.append("later")
        return items

    async with rt.Session(run_identifier="run", durability=durability):
        items = ["caller"]
        result = await rt.call(keep, items)
        result.append("afterwards")
        [record] = rt.state.load_run("run").records
    assert record.args == (["caller"],)
    assert [change.value for change in record.changes] == ['["caller", "node"]']
    assert record.result == ["caller", "node", "later"]


# ---- the thread that syncs


@pytest.fixture
def syncing(monkeypatch):
    """A thread that syncs of its own, which ends when it has nothing to do."""
    monkeypatch.setattr(_fsync_thread, "INTERVAL", 0.0)
    thread = FsyncThread()
    thread.IDLE = 0.01
    yield thread
    if thread._thread is not None:
        thread._thread.join()


def test_the_thread_stays_for_more_work_and_ends_when_idle(syncing):
    syncing.IDLE = 60.0
    threads = []
    for _ in range(3):
        done = threading.Event()

        def work(done=done):
            threads.append(threading.current_thread())
            done.set()

        syncing.schedule(work)
        assert done.wait(20)
    assert len(set(threads)) == 1
    syncing.IDLE = 0.01
    syncing.schedule(int)
    threads[0].join(20)
    assert syncing._thread is None


def test_work_that_was_cancelled_is_not_done(syncing):
    done, cancelled = threading.Event(), []
    work = functools.partial(cancelled.append, 1)
    syncing._is_round_due = True  # so that the round does not begin before the test lets it
    syncing.schedule(work)
    syncing.schedule(done.set)
    syncing.cancel(work)
    syncing._rounds.put(None)
    assert done.wait(20)
    assert cancelled == []


def test_short_sessions_do_not_pile_up_rounds(syncing, monkeypatch):
    monkeypatch.setattr(_fsync_thread.FsyncThread, "_start", lambda self: True)  # no thread takes them
    for _ in range(100):
        syncing.schedule(int)
        syncing.cancel(int)
    assert syncing._rounds.qsize() == 1


def test_work_is_done_at_once_if_no_thread_can_be_started(syncing, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    syncing.schedule(lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]
    assert not syncing._scheduled
