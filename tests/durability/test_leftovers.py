"""Leftovers of processes that died: their runs are kept, and the rest is removed when runs are pruned."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import anyio
import pytest

import railtracks as rt
from railtracks.state import FileStore, Reason, Status
from railtracks.state._journal._format import PREFIX
from railtracks.state._stores import _run_counts
from tests.durability.disk import journal_of, triple
from tests.durability.world import FOLDER
from tests.programs import ROOT

pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def test_dead_journal_that_cannot_be_moved_is_not_lost(died, disk, logged):
    """The journal of a dead run is not lost when it cannot be moved away."""
    disk.fail("rename")
    async with rt.Session(run_identifier="run"):
        assert await rt.call(triple, 2) == 6
    assert len(logged("ERROR")) == 1
    assert 3 in [rt.state.load_run(run.identifier).answer for run in rt.state.list_runs()]


def test_empty_journal_is_not_kept(logged):
    """A run that died before anything was written to its journal is not kept."""
    FOLDER.mkdir()
    (FOLDER / "run.journal").touch()
    with rt.Session(run_identifier="run"):
        pass
    for run in rt.state.list_runs():
        assert rt.state.load_run(run.identifier).damage is None
    assert not any("can be resumed" in text for text in logged("WARNING"))


async def test_dead_run_is_kept_under_another_name_and_resumed(died, logged):
    """A run that died is kept under another name and can be resumed."""
    async with rt.Session(run_identifier="run"):
        assert await rt.call(triple, 2) == 6
    [kept] = {run.identifier for run in rt.state.list_runs()} - {"run"}
    assert kept.startswith("run.")
    [warning] = logged("WARNING")
    assert warning.startswith(f"An earlier run run did not end; its journal is kept as {kept}, and can be resumed. ")
    assert rt.state.load_run("run").answer == 6
    assert rt.state.load_run(kept).answer == 3
    connection = rt.Flow("F", triple).connect()
    assert await connection.aresume(kept) == 3
    assert [decision.reused for decision in connection.session.info.resumed] == [True]
    assert rt.state.load_run(kept).end_time is not None


async def test_a_run_that_died_with_an_open_call_says_so():
    async def stay():
        shutil.copy(FOLDER / "run.journal", FOLDER / "died.journal")

    async with rt.Session(run_identifier="run"):
        await rt.call(stay)
    [record] = rt.state.load_run("died").records
    assert (record.status, record.reason) == (Status.OPEN, Reason.PROCESS_DIED)


async def test_empty_journal_is_that_of_a_run_that_had_not_begun():
    FOLDER.mkdir()
    (FOLDER / "run.journal").touch()
    assert rt.state.load_run("run").records == ()


@pytest.mark.parametrize("bit", range(0, 8 * (PREFIX.size + 4), 3))
def test_damaged_journal_of_a_dead_run_is_kept(bit):
    """A run that died is kept, whichever bit at the beginning of its journal is damaged."""
    store = FileStore()

    async def main():
        async with rt.Session(run_identifier="run"):
            await rt.call(triple, 1)
            dead.append(journal_of("run"))

    dead = []
    anyio.run(main)
    harmed = bytearray(dead[0])
    harmed[bit // 8] ^= 1 << bit % 8
    store.remove("run")
    store.open("run", bytes(harmed)).close()
    anyio.run(main)
    kept = [store.read(run.identifier).journal for run in store.list() if run.has_journal]
    assert kept == [bytes(harmed)]


def test_prune_removes_the_locks_of_killed_processes():
    """The lock files that killed processes leave behind are removed when runs are pruned."""
    store = FileStore()
    store.folder.mkdir()
    (store.folder / "dead.lock").touch()
    held = store.lock("alive")
    rt.state.prune(older_than=0)
    assert [path.name for path in store.folder.iterdir()] == ["alive.lock"]
    held.release()


KILLED = """
import os, sys
import railtracks as rt

def kill(*_):
    os._exit(9)

async def step():
    return 1

options = {"run_identifier": sys.argv[1], "resume": sys.argv[2] or None, "allow_rerun": True}
with rt.Session(logging_setting="NONE", **options):
    if sys.argv[3] == "journal":
        os.replace = kill
    rt.call_sync(step)
    if sys.argv[3] == "document":
        os.replace = kill
"""


def killed(identifier, during="document", resume=""):
    """Kill a process while it writes the document of a run, or begins the journal of one that it resumes; or not."""
    command = [sys.executable, "-c", KILLED, identifier, resume, during]
    done = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == (0 if during == "never" else 9)


def temporary_files():
    return sorted(path.name for path in FOLDER.glob(".*"))


@pytest.mark.parametrize("during", ["document", "journal"])
async def test_a_killed_save_leaves_one_file_until_the_next(during):
    if during == "journal":
        killed("run", "never")
    for _ in range(2):
        killed("run", during, "run" if during == "journal" else "")
        assert temporary_files() == [f".run.{'json' if during == 'document' else 'journal'}.tmp"]
    async with rt.Session(run_identifier="run"):
        assert temporary_files() == []
    assert temporary_files() == []


async def test_what_a_killed_save_leaves_is_removed_by_other_runs(monkeypatch):
    monkeypatch.setattr(_run_counts, "_run_counts", _run_counts._RunCounts())  # as in a new process
    for number in range(3):
        killed(f"run{number}")
    held = FileStore().lock("alive")
    (FOLDER / ".alive.json.tmp").touch()
    async with rt.Session(run_identifier="other"):
        pass
    assert temporary_files() == [".alive.json.tmp"]
    held.release()
    assert (FOLDER / "run1.journal").exists()


def test_prune_removes_half_written_files_of_dead_runs():
    """Half-written files are removed, unless a running session is writing them."""
    store = FileStore()
    store.folder.mkdir()
    for name in (".dead.json.0123abcd.tmp", ".alive.journal.0123abcd.tmp", ".notes.tmp"):
        (store.folder / name).touch()
    held = store.lock("alive")
    rt.state.prune(older_than=0)
    held.release()
    assert {path.name for path in store.folder.iterdir()} == {".alive.journal.0123abcd.tmp", ".notes.tmp"}
