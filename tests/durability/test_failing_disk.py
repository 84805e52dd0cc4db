"""Disks that fill up, folders that vanish, permissions withdrawn: the flow goes on, and the log says it once."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.state import FileStore, Status
from tests.durability.disk import FULL, GOES_ON, MODES, RIGHT, both, half, is_free, python_can_open, triple, until
from tests.durability.world import FOLDER

pytestmark = [pytest.mark.usefixtures("nothing_is_left"), pytest.mark.either_backend]


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
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
async def test_flow_goes_on_and_the_log_says_it_once(fault, durability, moment, disk, logged, caplog):
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
    assert len(logged("ERROR")) == (1 if disk.hits else 0)
    assert [record.exc_info for record in caplog.records if record.exc_info] == []  # the message says all
    assert {r.status for r in session.info.records} == {Status.COMPLETED}
    disk.recover()
    assert is_free()
    async with rt.Session(run_identifier="run", durability=durability):
        assert await rt.call(both, 1) == RIGHT[0]
    assert rt.state.load_run("run").answer == RIGHT[0]


@pytest.mark.parametrize("form", ["with", "with, in async code", "flow"])
@pytest.mark.parametrize("durability", MODES)
def test_other_forms_go_on_too(form, durability, backend, disk, logged):
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
    assert len(logged("ERROR")) == 1
    assert is_free()


@pytest.mark.parametrize("durability", MODES)
async def test_an_error_of_the_flow_is_not_replaced_by_one_of_the_disk(durability, disk, logged):
    async def fail():
        raise error

    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with rt.Session(run_identifier="run", durability=durability):
            disk.fail("write")
            disk.fail("fsync")
            await rt.call(fail)
    assert caught.value is error
    assert len(logged("ERROR")) == 1


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_journal_that_stops_says_why_and_the_run_is_saved(durability, disk, logged):
    """A journal that stops says why, and the document is saved all the same."""
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        disk.fail("write", ("journal",))
        await rt.call(triple, 2)
        disk.recover()
        await rt.call(triple, 3)
    assert logged("ERROR") == [GOES_ON.format(".railtracks/run.json", FULL)]
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


async def test_a_disk_that_is_really_full(logged):
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
    assert len(logged("ERROR")) == 1
    info = rt.state.load_run("run")
    assert info.damage is None
    assert info.answer == 3


@pytest.mark.parametrize("durability", MODES)
async def test_a_folder_that_is_removed_is_made_again_for_the_document(durability, logged, hurry):
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        shutil.rmtree(FOLDER)
        await rt.call(triple, 2)
        if durability == "async":
            await until(lambda: logged("ERROR"))
    assert len(logged("ERROR")) == (0 if durability == "exit" else 1)
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
async def test_a_folder_that_may_not_be_written_any_more(durability, logged):
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(triple, 1)
        FOLDER.chmod(0o500)
        assert await rt.call(triple, 2) == 6
    FOLDER.chmod(0o700)
    assert len(logged("ERROR")) == 1
    assert is_free()


async def test_run_that_cannot_be_locked_is_named_in_the_log_file(disk, logged):
    """A session that cannot lock its run says so in its log file too."""
    disk.fail("open", ("lock",), errno.EACCES)
    async with rt.Session(run_identifier="run", log_file="log"):
        await rt.call(triple, 1)
    expected = GOES_ON.format(".railtracks/run.json", "[Errno 13] Permission denied")
    assert logged("ERROR") == [expected]
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


async def test_a_journal_that_cannot_be_closed_costs_nothing(monkeypatch, logged):
    # As on network file systems, where close() reports what became of writes.
    async with rt.Session(run_identifier="run") as session:
        await rt.call(triple, 1)
        close, journal = os.close, session._stored_run._storage._journal._appender._handle

        def fail(handle):
            close(handle)
            if handle == journal:
                raise OSError(errno.EIO, "close went wrong")

        monkeypatch.setattr(os, "close", fail)
    assert session.info.answer == 3
    assert len(logged("ERROR")) <= 1
    assert is_free()


async def test_resume_goes_on_when_the_history_cannot_be_kept(died, disk, logged):
    """A resume that cannot write what is on record into the new journal goes on without it."""
    flow = rt.Flow("F", triple, run_identifier="run")
    disk.fail("open", ("json",))  # the new journal is written beside the old one, and put in its place
    assert await flow.aresume("run") == 3
    assert len(logged("ERROR")) == 1
    assert rt.state.load_run("run").answer == 3  # from the old journal


async def test_resume_of_an_ended_run_goes_on_without_a_journal(disk, logged):
    """When an ended run is resumed and no journal can be written, the document stays right."""
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
    disk.fail("write")
    flow = rt.Flow("F", triple, run_identifier="run")
    assert await flow.aresume("run") == 3
    assert len(logged("ERROR")) == 1
    assert rt.state.load_run("run").answer == 3
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]


@pytest.mark.parametrize("method", ["exists", "count"])
async def test_folder_that_cannot_be_read_is_still_written_to(method, monkeypatch, caplog):
    def fail(*_args):
        raise PermissionError("not yours to read")

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, method, fail)
        async with rt.Session(run_identifier="run"):
            await rt.call(triple, 1)
    assert rt.state.load_run("run").answer == 3
    assert [r.levelname for r in caplog.records] == ["WARNING"]
