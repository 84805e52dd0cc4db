"""Databases that fail and stores with bugs: the flow goes on, and the log says it once."""

from __future__ import annotations

import sqlite3
import threading

import pytest

import railtracks as rt
from railtracks.state import MemoryStore, SQLiteStore
from railtracks.state._stores import _sqlite
from railtracks.state._stores._fsync_thread import fsync_thread
from tests.durability.disk import MODES, RIGHT, both, is_free, triple

pytestmark = pytest.mark.usefixtures("nothing_is_left")


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
async def test_a_flow_goes_on_without_its_database(word, durability, moment, base, failing, logged):
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
        assert len(logged("ERROR")) == 1
    assert len(logged("ERROR")) <= 1
    failing.clear()
    async with rt.Session(run_identifier="run", durability=durability, store=base):
        assert await rt.call(both, 1) == RIGHT[0]
    assert rt.state.load_run("run", base).answer == RIGHT[0]
    assert len(logged("ERROR")) <= 1


@pytest.mark.parametrize(("error", "has_traceback"), [(OSError, False), (ZeroDivisionError, True)])
async def test_only_an_error_in_the_code_of_a_store_has_a_traceback(error, has_traceback, caplog):
    class Broken(MemoryStore):
        def save(self, *_):
            raise error("it fails")

    async with rt.Session(run_identifier="run", store=Broken()):
        await rt.call(triple, 1)
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "it fails" in record.getMessage()
    assert bool(record.exc_info) == has_traceback


def test_failed_commit_does_not_block_the_next_transaction(base, failing):
    base.save("one", [b"{}"])
    failing["COMMIT"] = "database is locked"
    with pytest.raises(OSError, match="database is locked"):
        base.save("two", [b"{}"])
    failing.clear()
    assert not base.exists("two")
    base.save("three", [b"{}"])
    assert base.exists("three")


async def test_a_database_that_is_really_full(base, logged):
    base.save("other", [b"{}"])
    with base._guard:
        (pages,) = base._connection.execute("PRAGMA page_count").fetchone()
        base._connection.execute(f"PRAGMA max_page_count = {pages}")
    async with rt.Session(run_identifier="run", durability="sync", store=base):
        assert await rt.call(len, "x" * 100_000) == 100_000
    assert len(logged("ERROR")) == 1
    assert "database or disk is full" in logged("ERROR")[0]
    with base._guard:
        base._connection.execute("PRAGMA max_page_count = 1000000")
    base.save("run", [b"{}"])
    assert base.exists("run")


@pytest.mark.parametrize("durability", MODES)
async def test_a_database_that_another_process_has_locked(durability, base, logged, monkeypatch):
    monkeypatch.setattr(_sqlite, "WAIT", 0.0)
    base.exists("run")
    other = sqlite3.connect(base._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with rt.Session(run_identifier="run", durability=durability, store=base):
        assert await rt.call(both, 1) == RIGHT[0]
    other.close()
    assert len(logged("ERROR")) == 1
    assert "database is locked" in logged("ERROR")[0]
    assert is_free(store=base)


async def test_no_record_comes_to_the_database_after_the_document(base, monkeypatch):
    # The thread that commits may have its turn at any time, also between saving and the end of the session.
    class Store(SQLiteStore):
        def save(self, identifier, content):
            super().save(identifier, content)
            with fsync_thread._guard:
                scheduled, fsync_thread._scheduled = fsync_thread._scheduled, {}
            for work in scheduled:
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


class Faulty(MemoryStore):
    """A store that an application wrote, with a bug in one method."""

    def __init__(self, method):
        super().__init__()
        self.method = method
        if hasattr(self, method):
            setattr(self, method, self.fail)

    def fail(self, *_args, **_kwargs):
        raise RuntimeError(f"a bug in {self.method}")

    def open(self, *args, **kwargs):
        appender = super().open(*args, **kwargs)
        if hasattr(appender, self.method):
            setattr(appender, self.method, self.fail)
        return appender

    def lock(self, identifier):
        lock = super().lock(identifier)
        if self.method == "release":
            lock.release = self.fail  # type: ignore[method-assign]
        return lock


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    "method", ["lock", "open", "move_journal", "exists", "save", "append", "sync", "close", "release"]
)
async def test_bug_in_a_store_does_not_harm_the_flow(method, durability, caplog):
    store = Faulty(method)
    async with rt.Session(run_identifier="run", store=store, durability=durability):
        assert await rt.call(triple, 1) == 3
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) <= 1
    assert not fsync_thread._scheduled
    assert not store.is_locked("run") or method == "release"
