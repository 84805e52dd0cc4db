"""What every store promises: one suite over all of them, and a model of each."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import railtracks as rt
from railtracks.exceptions import RunInUseError
from railtracks.state import FileStore, MemoryStore, SQLiteStore, Store, Stored
from tests.effort import examples

ROOT = Path(__file__).parent.parent.parent

PERSISTENT = {
    "file": lambda folder: FileStore(folder / "runs"),
    "sqlite": lambda folder: SQLiteStore(folder / "runs" / "runs.db"),
}
STORES = {**PERSISTENT, "memory": lambda folder: MemoryStore()}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return STORES[request.param](tmp_path)


@pytest.fixture(params=PERSISTENT)
def kind(request):
    return request.param


@pytest.fixture
def persistent(kind, tmp_path):
    return PERSISTENT[kind](tmp_path)


def journal_of(store, identifier="mine"):
    stored = store.read(identifier)
    return None if stored is None else stored.journal


def write(store, identifier, *parts):
    appender = store.open(identifier, parts[0])
    for part in parts[1:]:
        appender.append(part)
    appender.sync()
    appender.close()


# ---- journals


def test_it_is_a_store(store):
    assert isinstance(store, Store)


def test_what_was_appended_and_synced_is_read_back(store):
    appender = store.open("mine", b"one")
    for part in (b"two", b"", b"\x00\xff"):
        appender.append(part)
    appender.sync()
    assert store.read("mine") == Stored(None, b"onetwo\x00\xff")
    appender.append(b"more")
    appender.sync()
    appender.sync()
    appender.close()
    assert store.read("mine") == Stored(None, b"onetwo\x00\xffmore")


def test_only_sqlite_needs_a_sync_to_show_what_was_appended(store):
    appender = store.open("mine", b"one")
    appender.append(b"two")
    assert journal_of(store) == (None if isinstance(store, SQLiteStore) else b"onetwo")
    appender.close()


def test_after_close_an_appender_does_nothing(store):
    appender = store.open("mine", b"one")
    appender.sync()
    appender.close()
    appender.append(b"two")
    appender.sync()
    appender.close()
    assert journal_of(store) == b"one"


def test_a_journal_that_is_there_is_replaced(store):
    write(store, "mine", b"a long old one")
    write(store, "mine", b"new", b"er")
    assert journal_of(store) == b"newer"


def test_a_journal_that_is_there_is_kept_until_the_new_one_is_whole(store, monkeypatch):
    write(store, "mine", b"old")

    def fail(*_args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        try:
            store.open("mine", b"new").close()
        except OSError:
            pass
        else:
            if isinstance(store, FileStore):
                pytest.fail("the new journal was begun")
    assert journal_of(store) in ((b"new",) if isinstance(store, MemoryStore) else (b"old",))


def test_a_journal_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    store = FileStore(tmp_path)
    spare = os.dup(0)
    os.close(spare)

    def fail(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="No space left"):
            store.open("mine", b"header")
    assert store.read("mine") is None
    assert store.list() == []
    again = os.dup(0)
    os.close(again)
    assert again == spare  # no handle was left open: the lowest one that is free is the same


def test_a_full_disk_leaves_whole_records(tmp_path, monkeypatch):
    store = FileStore(tmp_path)
    appender = store.open("mine", b"header")
    original = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, content: original(handle, content[:3]))
        with pytest.raises(OSError, match="No space left"):
            appender.append(b"record")
    assert journal_of(store) == b"header"
    appender.append(b", after all")
    appender.close()
    assert journal_of(store) == b"header, after all"


def test_a_file_that_was_removed_while_it_was_written_is_an_error(tmp_path):
    store = FileStore(tmp_path)
    appender = store.open("mine", b"header")
    (tmp_path / "mine.journal").unlink()
    with pytest.raises(FileNotFoundError, match="removed"):
        appender.sync()
    appender.close()


def test_records_that_several_threads_append_are_whole(store):
    appender = store.open("mine", b"")
    threads, records, start = 4, 200, threading.Barrier(5)

    def append(number):
        start.wait()
        for count in range(records):
            appender.append(f"<{number}:{count}:{'x' * (count % 50)}>".encode())

    def sync():
        start.wait()
        for _ in range(20):
            appender.sync()

    workers = [threading.Thread(target=append, args=(number,)) for number in range(threads)]
    workers.append(threading.Thread(target=sync))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    appender.sync()
    appender.close()
    found = journal_of(store).decode().removeprefix("<").removesuffix(">").split("><")
    of_thread = {number: [r for r in found if r.startswith(f"{number}:")] for number in range(threads)}
    expected = {n: [f"{n}:{count}:{'x' * (count % 50)}" for count in range(records)] for n in range(threads)}
    assert of_thread == expected
    assert len(found) == threads * records


def test_a_journal_can_be_given_to_another_identifier(store):
    write(store, "mine", b"one")
    store.save("other", [b"{}"])
    assert store.move_journal("mine", "other") is True
    assert store.read("mine") is None
    assert store.read("other") == Stored(b"{}", b"one")
    assert store.move_journal("mine", "third") is False
    assert store.read("third") is None


# ---- documents


def test_saving_replaces_the_journal(store):
    write(store, "mine", b"one")
    store.save("mine", [b"{", b'"a": 1', b"}"])
    assert store.read("mine") == Stored(b'{"a": 1}', None)
    store.save("mine", iter([b"second"]))
    assert store.read("mine") == Stored(b"second", None)


def test_a_document_that_cannot_be_made_changes_nothing(store):
    write(store, "mine", b"journal")
    store.save("other", [b"old"])

    def broken():
        yield b"new"
        raise ValueError("no more")

    for identifier in ("mine", "other"):
        with pytest.raises(ValueError, match="no more"):
            store.save(identifier, broken())
    assert store.read("mine") == Stored(None, b"journal")
    assert store.read("other") == Stored(b"old", None)


def test_only_a_document_counts_as_existing(store):
    assert store.exists("mine") is False
    write(store, "mine", b"one")
    assert store.exists("mine") is False
    store.save("mine", [b"{}"])
    assert store.exists("mine") is True
    assert store.exists("min") is store.exists("mine2") is False


def test_a_document_and_the_journal_of_a_later_run_stand_side_by_side(store):
    store.save("mine", [b"{}"])
    write(store, "mine", b"one")
    assert store.read("mine") == Stored(b"{}", b"one")
    [listed] = store.list()
    assert (listed.identifier, listed.size, listed.has_journal, listed.head) == ("mine", 5, True, b"{}")


def test_what_is_not_there_is_none_and_removing_it_does_nothing(store):
    assert store.read("mine") is None
    store.remove("mine")
    assert store.list() == []


def test_removing_forgets_document_and_journal_of_this_run_alone(store):
    for identifier in ("mine", "other"):
        store.save(identifier, [b"{}"])
        write(store, identifier, b"one")
    store.remove("mine")
    assert store.read("mine") is None
    assert store.read("other") == Stored(b"{}", b"one")


def test_where_names_the_run(store):
    assert "mine" in store.where("mine")


# ---- lists


@contextmanager
def at(store, monkeypatch, moment):
    """What is written in here was written at ``moment``."""
    before = {path: path.stat().st_mtime_ns for path in _files(store)}
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: moment)
        yield
    for path in _files(store):
        if path.stat().st_mtime_ns != before.get(path):
            os.utime(path, (moment, moment))


def _files(store):
    return list(Path(store.where("x")).parent.glob("*")) if isinstance(store, FileStore) else []


def test_runs_are_listed_the_oldest_first(store, monkeypatch):
    with at(store, monkeypatch, 300.0):
        write(store, "young", b"one")
    with at(store, monkeypatch, 100.0):
        write(store, "old", b"one")
    with at(store, monkeypatch, 200.0):
        store.save("middle", [b"{}"])
    assert [(run.identifier, run.modified) for run in store.list()] == [("old", 100), ("middle", 200), ("young", 300)]


def test_a_run_is_as_old_as_the_last_record_of_its_journal(store, monkeypatch):
    with at(store, monkeypatch, 100.0):
        appender = store.open("growing", b"one")
        appender.sync()
        store.save("growing-too", [b"{}"])
    with at(store, monkeypatch, 200.0):
        store.save("middle", [b"{}"])
    with at(store, monkeypatch, 300.0):
        appender.append(b"two")
        appender.sync()
    appender.close()
    assert [run.identifier for run in store.list()] == ["growing-too", "middle", "growing"]


def test_a_list_has_sizes_and_heads_and_says_who_has_a_journal(store):
    document, journal = b"d" * 70_000, b"j" * 70_000
    store.save("document", [document])
    write(store, "journal", journal[:10], journal[10:])
    listed = {run.identifier: (run.size, run.has_journal, run.head) for run in store.list()}
    assert listed["document"] == (70_000, False, document[:65_536])
    size, has_journal, head = listed["journal"]
    assert (size, has_journal) == (70_000, True)
    assert journal.startswith(head)
    assert 10 <= len(head) <= 65_536


def test_a_run_whose_document_is_empty_is_listed_all_the_same(store):
    store.save("mine", [])
    assert [(run.identifier, run.size, run.has_journal) for run in store.list()] == [("mine", 0, False)]


def test_other_files_in_the_folder_are_no_runs(tmp_path):
    store = FileStore(tmp_path)
    for name in ("notes.txt", ".mine.json.0a0b0c0d.tmp", "mine.lock", "json", ".json"):
        (tmp_path / name).write_bytes(b"x")
    assert store.list() == []
    assert store.count() == 0


# ---- locks


def test_a_lock_excludes_others_until_it_is_released(store):
    assert store.is_locked("mine") is False
    lock = store.lock("mine")
    assert store.is_locked("mine") is True
    assert store.is_locked("other") is False
    with pytest.raises(RunInUseError, match="mine"):
        store.lock("mine")
    store.lock("other").release()
    assert store.is_locked("mine") is True
    lock.release()
    assert store.is_locked("mine") is False
    store.lock("mine").release()


def test_releasing_a_lock_again_does_nothing(store):
    lock = store.lock("mine")
    lock.release()
    lock.release()
    assert store.is_locked("mine") is False


def test_releasing_a_lock_again_does_not_release_that_of_its_successor(store):
    first = store.lock("mine")
    first.release()
    second = store.lock("mine")
    first.release()
    assert store.is_locked("mine") is True
    with pytest.raises(RunInUseError):
        store.lock("mine")
    second.release()
    assert store.is_locked("mine") is False


def test_of_several_threads_that_want_a_lock_exactly_one_gets_it(store):
    for _ in range(20):
        start, got, refused = threading.Barrier(4), [], []

        def take(start=start, got=got, refused=refused):
            start.wait()
            try:
                got.append(store.lock("mine"))
            except RunInUseError as exc:
                refused.append(exc)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 3)
        assert store.is_locked("mine") is True
        got[0].release()
        assert store.is_locked("mine") is False


def test_two_stores_of_one_place_share_their_locks(kind, tmp_path):
    one, other = PERSISTENT[kind](tmp_path), PERSISTENT[kind](tmp_path)
    lock = one.lock("mine")
    assert other.is_locked("mine") is True
    with pytest.raises(RunInUseError):
        other.lock("mine")
    lock.release()
    other.lock("mine").release()


def test_a_place_has_one_set_of_locks_by_whatever_path_it_is_reached(kind, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one, other = PERSISTENT[kind](tmp_path / "real"), PERSISTENT[kind](tmp_path / "link")
    lock = one.lock("mine")
    assert other.is_locked("mine") is True
    with pytest.raises(RunInUseError):
        other.lock("mine")
    lock.release()


def test_the_lock_file_is_gone_after_the_release(persistent, tmp_path):
    lock = persistent.lock("mine")
    [file] = tmp_path.rglob("*.lock")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lock.release()
    assert [*tmp_path.rglob("*.lock")] == []


def test_a_lock_file_that_a_dead_process_left_is_no_lock(persistent, tmp_path):
    persistent.lock("mine").release()
    lock = persistent.lock("mine")
    [file] = tmp_path.rglob("*.lock")
    lock.release()
    file.touch()
    assert persistent.is_locked("mine") is False
    persistent.lock("mine").release()


def test_the_error_names_the_run_and_what_to_do(store):
    lock = store.lock("mine.v2")
    with pytest.raises(
        RunInUseError, match=r"the run 'mine\.v2' is open in another session.*run_identifier of its own"
    ):
        store.lock("mine.v2")
    lock.release()


# ---- several processes

HEAD = """
import os, signal, sys
from pathlib import Path
from railtracks.exceptions import RunInUseError
from railtracks.state import FileStore, SQLiteStore
def say(*words): print(*words, flush=True)
def attempt(lock_of, identifier="mine"):
    try:
        lock_of.lock(identifier).release()
    except RunInUseError:
        return "in use"
    return "free"
