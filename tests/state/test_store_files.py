"""The files of stores: their modes, their places, and what sessions leave in them."""

import os
import stat
import threading
from typing import Any

import pytest

import railtracks as rt
from railtracks.state import FileStore, MemoryStore, SQLiteStore, Store
from tests.state.stores import PERSISTENT, double

# ---- the files of stores


@pytest.mark.parametrize("kind", ["file", "sqlite"])
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
    stores: list[Store] = [FileStore("runs"), FileStore(), SQLiteStore("runs.db")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for store in stores:
        store.save("mine", [b"{}"])
    assert [*(tmp_path / "elsewhere").iterdir()] == []


# ---- sessions and stores


async def run_one(store, identifier="mine"):
    async with rt.Session(run_identifier=identifier, store=store, flow_name="flow", name="name") as session:
        assert await rt.call(double, 21) == 42
    return session


async def test_a_session_leaves_only_its_document(store):
    """It leaves neither a lock nor a journal."""
    session = await run_one(store)
    assert store.read("mine").journal is None
    assert store.is_locked("mine") is False
    assert rt.state.load_run("mine", store) == session.info


class Late:
    """A store in which the worker thread that syncs comes after the document was saved, and before the journal is
    closed."""

    session: Any

    def save(self, identifier, content):
        super().save(identifier, content)  # type: ignore[misc]
        late = threading.Thread(target=self.session._stored_run._storage._journal.sync)
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
async def test_a_late_sync_does_no_harm_to_a_run_that_has_ended(make, caplog):
    store = make()
    async with rt.Session(run_identifier="mine", store=store) as session:
        store.session = session
        await rt.call(double, 21)
    store.late.join()
    assert [record.getMessage() for record in caplog.records] == []
    assert store.read("mine").journal is None
    assert [(run.state, run.status) for run in rt.state.list_runs(store)] == [("ended", "Completed")]
