"""What is special to the SQLite store: its tables, and several processes on one file."""

import gc
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import railtracks as rt
from railtracks.state import SQLiteStore, Stored
from railtracks.state._stores import _free_space, _sqlite
from tests.programs import ROOT
from tests.state.stores import double, needs_fork, process, ran


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


def test_several_processes_write_one_file_and_lose_nothing():
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


def test_a_store_that_is_listed_for_ever_does_not_grow(monkeypatch):
    monkeypatch.setattr(_sqlite, "BLOBS", 10)
    with closing(SQLiteStore("runs.db")) as store:
        for number in range(4):
            store.save(f"run-{number}", [b'{"version": 6}'])
        for _ in range(100):
            assert [listed.identifier for listed in store.list()] == [f"run-{number}" for number in range(4)]
        kept = [each for each in gc.get_referents(store._connection) if isinstance(each, list)]
        assert max(map(len, kept), default=0) <= 20  # Python 3.11 keeps something for each blob that was opened


def test_the_first_use_waits_for_that_of_another_process(tmp_path):
    body = """
    import sqlite3
    connection = sqlite3.connect("new.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE other (x)")
    say("writing")
    sys.stdin.readline()
    connection.execute("COMMIT")
    """
    outcome: list[bool | OSError] = []

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


def test_a_second_store_on_a_file_leaves_the_locks_of_the_first():
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


@pytest.mark.parametrize("form", ["store", "text", "beside another process"])
def test_file_is_whole_by_itself_when_the_program_has_ended(form, tmp_path):
    other = SQLiteStore("runs.db") if form.startswith("beside") else None
    if other is not None:
        other.save("other", [b"{}"])
    setting = "'sqlite:runs.db'" if form == "text" else "rt.state.SQLiteStore('runs.db')"
    program = f"""
import time
import railtracks as rt

store = {setting}
for name in ("other", "mine"):
    with rt.Session(run_identifier=name, store=store, logging_setting="NONE"):
        rt.call_sync(time.sleep, 0.1)  # real time: so long that a thread writes the journal, and holds the store
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": ROOT})
    if other is not None:
        assert other.exists("mine")
        other.close()  # the last one
    assert not Path("runs.db-wal").exists()
    shutil.copy("runs.db", tmp_path / "copy.db")
    assert [run.identifier for run in rt.state.list_runs(f"sqlite:{tmp_path / 'copy.db'}")][-1:] == ["mine"]


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


@needs_fork
def test_a_forked_child_does_not_wait_for_its_parents_threads():
    body = """
    with store.transaction():
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            store._path = store._path.with_name("other.db")
            store.save("child", [b"{}"])
            os._exit(0)
        say(os.waitpid(child, 0)[1])
    """
    assert ran("sqlite", body) == ["0"]


def test_a_file_that_is_not_a_database_is_an_error_with_its_name(tmp_path):
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


# ---- what large runs leave is given back

LARGE = 3 << 20


@pytest.fixture
def keeping_little(monkeypatch):
    monkeypatch.setattr(_free_space, "KEPT", 100_000)


def sizes(path="runs.db"):
    """Return the sizes of the file and of its log."""
    return os.path.getsize(path), os.path.getsize(f"{path}-wal")


def pages(path="runs.db"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA page_count").fetchone()[0]


def noise(size=LARGE, seed=0):
    """Return bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)


def large_journal(store, identifier):
    appender = store.open(identifier, b"<0>")
    appender.append(noise())
    appender.sync()
    appender.close()


def test_a_removed_run_gives_its_space_back(keeping_little):
    store = SQLiteStore("runs.db")
    store.save("small", [b"{}"])
    store.save("large", [noise()])
    assert sizes()[0] > LARGE
    store.remove("large")
    assert max(sizes()) < 300_000
    assert store.read("small") == Stored(b"{}", None)