store = FileStore("runs") if sys.argv[1] == "file" else SQLiteStore("runs/runs.db")
"""


@contextmanager
def process(kind, body, *args):
    """A process that runs ``body``; it has ``store``, the same as the test, and talks by ``say``."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(body), kind, *args]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child = subprocess.Popen(command, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def ran(kind, body, *args):
    """The lines that such a process says."""
    with process(kind, body, *args) as child:
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    return out.splitlines()


HOLDER = """
lock = store.lock("mine")
say("locked")
sys.stdin.readline()
"""


def test_a_lock_excludes_other_processes_until_its_own_is_killed(kind, persistent):
    with process(kind, HOLDER) as holder:
        assert holder.stdout.readline() == "locked\n"
        assert persistent.is_locked("mine") is True
        with pytest.raises(RunInUseError, match="mine"):
            persistent.lock("mine")
        assert persistent.is_locked("mine") is True  # asking did not take it away
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert persistent.is_locked("mine") is False
    lock = persistent.lock("mine")
    [said] = ran(kind, "say(store.is_locked('mine'), attempt(store))")
    assert said == "True in use"
    lock.release()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_forked_child_does_not_hold_the_lock_on(kind, persistent):
    body = """
    lock = store.lock("mine")
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent has died
        say("orphan")
        sys.stdin.readline()
        os._exit(0)
    say("locked")
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with process(kind, body) as parent:
        assert parent.stdout.readline() == "locked\n"
        assert persistent.is_locked("mine") is True
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "orphan\n"
        assert parent.wait() == -signal.SIGKILL
        persistent.lock("mine").release()


@needs_fork
def test_a_forked_child_cannot_release_the_lock_of_its_parent(kind, persistent):
    body = """
    lock = store.lock("mine")
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    say("forked")
    sys.stdin.readline()
    """
    with process(kind, body) as parent:
        assert parent.stdout.readline() == "forked\n"
        assert persistent.is_locked("mine") is True
        with pytest.raises(RunInUseError):
            persistent.lock("mine")


@needs_fork
def test_a_forked_child_sees_the_lock_of_its_parent_as_long_as_it_is_held(kind):
    body = """
    lock = store.lock("mine")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        say(store.is_locked("mine"), attempt(store))
        os.close(writing)
        os.read(reading, 1)
        say(store.is_locked("mine"), attempt(store))
        os._exit(0)
    os.close(reading)
    again = os.fork()
    if again == 0:
        os._exit(0)
    os.waitpid(again, 0)
    sys.stdin.readline()
    lock.release()
    os.close(writing)
    os.waitpid(child, 0)
    """
    with process(kind, body) as parent:
        assert parent.stdout.readline() == "True in use\n"
        out, err = parent.communicate("\n", timeout=60)
    assert (out, err) == ("False free\n", "")


def test_of_several_processes_that_want_a_lock_exactly_one_gets_it(kind):
    body = """
    say("ready")
    sys.stdin.readline()
    got = 0
    try:
        lock = store.lock("mine")
        got = 1
    except RunInUseError:
        pass
    say(got)
    sys.stdin.readline()
    """
    with ExitStack() as stack:
        children = [stack.enter_context(process(kind, body)) for _ in range(3)]
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        assert sorted(child.stdout.readline() for child in children) == ["0\n", "0\n", "1\n"]


def test_what_one_process_writes_another_reads(kind, persistent):
    appender = persistent.open("mine", b"one")
    appender.append(b"two")
    appender.sync()
    persistent.save("other", [b"{}"])
    said = ran(kind, "say(store.read('mine').journal, store.read('other').document, len(store.list()))")
    assert said == ["b'onetwo' b'{}' 2"]
    appender.close()


# ---- the files of stores


def test_files_are_their_owners_alone_and_so_is_a_new_folder(kind, tmp_path):
    before = os.umask(0)
    try:
        store = PERSISTENT[kind](tmp_path)
        lock = store.lock("mine")
        appender = store.open("mine", b"one")
        appender.sync()
        store.save("other", [b"{}"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "runs").iterdir()}
    expected = {
        "file": ["mine.journal", "mine.lock", "other.json"],
        "sqlite": ["runs.db", "runs.db-shm", "runs.db-wal", "runs.db.mine.lock"],
    }
    assert modes == dict.fromkeys(expected[kind], 0o600)
    assert stat.S_IMODE((tmp_path / "runs").stat().st_mode) == 0o700
    appender.close()
    lock.release()


def test_a_store_that_was_made_but_not_used_writes_nothing(kind, tmp_path):
    PERSISTENT[kind](tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_a_store_stays_where_it_was_made(tmp_path, monkeypatch):
    stores = [FileStore("runs"), FileStore(), SQLiteStore("runs.db")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for store in stores:
        store.save("mine", [b"{}"])
    assert [*(tmp_path / "elsewhere").iterdir()] == []


# ---- sessions and stores


@rt.function_node
async def double(x):
    return 2 * x


async def run_one(store, identifier="mine"):
    async with rt.Session(run_identifier=identifier, store=store, flow_name="flow", name="name") as session:
        assert await rt.call(double, 21) == 42
    return session


async def test_a_session_leaves_its_document_and_no_lock_and_no_journal(store):
    session = await run_one(store)
    assert store.read("mine").journal is None
    assert store.is_locked("mine") is False
    assert rt.state.load_run("mine", store) == session.info


class Late:
    """A store in which the worker thread that syncs comes after the document was saved, and before the journal is
    closed."""

    def save(self, identifier, content):
        super().save(identifier, content)
        late = threading.Thread(target=self.session._recorder._sync)
        late.start()
        late.join(0.2)  # real time: it may rightly wait until the session has let go
        self.late = late


class LateFileStore(Late, FileStore):
    pass


class LateSQLiteStore(Late, SQLiteStore):
    pass


class LateMemoryStore(Late, MemoryStore):
    pass


@pytest.mark.parametrize(
    "make",
    [lambda: LateFileStore("runs"), lambda: LateSQLiteStore("runs/runs.db"), LateMemoryStore],
    ids=["file", "sqlite", "memory"],
)
async def test_records_that_are_synced_late_do_no_harm_to_a_run_that_has_ended(make, caplog):
    store = make()
    async with rt.Session(run_identifier="mine", store=store) as session:
        store.session = session
        await rt.call(double, 21)
    store.late.join()
    assert [record.getMessage() for record in caplog.records] == []
    assert store.read("mine").journal is None
    assert [(run.state, run.status) for run in rt.state.list_runs(store)] == [("ended", "Completed")]


# ---- SQLite


def test_the_tables_can_be_asked_by_plain_sql():
    store = SQLiteStore("runs.db")
    with rt.Session(run_identifier="mine", store=store, flow_name="flow", name="name") as session:
        rt.call_sync(double, 1)
        rt.call_sync(double, 2)

    @rt.function_node
    def broken():
        raise ValueError("boom")

    with rt.Session(run_identifier="bad", store=store), pytest.raises(ValueError):
        rt.call_sync(broken)
    connection = sqlite3.connect("runs.db")
    columns = "flow_name, session_name, status, start_time, end_time, calls"
    info = session.info
    assert connection.execute(f"SELECT {columns} FROM runs WHERE identifier = 'mine'").fetchall() == [
        ("flow", "name", "Completed", info.start_time, info.end_time, 2)
    ]
    assert connection.execute("SELECT identifier FROM runs WHERE status = 'Failed'").fetchall() == [("bad",)]
    [[answer]] = connection.execute(
        "SELECT json_extract(document, '$.runs[1].edges[0].details.output') FROM runs WHERE identifier = 'mine'"
    )
    assert answer == 4
    assert connection.execute("SELECT count(*) FROM journals").fetchone() == (0,)
    connection.close()


def test_several_processes_write_one_file_at_once_and_lose_nothing():
    body = """
    name = sys.argv[2]
    say("ready")
    sys.stdin.readline()
    for number in range(15):
        appender = store.open(f"{name}-{number}", b"<0>")
        for record in range(1, 5):
            appender.append(b"<%d>" % record)
            appender.sync()
        appender.close()
        if number % 3 == 0:
            store.save(f"{name}-{number}", [b"{}"])
        store.list()
    say("done")
    """
    names = ["a", "b", "c"]
    with ExitStack() as stack:
        children = [stack.enter_context(process("sqlite", body, name)) for name in names]
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
        outs = []
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            outs.append(child.communicate(timeout=60))
    assert outs == [("done\n", "")] * 3
    store = SQLiteStore("runs/runs.db")
    for name in names:
        for number in range(15):
            expected = Stored(b"{}", None) if number % 3 == 0 else Stored(None, b"<0><1><2><3><4>")
            assert store.read(f"{name}-{number}") == expected


def test_the_first_use_waits_for_another_process_that_is_at_its_own_first_use(tmp_path):
    body = """
    import sqlite3
    connection = sqlite3.connect("new.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE other (x)")
    say("writing")
    sys.stdin.readline()
    connection.execute("COMMIT")
    """
    outcome = []

    def use():
        try:
            outcome.append(SQLiteStore(tmp_path / "new.db").exists("mine"))
        except OSError as exc:
            outcome.append(exc)

    with process("sqlite", body) as other:
        assert other.stdout.readline() == "writing\n"
        user = threading.Thread(target=use)
        user.start()
        user.join(0.1)  # real time: from here on it waits for the other process
        other.communicate("\n", timeout=60)
        user.join()
    assert outcome == [False]


def test_a_second_store_on_a_file_does_not_take_the_locks_of_the_first_away():
    """A process that closes any handle of a file loses its POSIX locks on it, and SQLite's are such."""
    first = SQLiteStore("runs/runs.db")
    first.save("one", [b"{}"])
    second = SQLiteStore("runs/runs.db")
    assert second.exists("one") is True
    # It takes itself for the last one to use the file if there are no locks, and removes the log of the first.
    count = (
        "import sqlite3; c = sqlite3.connect('runs/runs.db'); say(*c.execute('SELECT count(*) FROM runs')); c.close()"
    )
    assert ran("sqlite", count) == ["(1,)"]
    first.save("two", [b"{}"])
    second.save("three", [b"{}"])
    assert ran("sqlite", count) == ["(3,)"]


