"""Disks that fill up, folders that vanish, permissions withdrawn: the flow goes on, and the log says it once.

And what the modes of durability promise: what is on disk when a call returns, who waits for the disk, in which order
things get there, and who may write a run.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks._threads import run_in_thread
from railtracks.exceptions import RunInUseError, StateError
from railtracks.state import FileStore, Reason, SQLiteStore, Status, _lock, _sqlite, _syncer
from railtracks.state._syncer import Syncer, syncer

MODES = ["exit", "async", "sync"]
FOLDER = Path(".railtracks")
GOES_ON = "The journal beside {} cannot be written: {}; the session goes on, and is saved at its end if possible"
FULL = "[Errno 28] No space left on device"


def open_files():
    """What this process has open, as far as the system tells."""
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(int(fd))}


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:  # the one that listed the folder
        return False
    return True


def syncers():
    return [thread for thread in threading.enumerate() if thread.name == "railtracks-sync"]


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No thread, no open file, no lock."""
    seen = Path("/proc/self/fd").exists()
    before = open_files() if seen else {}
    yield
    # What else was open before may be closed by now: garbage of earlier tests.
    left = syncers(), set(_lock._held), dict(open_files().items() - before.items()) if seen else {}
    syncer.__init__()  # what one test leaves behind is not to trouble the next
    _lock._held.clear()
    for thread in left[0]:
        thread.join()
    assert left == ([], set(), {})


class Disk:
    """The system calls on the files of runs: what they were, and which of them fail."""

    CALLS = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir")

    def __init__(self, patch):
        self._files: dict[int, str] = {}
        self._faults: list = []
        self.steps: list[str] = []
        self.hits = 0
        self._original = {name: getattr(os, name) for name in (*self.CALLS, "dup", "close")}
        for name in self._original:
            patch.setattr(os, name, self._wrapped(name))

    def _wrapped(self, name):
        def call(*args, **kwargs):
            path = self._files.get(args[0]) if isinstance(args[0], int) else os.fspath(args[0])
            if path is None or FOLDER.name not in path:
                return self._original[name](*args, **kwargs)
            if name in self.CALLS:
                self.steps.append(f"{name} {kind_of(path)}")
            for fault, there, action in self._faults:
                if fault == name and kind_of(path) in there and not (name == "mkdir" and os.path.isdir(path)):
                    self.hits += 1
                    return action(self._original[name], *args)
            result = self._original[name](*args, **kwargs)
            if name in ("open", "dup"):
                self._files[result] = path
            if name == "close":
                del self._files[args[0]]
            return result

        return call

    def fail(self, name, there=("journal", "json", "folder", "lock"), error=errno.ENOSPC, action=None):
        """From now on calls of this name fail, for files of these kinds."""

        def refuse(_original, *args):
            raise OSError(error, os.strerror(error))

        self._faults.append((name, there, action or refuse))

    def recover(self):
        self._faults.clear()


def kind_of(path):
    """What a path is to a run."""
    name = Path(path).name
    if name == FOLDER.name:
        return "folder"
    return "json" if name.endswith(".tmp") else name.rpartition(".")[2]


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


@pytest.fixture
def told(caplog):
    """What the session said of this level."""

    def messages(level):
        return [r.getMessage() for r in caplog.records if r.name == "RT.Session" and r.levelname == level]

    return messages


@pytest.fixture
def hurry(monkeypatch):
    """Group commits that come at once, for tests that wait for one."""
    monkeypatch.setattr(_syncer, "INTERVAL", 0.0)


async def until(condition):
    """Wait, in real time, for what a thread of the library is about to do."""

    def wait():
        give_up = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)

    await run_in_thread(wait)


def is_free(identifier="run", store=None):
    lock = (store or FileStore()).lock(identifier)
    lock.release()
    return True


def double(x):
    return 2 * x


async def triple(x):
    return 3 * x


async def both(x):
    return [await rt.call(double, x), *await rt.call_batch(triple, [x, x + 1])]


