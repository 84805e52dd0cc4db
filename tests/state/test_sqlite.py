"""What is special to the SQLite store: its tables, and several processes on one file."""

import sqlite3
import threading
from contextlib import ExitStack

import pytest

import railtracks as rt
from railtracks.state import SQLiteStore, Stored
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
