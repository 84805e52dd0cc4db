"""Saving as background work: it is done in spite of Ctrl-C, cancellation and missing threads, and shares fsyncs."""

from __future__ import annotations

import _thread
import os
import threading
import time

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks._session import _stored_run
from railtracks._test_hooks import runtime_hooks
from railtracks.state import FileStore, MemoryStore
from railtracks.state._file_system import FolderSync
from railtracks.testing._virtual_time._choices import seeded_choices
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from tests import virtual
from tests.durability.disk import MODES, is_free, triple
from tests.durability.world import FOLDER

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Held(FileStore):
    """A store that saves when it may."""

    def __init__(self):
        super().__init__()
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.saves = 0

    def save(self, identifier, content):
        self.has_begun.set()
        assert self.may_go_on.wait(20)
        self.saves += 1
        super().save(identifier, content)


def saved():
    return sorted(path.name for path in FOLDER.iterdir()) == ["run.json"] and is_free()


# ---- submit_save


def test_submitted_save_can_be_waited_for_in_pieces():
    store = Held()
    with rt.Session(run_identifier="run", store=store) as session:
        rt.call_sync(triple, 1)
        run = session._stored_run
        work = run.submit_save(session.info)
        assert store.has_begun.wait(20)
        assert not work.wait(0.001)
        assert run.submit_save(session.info) is work
        run.release()
        assert store.is_locked("run")  # saving releases it
        store.may_go_on.set()
        assert work.wait(20)
        assert saved()
    assert store.saves == 1
    assert rt.state.load_run("run").answer == 3


async def test_submitted_save_goes_on_when_its_waiter_is_cancelled():
    store = Held()
    with virtual.hold_clock():
        async with rt.Session(run_identifier="run", store=store) as session:
            await rt.call(triple, 1)
            work = session._stored_run.submit_save(session.info)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await virtual.wait_for(work)
            assert not work.is_done
            store.may_go_on.set()
            await virtual.wait_for(work)
            assert saved()


@pytest.mark.parametrize(("per_call", "is_in_time"), [(0.0, False), (1_000.0, True)])
async def test_session_with_more_calls_waits_longer_for_its_document(monkeypatch, caplog, per_call, is_in_time):
    monkeypatch.setattr(_stored_run, "SAVE_DEADLINE", 0.0)
    monkeypatch.setattr(_stored_run, "SAVE_DEADLINE_PER_CALL", per_call)
    store = Held()

    def let_go_on():
        assert store.has_begun.wait(20)
        if is_in_time:
            store.may_go_on.set()

    with virtual.hold_clock():
        thread = threading.Thread(target=let_go_on)
        thread.start()
        async with rt.Session(run_identifier="run", store=store) as session:
            await rt.call(triple, 1)
        store.may_go_on.set()
        thread.join()
        await virtual.wait_for(session._stored_run.submit_save(session.info))
    assert saved()
    assert ("was not saved within 0 s; its worker thread goes on" in caplog.text) is not is_in_time