RIGHT = [[2, 3, 6], [4, 6, 9]]


@pytest.fixture
def died(empty_world):
    """What a process leaves that died after one call."""
    with rt.Session(run_identifier="run"):
        rt.call_sync(triple, 1)
        shutil.copy(FOLDER / "run.journal", "copy")
    (FOLDER / "run.json").unlink()
    Path("copy").rename(FOLDER / "run.journal")


# ---- whatever fails, and whenever


def half(original, handle, content):
    return original(handle, content[: len(content) // 2])


FAULTS = {
    "no space to write": ("write", {}),
    "space for a part only": ("write", {"action": half}),
    "no space on fsync": ("fsync", {}),
    "an error on fsync": ("fsync", {"error": errno.EIO}),
    "opening not permitted": ("open", {"error": errno.EACCES}),
    "journal not permitted": ("open", {"error": errno.EACCES, "there": ("journal",)}),
    "too many open files": ("open", {"error": errno.EMFILE}),
    "lock not permitted": ("open", {"error": errno.EACCES, "there": ("lock",)}),
    "document not permitted": ("open", {"error": errno.EACCES, "there": ("json",)}),
    "no space for a document": (
        "open", {"there": ("json",), "action": lambda original, path, *_: original("/dev/full", os.O_WRONLY)},
    ),
    "replacing not permitted": ("replace", {"error": errno.EPERM}),
    "renaming not permitted": ("rename", {"error": errno.EPERM}),
    "no new folder": ("mkdir", {"error": errno.EROFS, "there": ("folder",)}),
}  # fmt: skip


@pytest.mark.parametrize("moment", ["at the start", "in the middle", "at the end"])
@pytest.mark.parametrize("durability", MODES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_flow_goes_on_and_the_log_says_it_once(fault, durability, moment, disk, told):
    name, options = FAULTS[fault]
    results = []
    if moment == "at the start":
        disk.fail(name, **options)
    async with rt.Session(run_identifier="run", durability=durability) as session:
        results.append(await rt.call(both, 1))
        if moment == "in the middle":
            disk.fail(name, **options)
        results.append(await rt.call(both, 2))
        if moment == "at the end":
            disk.fail(name, **options)
    assert results == RIGHT
    assert session.info.answer == results
    assert len(told("ERROR")) == (1 if disk.hits else 0)
    assert {r.status for r in session.info.records} == {Status.COMPLETED}
    disk.recover()
    assert is_free()
    async with rt.Session(run_identifier="run", durability=durability):
        assert await rt.call(both, 1) == RIGHT[0]
    assert rt.state.load_run("run").answer == RIGHT[0]


@pytest.mark.parametrize("form", ["with", "with, in async code", "flow"])
@pytest.mark.parametrize("durability", MODES)
def test_other_forms_go_on_too(form, durability, backend, disk, told):
    disk.fail("write")
    disk.fail("replace")
    options = {"run_identifier": "run", "durability": durability, "backend": backend}

    async def main():
        with rt.Session(**options):
            return await rt.call(both, 1)

    if form == "with":
        with rt.Session(**options):
            result = rt.call_sync(both, 1)
    elif form == "flow":
        result = rt.Flow("F", both, **options).invoke(1)
    else:
        result = anyio.run(main, backend=backend)
    assert result == RIGHT[0]
    assert len(told("ERROR")) == 1
    assert is_free()


@pytest.mark.parametrize("durability", MODES)
async def test_an_error_of_the_flow_is_not_replaced_by_one_of_the_disk(durability, disk, told):
    async def fail():
        raise error

    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with rt.Session(run_identifier="run", durability=durability):
            disk.fail("write")
            disk.fail("fsync")
            await rt.call(fail)
    assert caught.value is error
    assert len(told("ERROR")) == 1


# ---- a full disk


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_journal_that_stops_says_why_and_the_run_is_saved(durability, disk, told):
    """A journal that stops says why, and the document is saved all the same."""
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        disk.fail("write", ("journal",))
        await rt.call(triple, 2)
        disk.recover()
        await rt.call(triple, 3)
    assert told("ERROR") == [GOES_ON.format(".railtracks/run.json", FULL)]
    assert rt.state.load_run("run").answer == [3, 6, 9]
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]


async def test_half_written_record_leaves_the_journal_readable(disk):
    """A record that went to disk only in part leaves a whole journal."""
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        disk.fail("write", ("journal",), action=half)
        await rt.call(triple, 2)
        info = rt.state.load_run("run")
    assert info.damage is None
    assert info.answer == 3


async def test_journal_that_stopped_does_not_say_the_session_ended(disk):
    # Space comes and goes. What is missing in between must not look as if the flow had left it open.
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        disk.fail("write", ("journal",))
        await rt.call(triple, 2)
        disk.recover()
        disk.fail("replace")
    info = rt.state.load_run("run")
    assert info.end_time is None
    assert [r.args for r in info.records] == [(1,)]


async def test_a_disk_that_is_really_full(told):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        async with rt.Session(run_identifier="run") as session:
            await rt.call(triple, 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, ((FOLDER / "run.journal").stat().st_size + 20, hard))
            await rt.call(both, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert session.info.answer == [3, RIGHT[0]]
    assert len(told("ERROR")) == 1
    info = rt.state.load_run("run")
    assert info.damage is None
    assert info.answer == 3


# ---- a folder that vanishes


@pytest.mark.parametrize("durability", MODES)
async def test_a_folder_that_is_removed_is_made_again_for_the_document(durability, told, hurry):
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        shutil.rmtree(FOLDER)
        await rt.call(triple, 2)
        if durability == "async":
            await until(lambda: told("ERROR"))
    assert len(told("ERROR")) == (0 if durability == "exit" else 1)
    assert rt.state.load_run("run").answer == [3, 6]
    assert is_free()


async def test_lock_removed_with_its_folder_spares_the_next_one():
    """A session whose lock was removed with its folder does not remove the lock of another one."""
    async with rt.Session(run_identifier="run", durability="exit"):
        shutil.rmtree(FOLDER)
        FOLDER.mkdir()
        (FOLDER / "run.lock").touch()  # another process opens the run
    assert (FOLDER / "run.lock").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("durability", MODES)
async def test_a_folder_that_may_not_be_written_any_more(durability, told):
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        FOLDER.chmod(0o500)
        assert await rt.call(triple, 2) == 6
    FOLDER.chmod(0o700)
    assert len(told("ERROR")) == 1
    assert is_free()


# ---- what comes to nothing at the start and at the end


async def test_run_that_cannot_be_locked_is_named_in_the_log_file(disk, told):
    """A session that cannot lock its run says so in its log file too."""
    disk.fail("open", ("lock",), errno.EACCES)
    async with rt.Session(run_identifier="run", log_file="log"):
        await rt.call(triple, 1)
    expected = GOES_ON.format(".railtracks/run.json", "[Errno 13] Permission denied")
    assert told("ERROR") == [expected]
    assert expected in Path("log").read_text()


async def test_lock_file_that_cannot_be_removed_locks_nothing(disk):
    """A lock file that cannot be removed does not keep another session out."""
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        disk.fail("unlink", ("lock",), errno.EACCES)
    disk.recover()
    assert (FOLDER / "run.lock").exists()
    assert not FileStore().is_locked("run")
    assert python_can_open("run")


async def test_a_journal_that_cannot_be_closed_costs_nothing(monkeypatch, told):
    # As on network file systems, where close() tells what became of writes.
    async with rt.Session(run_identifier="run") as session:
        await rt.call(triple, 1)
        close, journal = os.close, session._coordinator.recorder._appender._handle

        def fail(handle):
            close(handle)
            if handle == journal:
                raise OSError(errno.EIO, "close went wrong")

        monkeypatch.setattr(os, "close", fail)
    assert session.info.answer == 3
    assert len(told("ERROR")) <= 1
    assert is_free()


async def test_dead_journal_that_cannot_be_moved_is_not_lost(died, disk, told):
    """The journal of a dead run is not lost when it cannot be moved away."""
    disk.fail("rename")
    async with rt.Session(run_identifier="run"):
        assert await rt.call(triple, 2) == 6
    assert len(told("ERROR")) == 1
    assert 3 in [rt.state.load_run(run.identifier).answer for run in rt.state.list_runs()]


def test_empty_journal_is_not_kept(told):
    """A run that died before anything was written to its journal is not kept."""
    FOLDER.mkdir()
    (FOLDER / "run.journal").touch()
    with rt.Session(run_identifier="run"):
        pass
    for run in rt.state.list_runs():
        assert rt.state.load_run(run.identifier).damage is None
    assert not any("can be resumed" in text for text in told("WARNING"))


async def test_resume_goes_on_when_the_history_cannot_be_kept(died, disk, told):
    """A resume that cannot write what is on record into the new journal goes on without it."""
    flow = rt.Flow("F", triple, run_identifier="run")
    disk.fail("open", ("json",))  # the new journal is written beside the old one, and put in its place
    assert await flow.aresume("run") == 3
    assert len(told("ERROR")) == 1
    assert rt.state.load_run("run").answer == 3  # from the old journal


async def test_resume_of_an_ended_run_goes_on_without_a_journal(disk, told):
    """When an ended run is resumed and no journal can be written, the document stays right."""
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
    disk.fail("write")
    flow = rt.Flow("F", triple, run_identifier="run")
    assert await flow.aresume("run") == 3
    assert len(told("ERROR")) == 1
    assert rt.state.load_run("run").answer == 3
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]


# ---- SQLite


@pytest.fixture
def failing(monkeypatch):
    """The statements that fail, by their first word, and how."""
    errors = {}

    class Connection(sqlite3.Connection):
        def execute(self, sql, *args):
            word = sql.split()[0]
            if word in errors and not (word == "DELETE" and "runs" in sql):
                error = sqlite3.OperationalError(errors[word])
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                raise error
            return super().execute(sql, *args)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs))
    return errors