@needs_fork
def test_a_forked_child_and_its_parent_both_go_on_with_a_store():
    body = """
    store.save("before", [b"{}"])
    child = os.fork()
    if child == 0:
        store.save("child", [b"{}"])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store.save("parent", [b"{}"])
    say(*(run.identifier for run in store.list()))
    """
    assert ran("sqlite", body) == ["before child parent"]
    assert [run.identifier for run in SQLiteStore("runs/runs.db").list()] == ["before", "child", "parent"]


def test_a_file_that_is_no_database_is_an_os_error_that_names_it(tmp_path):
    (tmp_path / "notes.txt").write_text("no database at all, but text that is long enough to look at" * 20)
    with pytest.raises(OSError, match=r"notes\.txt: file is not a database"):
        SQLiteStore(tmp_path / "notes.txt").read("mine")


def test_a_closed_store_opens_again_by_itself():
    store = SQLiteStore("runs.db")
    store.close()
    store.save("mine", [b"{}"])
    store.close()
    store.close()
    assert store.exists("mine") is True


# ---- against a model


NAMES = st.sampled_from(["a", "A.b", "a.json", "-".join("x" * 20)])
CONTENT = st.binary(min_size=1, max_size=40)


class StoreMachine(RuleBasedStateMachine):
    """Used as sessions use it: one appender at a time per run, which is closed before anybody else touches the run."""

    make = None

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = type(self).make(Path(self.folder.name))
        self.documents, self.journals = {}, {}
        self.appenders, self.pending, self.locks = {}, {}, {}

    def teardown(self):
        for thing in self.appenders.values():
            thing.close()
        for lock in self.locks.values():
            lock.release()
        if isinstance(self.store, SQLiteStore):
            self.store.close()
        self.folder.cleanup()

    def let_go(self, name):
        if name in self.appenders:
            self.appenders.pop(name).close()
            self.pending.pop(name, None)

    def told(self, name, content, whole):
        """The journal will be ``whole``: at once, or when it is synced."""
        if isinstance(self.store, SQLiteStore):
            self.pending[name] = whole
        else:
            self.journals[name] = whole

    @rule(name=NAMES, content=CONTENT)
    def open(self, name, content):
        self.let_go(name)
        self.appenders[name] = self.store.open(name, content)
        self.told(name, content, content)

    @precondition(lambda self: self.appenders)
    @rule(data=st.data(), content=st.binary(max_size=40))
    def append(self, data, content):
        name = data.draw(st.sampled_from(sorted(self.appenders)))
        before = self.pending.get(name, self.journals.get(name))
        self.appenders[name].append(content)
        self.told(name, content, before + content)

    @precondition(lambda self: self.appenders)
    @rule(data=st.data())
    def sync(self, data):
        name = data.draw(st.sampled_from(sorted(self.appenders)))
        self.appenders[name].sync()
        if name in self.pending:
            self.journals[name] = self.pending.pop(name)

    @rule(name=NAMES)
    def close(self, name):
        self.let_go(name)

    @rule(name=NAMES, content=st.lists(CONTENT, min_size=1, max_size=3))
    def save(self, name, content):
        self.store.save(name, content)
        self.let_go(name)
        self.documents[name] = b"".join(content)
        self.journals.pop(name, None)

    @rule(name=NAMES)
    def remove(self, name):
        self.let_go(name)
        self.store.remove(name)
        self.documents.pop(name, None)
        self.journals.pop(name, None)

    @rule(name=NAMES, to=NAMES)
    def move_journal(self, name, to):
        if to in self.journals or to in self.appenders:
            return
        self.let_go(name)
        assert self.store.move_journal(name, to) is (name in self.journals)
        if name in self.journals:
            self.journals[to] = self.journals.pop(name)

    @rule(name=NAMES)
    def lock(self, name):
        if name in self.locks:
            with pytest.raises(RunInUseError):
                self.store.lock(name)
        else:
            self.locks[name] = self.store.lock(name)

    @rule(name=NAMES)
    def release(self, name):
        if name in self.locks:
            self.locks.pop(name).release()

    @rule()
    def reopen(self):
        if not isinstance(self.store, MemoryStore):
            for name in list(self.appenders):
                self.let_go(name)
            if isinstance(self.store, SQLiteStore):
                self.store.close()
            self.store = type(self).make(Path(self.folder.name))

    @rule(name=NAMES)
    def look_at_one(self, name):
        document, journal = self.documents.get(name), self.journals.get(name)
        assert self.store.read(name) == (None if document is journal is None else Stored(document, journal))
        assert self.store.exists(name) is (document is not None)
        assert self.store.is_locked(name) is (name in self.locks)

    @invariant()
    def the_list_is_right(self):
        expected = {
            name: (
                len(self.documents.get(name, b"")) + len(self.journals.get(name, b"")),
                name in self.journals,
                self.documents.get(name) or self.journals[name],
            )
            for name in {*self.documents, *self.journals}
        }
        listed = self.store.list()
        assert [run.modified for run in listed] == sorted(run.modified for run in listed)
        found = {run.identifier: (run.size, run.has_journal, run.head) for run in listed}
        assert found.keys() == expected.keys()
        for name, (size, has_journal, head) in found.items():
            assert (size, has_journal) == expected[name][:2]
            assert head
            assert expected[name][2].startswith(head)  # of a journal it may be its first part


@pytest.mark.parametrize("which", STORES)
def test_a_store_behaves_as_its_model(which):
    machine = type("Machine", (StoreMachine,), {"make": staticmethod(STORES[which])})
    run_state_machine_as_test(machine, settings=settings(examples(20), stateful_step_count=30))