@pytest.mark.parametrize("durability", MODES)
def test_without_threads_the_state_is_saved_all_the_same(durability, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with rt.Session(run_identifier="run", durability=durability) as session:
        session._stored_run._storage._journal.append("{}")
        monkeypatch.setattr(threading.Thread, "start", refuse)
    assert saved()


async def test_plain_with_under_a_seed_saves_without_a_thread():
    """The thread would wait for a turn that the event loop, which waits for the thread, does not give."""
    token = runtime_hooks.set(
        attrs.evolve(runtime_hooks.get(), thread_scheduler=SeededThreadScheduler(seeded_choices(1, "threads")))
    )
    try:
        with rt.Session(run_identifier="run"):
            await rt.call(triple, 1)
        assert saved()
    finally:
        runtime_hooks.reset(token)


# ---- Ctrl-C


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("durability", MODES)
def test_ctrl_c_while_saving_comes_out_when_all_is_saved(durability, presses):
    class Pressed(FileStore):
        def save(self, identifier, content):
            for _ in range(presses):
                _thread.interrupt_main()
                time.sleep(0.02)  # the main thread, which waits, gets each of them
            super().save(identifier, content)

    with pytest.raises(KeyboardInterrupt), rt.Session(run_identifier="run", store=Pressed(), durability=durability):
        pass
    assert saved()


# ---- stores that raise anything


class Failure(BaseException):
    """Not an Exception."""


class Raising(MemoryStore):
    """A store in which one method raises."""

    def __init__(self, method, error, blocks):
        super().__init__()
        self.blocks = blocks
        self._method, self._error = method, error
        if hasattr(self, method):
            setattr(self, method, self._fail)

    def _fail(self, *_args, **_kwargs):
        raise self._error

    def open(self, *args, **kwargs):
        appender = super().open(*args, **kwargs)
        if hasattr(appender, self._method):
            setattr(appender, self._method, self._fail)
        return appender


@pytest.mark.parametrize(
    ("error", "blocks"),
    [
        *((error, blocks) for error in (Failure(), MemoryError(), RuntimeError("mine")) for blocks in (True, False)),
        (SystemExit(3), True),  # on the event loop it would end the event loop of asyncio
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["exists", "open", "append", "sync", "save", "close"])
async def test_whatever_a_store_raises_the_run_is_released(method, error, blocks, logged):
    store = Raising(method, error, blocks)
    try:
        async with rt.Session(run_identifier="run", store=store):
            await rt.call(triple, 1)
    except BaseException as exc:
        # On the event loop, what is not an Exception may be Ctrl-C, and goes on, alone or in a group.
        assert not isinstance(exc, Exception)
        assert not blocks or method in ("open", "append")
    assert not store.is_locked("run")
    assert len(logged("ERROR")) <= 1


# ---- fsyncs that are shared


async def test_sessions_that_end_together_share_fsyncs_of_the_folder(monkeypatch):
    count = 30
    fsync, replace, folder = os.fsync, os.replace, []
    replaced = threading.Semaphore(0)

    def slow(handle):
        if os.path.samestat(os.fstat(handle), FOLDER.stat()):
            folder.append(handle)
            if len(folder) == 1:  # until four others have to wait for the next one
                for _ in range(5):
                    assert replaced.acquire(timeout=20)
        fsync(handle)

    def rename(*args):
        replace(*args)
        replaced.release()

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(os, "replace", rename)

    async def one(number):
        async with rt.Session(run_identifier=f"r{number}", durability="exit"):
            await rt.call(triple, number)

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    assert 1 < len(folder) <= count - 3
    assert {path.name for path in FOLDER.iterdir()} == {f"r{number}.json" for number in range(count)}


class Disk:
    """A folder whose fsync can be held up, and fails if asked to."""

    def __init__(self, monkeypatch):
        self.syncs = 0
        self.errors = []
        self.is_syncing, self.may_go_on = threading.Event(), threading.Event()
        monkeypatch.setattr("railtracks.state._file_system.sync_folder", self.sync)
        self.folder = FolderSync("folder")

    def sync(self, _folder):
        self.is_syncing.set()
        assert self.may_go_on.wait(20)
        self.syncs += 1
        if self.errors:
            raise self.errors.pop(0)

    def waiters(self, count, failed):
        def wait():
            try:
                self.folder.sync()
            except OSError as exc:
                failed.append(exc)

        threads = [threading.Thread(target=wait) for _ in range(count)]
        threads[0].start()
        assert self.is_syncing.wait(20)
        began = self.folder.started
        for thread in threads[1:]:
            thread.start()
        return began, threads


def test_a_folder_is_synced_once_for_all_that_came_meanwhile(monkeypatch):
    disk = Disk(monkeypatch)
    began, threads = disk.waiters(6, [])
    since = disk.folder.started
    disk.may_go_on.set()
    for thread in threads:
        thread.join(20)
    assert began == since == 1
    # All that came while the first was under way share the second; one that came later may need a third.
    assert 2 <= disk.syncs <= 6
    disk.folder.sync(since)
    assert disk.syncs == disk.folder.started
    disk.folder.sync()
    assert disk.syncs == disk.folder.started


def test_waiters_for_a_folder_share_success_and_not_failure(monkeypatch):
    disk = Disk(monkeypatch)
    disk.may_go_on.set()
    disk.errors = [OSError("broken")]
    with pytest.raises(OSError, match="broken"):
        disk.folder.sync()
    since = disk.folder.started - 1
    disk.folder.sync(since)  # the failed one does not count
    assert disk.syncs == 2
    disk.folder.sync(since)
    assert disk.syncs == 2