@pytest.fixture
def base(tmp_path):
    store = SQLiteStore(tmp_path / "runs.db")
    yield store
    store.close()


@pytest.mark.parametrize("moment", ["at the start", "in the middle", "at the end"])
@pytest.mark.parametrize("durability", MODES)
@pytest.mark.parametrize("word", ["PRAGMA", "BEGIN", "UPDATE", "INSERT", "DELETE", "COMMIT"])
async def test_a_flow_goes_on_without_its_database(word, durability, moment, base, failing, told):
    error = {word: "disk I/O error"}
    results = []
    if moment == "at the start":
        failing.update(error)
    async with rt.Session(run_identifier="run", durability=durability, store=base) as session:
        results.append(await rt.call(both, 1))
        if moment == "in the middle":
            failing.update(error)
        results.append(await rt.call(both, 2))
        if moment == "at the end":
            failing.update(error)
    assert results == RIGHT
    assert session.info.answer == results
    if word in ("BEGIN", "INSERT", "COMMIT"):  # others may have come before it failed
        assert len(told("ERROR")) == 1
    assert len(told("ERROR")) <= 1
    failing.clear()
    async with rt.Session(run_identifier="run", durability=durability, store=base):
        assert await rt.call(both, 1) == RIGHT[0]
    assert rt.state.load_run("run", base).answer == RIGHT[0]
    assert len(told("ERROR")) <= 1