def test_a_saved_document_takes_the_place_of_its_journal(keeping_little):
    store = SQLiteStore("runs.db")
    for seed in range(3):
        large_journal(store, "mine")
        store.save("mine", [noise(LARGE // 2, seed)])
        assert LARGE // 2 < sizes()[0] < LARGE // 2 + 300_000
        assert sizes()[1] < 300_000


def test_space_that_others_may_use_soon_is_kept(monkeypatch):
    monkeypatch.setattr(_free_space, "KEPT", 2 * LARGE)
    store = SQLiteStore("runs.db")
    store.save("large", [noise()])
    store.remove("large")
    before = pages()
    assert before > LARGE // 4096
    store.save("other", [noise()])
    assert pages() == before


def test_giving_back_does_not_wait_for_others_nor_fail(keeping_little, monkeypatch):
    """A save waits for those who write, as ever, and for nobody after it."""
    monkeypatch.setattr(_free_space, "PATIENCE", 0.0)
    store = SQLiteStore("runs.db")
    store.save("one", [noise()])
    with ExitStack() as stack:
        reader = stack.enter_context(closing(sqlite3.connect("runs.db", isolation_level=None)))
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        store.remove("one")
        assert sizes()[0] > LARGE  # the reader still needs it
        assert reader.execute("SELECT length(document) FROM runs").fetchone() == (LARGE,)
        reader.execute("COMMIT")
        reader.execute("BEGIN IMMEDIATE")
        store._give_back()
        reader.execute("ROLLBACK")
    store.save("two", [b"{}"])
    assert max(sizes()) < 300_000


def test_a_file_of_an_earlier_release_is_used_as_it_is(keeping_little):
    with closing(sqlite3.connect("runs.db")) as connection:
        connection.execute("CREATE TABLE other (x)")
    store = SQLiteStore("runs.db")
    store.save("large", [noise()])
    store.remove("large")
    before = pages()
    assert before > LARGE // 4096
    store.save("large", [noise()])
    assert pages() == before
    assert store.read("large") == Stored(noise(), None)


def test_several_processes_save_and_remove_large_runs_at_once():
    body = """
    from railtracks.state._stores import _free_space
    _free_space.KEPT = 0
    name = sys.argv[2]
    say("ready")
    sys.stdin.readline()
    for number in range(8):
        appender = store.open(f"{name}-{number}", b"<0>")
        appender.append(os.urandom(500_000))
        appender.sync()
        appender.close()
        store.save(f"{name}-{number}", [name.encode() * 200_000])
        assert all(run.head for run in store.list())
        if number:
            store.remove(f"{name}-{number - 1}")
    say("done")
    """
    names = ["a", "b", "c"]
    with ExitStack() as stack:
        children = [stack.enter_context(process("sqlite", body, name)) for name in names]
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        assert [child.communicate(timeout=60) for child in children] == [("done\n", "")] * 3
    store = SQLiteStore("runs/runs.db")
    assert {run.identifier for run in store.list()} == {f"{name}-7" for name in names}
    assert all(store.read(f"{name}-7") == Stored(name.encode() * 200_000, None) for name in names)
    with closing(sqlite3.connect("runs/runs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# ---- parts of journals are compressed

JOURNALS = {
    "small": [b"<0>", b"<1>"],
    "large": [b"<0>" * 5_000, b"<1>", b"<2>" * 5_000],
    "as if compressed": [b"<0>", b"\x1f\x8b<1>"],
    "noise": [noise(10_000), noise(10_000, 1)],
}


@pytest.mark.parametrize("parts", JOURNALS.values(), ids=JOURNALS)
def test_a_journal_is_read_as_it_was_written(parts):
    store = SQLiteStore("runs.db")
    appender = store.open("mine", parts[0])
    for part in parts[1:]:
        appender.sync()
        appender.append(part)
    appender.sync()
    assert store.read("mine") == Stored(None, b"".join(parts))
    assert b"".join(parts).startswith(store.find("mine").head)


def test_damage_in_a_compressed_part_of_a_journal_stays_visible():
    store = SQLiteStore("runs.db")
    store.open("mine", b"<0>" * 100_000).sync()
    assert store.find("mine").size < 3_000
    with closing(sqlite3.connect("runs.db", isolation_level=None)) as connection:
        connection.execute("UPDATE journals SET content = substr(content, 1, 500)")
    assert store.read("mine").journal.startswith(b"\x1f\x8b")
