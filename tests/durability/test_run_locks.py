"""Locks: only one session, of one process, may write a run."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

import railtracks as rt
from railtracks._context_variable import current
from railtracks.exceptions import RunInUseError
from railtracks.state import FileStore
from railtracks.state._stores import _file_lock
from tests.durability.disk import IN_USE, holder, is_free, journal_of, python_can_open, triple
from tests.durability.world import FOLDER

pytestmark = pytest.mark.usefixtures("nothing_is_left")


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


def test_a_lock_that_cannot_be_made_leaves_nothing_open(tmp_path, monkeypatch):
    def fail(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_file_lock, "lock_handle", fail)
    with pytest.raises(OSError, match="No locks available"):
        FileStore(tmp_path).lock("run")


async def test_forked_child_does_not_write_into_the_run_of_its_parent():
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        before, frame = journal_of("run"), current.get()
        if (child := os.fork()) == 0:
            try:
                current.set(frame)  # as in a context that was copied before the fork
                rt.context.put("who", "child")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert journal_of("run") == before
        await rt.call(triple, 2)
    assert rt.state.load_run("run").answer == [3, 6]


def test_a_session_that_is_refused_leaves_no_log_file():
    with (
        rt.Session(run_identifier="mine"),
        pytest.raises(RunInUseError),
        rt.Session(run_identifier="mine", log_file="logs/new.log"),
    ):
        pytest.fail("it was entered")
    assert not Path("logs").exists()


needs_own_locks = pytest.mark.skipif(not _file_lock.HAS_OWN_LOCKS, reason="needs locks of open file descriptions")


@needs_own_locks
async def test_lock_survives_that_its_file_is_opened_and_closed():
    """As a backup or a scanner in the same process does."""
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        (FOLDER / "run.lock").read_bytes()
        (FOLDER / "run.journal").read_bytes()
        assert not python_can_open("run")


@needs_own_locks
async def test_run_is_locked_although_its_lock_file_was_removed():
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        (FOLDER / "run.lock").unlink()
        assert FileStore().is_locked("run")
        assert not python_can_open("run")
    assert python_can_open("run")