def test_failed_commit_does_not_block_the_next_transaction(base, failing):
    base.save("one", [b"{}"])
    failing["COMMIT"] = "database is locked"
    with pytest.raises(OSError, match="database is locked"):
        base.save("two", [b"{}"])
    failing.clear()
    assert not base.exists("two")
    base.save("three", [b"{}"])
    assert base.exists("three")


async def test_a_database_that_is_really_full(base, told):
    base.save("other", [b"{}"])
    with base._guard:
        (pages,) = base._connection.execute("PRAGMA page_count").fetchone()
        base._connection.execute(f"PRAGMA max_page_count = {pages}")
    async with rt.Session(run_identifier="run", durability="sync", store=base):
        assert await rt.call(len, "x" * 100_000) == 100_000
    assert len(told("ERROR")) == 1
    assert "database or disk is full" in told("ERROR")[0]
    with base._guard:
        base._connection.execute("PRAGMA max_page_count = 1000000")
    base.save("run", [b"{}"])
    assert base.exists("run")


@pytest.mark.parametrize("durability", MODES)
async def test_a_database_that_another_process_has_locked(durability, base, told, monkeypatch):
    monkeypatch.setattr(_sqlite, "WAIT", 0.0)
    base.exists("run")
    other = sqlite3.connect(base._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with rt.Session(run_identifier="run", durability=durability, store=base):
        assert await rt.call(both, 1) == RIGHT[0]
    other.close()
    assert len(told("ERROR")) == 1
    assert "database is locked" in told("ERROR")[0]
    assert is_free(store=base)


async def test_no_record_comes_to_the_database_after_the_document(base, monkeypatch):
    # The thread that commits may have its turn at any time, also between saving and the end of the session.
    class Store(SQLiteStore):
        def save(self, identifier, content):
            super().save(identifier, content)
            with syncer._changed:
                asked, syncer._asked = syncer._asked, {}
            for work in asked:
                threads.append(threading.Thread(target=work))
                threads[-1].start()
                threads[-1].join(0.5)  # unless it waits until all is saved, which is fine too

    threads = []
    store = Store(base._path)
    async with rt.Session(run_identifier="run", store=store):
        await rt.call(triple, 1)
    for thread in threads:
        thread.join()
    assert [run.state for run in rt.state.list_runs(store)] == ["ended"]
    store.close()


# ---- what is on disk, and when


def journal_on_disk(sizes):
    return rt.ExecutionInfo.from_journal((FOLDER / "run.journal").read_bytes()[: max(sizes)], running=True)


@pytest.fixture
def synced(monkeypatch):
    """How large the journal was whenever it was put on disk, and by which thread; after that, not before."""
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
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.9 * _syncer.INTERVAL


async def test_exit_mode_writes_no_journal(disk):
    async with rt.Session(run_identifier="run", durability="exit"):
        await rt.call(both, 1)
        assert [path.name for path in FOLDER.iterdir()] == ["run.lock"]
        assert syncers() == []
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


# ---- who may write a run

HOLDER = """
import sys
import railtracks as rt
with rt.Session(run_identifier=sys.argv[1], logging_setting="NONE"):
    print(rt.call_sync(len, "abc"), flush=True)
    sys.stdin.readline()
    print(rt.call_sync(len, "abcd"))
"""


def holder(identifier):
    root = str(Path(__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOLDER, identifier],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": root, "PATH": ""},
    )  # fmt: skip


def python_can_open(identifier):
    """Can another process open the run?"""
    with holder(identifier) as process:
        out, _ = process.communicate("\n", timeout=30)
    return out == "3\n4\n"


IN_USE = "the run 'run' is open in another session"


async def test_inner_session_may_not_have_the_identifier_of_the_outer():
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        with pytest.raises(RunInUseError, match=IN_USE):
            async with rt.Session(run_identifier="run"):
                pass
        assert await rt.call(triple, 2) == 6
    assert rt.state.load_run("run").answer == [3, 6]


@pytest.mark.parametrize("save_state", [True, False])
async def test_open_run_cannot_be_resumed_inside_its_session(save_state):
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        with pytest.raises(RunInUseError, match=IN_USE):
            await rt.Flow("F", triple, save_state=save_state).aresume("run")
        await rt.call(triple, 2)
    assert rt.state.load_run("run").answer == [3, 6]


def test_another_thread_cannot_open_an_open_run():
    def second():
        try:
            with rt.Session(run_identifier="run"):
                pass
        except RunInUseError as exc:
            caught.append(exc)

    caught = []
    with rt.Session(run_identifier="run"):
        rt.call_sync(triple, 1)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        rt.call_sync(triple, 2)
    assert [IN_USE in str(exc) for exc in caught] == [True]
    assert rt.state.load_run("run").answer == [3, 6]


async def test_another_process_cannot_open_an_open_run():
    with holder("run") as process:
        assert process.stdout.readline() == "3\n"
        with pytest.raises(RunInUseError, match=IN_USE):
            async with rt.Session(run_identifier="run"):
                pass
        assert rt.state.load_run("run").answer == 3
        assert [run.state for run in rt.state.list_runs()] == ["running"]
        assert process.communicate("\n", timeout=30) == ("4\n", None)
    assert rt.state.load_run("run").answer == [3, 4]


def test_the_run_of_a_process_that_was_killed_is_free():
    with holder("run") as process:
        assert process.stdout.readline() == "3\n"
        process.kill()
    assert [run.state for run in rt.state.list_runs()] == ["died"]
    assert is_free()


async def test_two_sessions_of_one_name_have_two_identifiers():
    async with rt.Session(name="Nightly") as one:
        await rt.call(triple, 1)
        async with rt.Session(name="Nightly") as other:
            await rt.call(triple, 2)
    assert one.identifier == "Nightly"
    assert other.identifier.startswith("Nightly-")
    assert rt.state.load_run(one.identifier).answer == 3
    assert rt.state.load_run(other.identifier).answer == 6
    assert {info.session_name for info in map(rt.state.load_run, (one.identifier, other.identifier))} == {"Nightly"}


async def test_dead_run_is_kept_under_another_name_and_resumed(died, told):
    """A run that died is kept under another name and can be resumed."""
    async with rt.Session(run_identifier="run"):
        assert await rt.call(triple, 2) == 6
    [aside] = {run.identifier for run in rt.state.list_runs()} - {"run"}
    assert aside.startswith("run.")
    assert told("WARNING") == [f"An earlier run run did not end; what it did is kept as {aside}, and can be resumed"]
    assert rt.state.load_run("run").answer == 6
    assert rt.state.load_run(aside).answer == 3
    connection = rt.Flow("F", triple).connect()
    assert await connection.aresume(aside) == 3
    assert [decision.reused for decision in connection.session.info.resumed] == [True]
    assert rt.state.load_run(aside).end_time is not None


async def test_a_run_that_died_with_an_open_call_says_so():
    async def stay():
        shutil.copy(FOLDER / "run.journal", FOLDER / "died.journal")

    async with rt.Session(run_identifier="run"):
        await rt.call(stay)
    [record] = rt.state.load_run("died").records
    assert (record.status, record.reason) == (Status.OPEN, Reason.PROCESS_DIED)


async def test_empty_journal_is_not_read_as_a_run():
    FOLDER.mkdir()
    (FOLDER / "run.journal").touch()
    with pytest.raises(StateError, match=r"the run 'run' at .*: this is no journal"):
        rt.state.load_run("run")


# ---- the parts


def test_a_client_that_leaves_does_not_wait_for_one_that_comes():
    # The thread is at work for the first when the second comes; it stays for that, and the first may go.
    syncer = Syncer()
    at_work, go_on, left = threading.Event(), threading.Event(), threading.Event()

    def work():
        at_work.set()
        go_on.wait()

    def leave():
        syncer.leave()
        left.set()

    syncer.enter()
    syncer.ask(work)
    at_work.wait()
    leaver = threading.Thread(target=leave)
    leaver.start()
    while syncer._clients:
        time.sleep(0.001)
    syncer.enter()
    syncer.IDLE = 60.0  # it has something to do for the second all the time
    go_on.set()
    in_time = left.wait(5)
    syncer.leave()
    leaver.join()
    assert in_time


def test_a_lock_that_cannot_be_made_leaves_nothing_open(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(OSError, match="No locks available"):
        FileStore(tmp_path).lock("run")
