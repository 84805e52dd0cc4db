"""``on_write_error``: recording that goes on when there is room again, or a session that ends without a record."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency._threads import run_in_thread
from railtracks.exceptions import StateError
from railtracks.execution._recording import _journal_writer
from railtracks.state import FileStore, MemoryStore, PostgresStore, SQLiteStore, Status
from tests.durability.disk import both, half, is_free, triple, until
from tests.durability.world import FOLDER
from tests.postgres import IN_POSTGRES
from tests.programs import ROOT

pytestmark = pytest.mark.usefixtures("nothing_is_left")
UNRECORDED = r"'run' cannot be recorded at \.railtracks/run\.json: .*on_write_error"
AGAIN = "The journal beside .railtracks/run.json is written again; it has all calls so far"


@pytest.fixture
def soon(monkeypatch):
    """The journal is begun again at once: in virtual time, which stands still while a test waits."""
    monkeypatch.setattr(_journal_writer, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(_journal_writer, "RETRY_SHARE", 0)


@rt.function_node
async def put(key, value):
    rt.context.put(key, value)
    return value


@rt.function_node
def put_in_thread(key):
    for number in range(20):
        rt.context.put(key, number)


@rt.function_node
async def fail():
    raise ValueError("mine")


@rt.function_node
async def tree():
    with pytest.raises(ValueError, match="mine"):
        await rt.call(fail)
    await rt.call(put, "a", (1, 2))
    return [await rt.call(triple, 5), await rt.call(both, 1)]


def fill(disk):
    """Let nothing be written: neither an entry nor a journal as a whole."""
    disk.fail("write", ("journal",))
    disk.fail("replace")


async def check_whole(session, store=None):
    """Check that the journal holds what the session knows."""
    info = rt.state.load_run("run", store)
    assert info.damage is None
    assert info == session.info


# ---- going on


@pytest.mark.parametrize("fault", ["write", "half", "fsync", "folder"])
@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_journal_is_begun_again_when_there_is_room(fault, durability, disk, logged, soon, hurry):
    async with rt.Session(run_identifier="run", durability=durability) as session:
        await rt.call(tree)
        if fault == "folder":
            shutil.rmtree(FOLDER)
        else:
            disk.fail("replace")
            disk.fail("write" if fault == "half" else fault, **({"action": half} if fault == "half" else {}))
        await rt.call(both, 1)
        await until(lambda: logged("ERROR"))
        assert fault == "folder" or AGAIN not in logged("WARNING")
        disk.recover()
        await rt.call(tree)
        await until(lambda: AGAIN in logged("WARNING"))
        await rt.call(both, 2)
        await check_whole(session)
    assert len(logged("ERROR")) == 1
    assert rt.state.load_run("run").damage is None
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]
    assert is_free()


@pytest.fixture
def failing(monkeypatch):
    """Journals in SQLite and in memory, to which nothing can be written while this list is not empty."""
    failing = []

    def check(do, *args):
        if failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        do(*args)

    for kind in (SQLiteStore, MemoryStore, PostgresStore):

        def open_journal(self, *args, original=kind.open):
            appender = original(self, *args)
            sync, append = appender.sync, appender.append
            appender.sync = lambda: check(sync)
            appender.append = lambda content: check(append, content)
            return appender

        monkeypatch.setattr(kind, "open", open_journal)
    return failing


@pytest.mark.parametrize(
    "make", [lambda: SQLiteStore("runs.db"), MemoryStore, IN_POSTGRES], ids=["sqlite", "memory", "postgres"]
)
async def test_other_stores_are_written_again_too(make, request, soon, logged, failing):
    store = make()
    if isinstance(store, SQLiteStore):
        request.addfinalizer(store.close)
    async with rt.Session(run_identifier="run", durability="sync", store=store) as session:
        await rt.call(tree)
        failing.append(True)
        await rt.call(both, 1)
        failing.clear()
        await rt.call(tree)
        await until(lambda: any("is written again" in text for text in logged("WARNING")))
        await rt.call(both, 2)
        await check_whole(session, store)
    assert len(logged("ERROR")) == 1


async def test_journal_is_begun_again_while_nothing_happens(disk, logged, soon, hurry):
    async with rt.Session(run_identifier="run") as session:
        await rt.call(triple, 1)
        fill(disk)
        await rt.call(triple, 2)
        disk.recover()
        await until(lambda: AGAIN in logged("WARNING"))
        await check_whole(session)


async def test_journal_is_not_tried_again_before_its_time(disk, logged, monkeypatch):
    monkeypatch.setattr(_journal_writer, "RETRY_AFTER", 1e9)
    async with rt.Session(run_identifier="run"):
        await rt.call(triple, 1)
        fill(disk)
        await rt.call(triple, 2)
        disk.recover()
        steps = len(disk.steps)
        for _ in range(10):
            await rt.call(triple, 3)
        assert {*disk.steps[steps:]} <= {"fsync journal", "fsync folder"}
    assert AGAIN not in logged("WARNING")


async def test_each_failure_is_logged_once(failing, logged):
    """In a store that does not block, so that no thread begins the journal again, and all time is virtual."""
    store = MemoryStore()
    async with rt.Session(run_identifier="run", store=store) as session:
        for number in range(1, 4):
            await rt.call(triple, number)
            failing.append(True)
            for _ in range(5):
                await rt.call(both, 1)
                await anyio.sleep(2 * _journal_writer.RETRY_AFTER)  # then it is tried again, and fails again
            assert (len(logged("ERROR")), len(logged("WARNING"))) == (number, number - 1)
            failing.clear()
            await rt.call(triple, number)
            assert (len(logged("ERROR")), len(logged("WARNING"))) == (number, number)
        await check_whole(session, store)
    assert {*logged("WARNING")} == {AGAIN.replace(".railtracks/run.json", "memory, as run")}


async def test_resumed_run_keeps_its_history_in_the_journal(disk, logged, soon, hurry):
    """What the run that is resumed had completed is in the journal that is begun again, too."""
    flow_fails = [True]

    @rt.function_node
    async def flow():
        await rt.call(put, "a", 1)
        await rt.call(triple, 5)
        if flow_fails:
            raise ValueError("first")
        return await rt.call(triple, 6)

    with pytest.raises(ValueError, match="first"):
        async with rt.Session(run_identifier="run"):
            await rt.call(flow)
    flow_fails.clear()
    async with rt.Session(resume="run", run_identifier="run") as session:
        fill(disk)
        await rt.call(flow)
        disk.recover()
        await rt.call(triple, 9)
        await until(lambda: AGAIN in logged("WARNING"))
        await check_whole(session)
        info = rt.state.load_run("run")
        assert [r.name for r in info.earlier] == ["flow", "put", "triple"]
        assert [r.reuse for r in info.records if r.name == "put"] == ["reused"]


async def test_attempt_is_counted_in_a_journal_that_is_begun_again(died, disk, logged, soon, hurry):
    async with rt.Session(resume="run", run_identifier="run"):
        fill(disk)
        await rt.call(triple, 1)
        disk.recover()
        await rt.call(triple, 2)
        await until(lambda: AGAIN in logged("WARNING"))
        assert rt.state.load_run("run")._restarts == 1
    assert rt.state.load_run("run")._restarts is None


async def test_changes_of_threads_are_there_once(disk, logged, soon, hurry):
    """The journal is begun again while worker threads change the context."""
    async with rt.Session(run_identifier="run") as session:
        await rt.call(triple, 1)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(rt.call, put_in_thread, f"key {number}")
            for _ in range(5):
                fill(disk)
                await rt.call(triple, 2)
                disk.recover()
                await rt.call(triple, 3)
        await until(lambda: AGAIN in logged("WARNING"))
        await rt.call(triple, 4)
        info = rt.state.load_run("run")
        assert info.damage is None
        changes = [change for record in info.records for change in record.changes or ()]
        assert sorted(change.order for change in changes) == list(range(80))
        assert info == session.info


async def test_end_waits_for_the_journal_that_is_begun_again(disk, logged, soon):
    """Or the journal would be there beside the document that has replaced it."""
    began, may_go_on = threading.Event(), threading.Event()

    class Slow(FileStore):
        def open(self, identifier, content, durable=False):
            if durable:
                began.set()
                may_go_on.wait()
            return super().open(identifier, content, durable)

    async with rt.Session(run_identifier="run", store=Slow()):
        await rt.call(triple, 1)
        fill(disk)
        await rt.call(triple, 2)
        disk.recover()
        await rt.call(triple, 3)
        await run_in_thread(began.wait)
        threading.Timer(0.05, may_go_on.set).start()
    assert rt.state.load_run("run").answer == [3, 6, 9]
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]


async def test_journal_that_is_begun_again_is_removed_at_the_end(disk, logged, soon, hurry):
    async with rt.Session(run_identifier="run"):
        fill(disk)
        await rt.call(triple, 1)
        disk.recover()
        await rt.call(triple, 2)
        await until(lambda: AGAIN in logged("WARNING"))
    assert rt.state.load_run("run").answer == [3, 6]
    assert [path.name for path in FOLDER.iterdir()] == ["run.json"]


INTERRUPTED = """
import os, signal, sys
import railtracks as rt
from railtracks.state import FileStore

class Stop(BaseException):
    pass

def handle(*_):
    raise Stop

signal.signal(signal.SIGUSR1, handle)
written = os.write

def write(handle, content):
    done = written(handle, content)
    if sys.argv[1] in content.decode("latin1"):
        os.write = written
        os.kill(os.getpid(), signal.SIGUSR1)  # the entry is there, and the session does not know that
    return done

async def step(x):
    return x

async def main():
    async with rt.Session(run_identifier="run", logging_setting="NONE"):
        os.write = write
        try:
            await rt.call(step, 1)
        except Stop:
            pass
        for number in range(2, 5):
            await rt.call(step, number)
        for _ in range(100):
            info = rt.state.load_run("run")
            if len(info.records) >= 4:
                break
            await anyio.sleep(0.05)
        print(len(info.records), info.damage)
        os._exit(0)

import anyio
anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["created", "ended"])
def test_interrupted_append_does_not_end_the_record(kind, backend):
    """It is not known whether the entry was written, and each entry depends on those before it."""
    command = [sys.executable, "-c", INTERRUPTED, f'"e": "{kind}", "call": 0', backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.stdout == "4 None\n"


# ---- stopping


STOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "no space to write": ("write", {}),
    "space for a part only": ("write", {"action": half}),
    "an error on fsync": ("fsync", {"error": errno.EIO}),
}


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("fault", STOPS)
async def test_session_ends_if_it_cannot_be_recorded(fault, durability, disk, logged, hurry):
    name, options = STOPS[fault]
    ran, results = [], []

    async def step(number):
        ran.append(number)
        await anyio.sleep(0)
        return number

    async def endless():
        await anyio.sleep_forever()

    async def job():
        for number in range(1_000_000):
            if number == 3:
                disk.fail(name, **options)
            results.append(await rt.call(step, number))
            await anyio.sleep(0.001)

    with pytest.raises(StateError, match=UNRECORDED) as caught:
        async with rt.Session(run_identifier="run", durability=durability, on_write_error="stop") as session:
            session.start_soon(endless)
            await rt.call(job)
    assert isinstance(caught.value.__cause__, OSError)
    assert len(logged("ERROR")) <= 2  # the journal, and the document
    assert {r.status for r in session.info.records} <= {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    if durability == "sync":
        assert results == [0, 1, 2]  # the one whose record is not there has not returned
    if name == "write":
        assert ran == [0, 1, 2]  # one whose beginning cannot be recorded does not run
    disk.recover()
    assert is_free()


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_batch_that_cannot_be_recorded_raises_that_alone(durability, limit, disk):
    """The batch raises the error itself, not a group of it."""

    async def step(number):
        await anyio.sleep(number % 5)
        if number == 3:
            disk.fail("write")

    with pytest.raises(StateError, match=UNRECORDED):
        async with rt.Session(run_identifier="run", durability=durability, on_write_error="stop"):
            with pytest.raises(StateError, match=UNRECORDED):
                await rt.call_batch(step, range(100), limit=limit, return_exceptions=False)
    disk.recover()
    assert is_free()


@pytest.mark.parametrize("form", ["with", "with, in async code", "flow"])
@pytest.mark.parametrize("durability", ["async", "sync"])
def test_other_forms_end_too(form, durability, backend, disk, logged):
    options: dict[str, Any] = {
        "run_identifier": "run", "durability": durability, "backend": backend, "on_write_error": "stop",
    }  # fmt: skip

    async def job():
        await rt.call(triple, 1)
        disk.fail("write")
        for number in range(1_000_000):
            await rt.call(triple, number)
            await anyio.sleep(0.001)

    async def main():
        with rt.Session(**options):
            return await rt.call(job)

    with pytest.raises(StateError, match="cannot be recorded"):
        if form == "with":
            with rt.Session(**options):
                rt.call_sync(job)
        elif form == "flow":
            rt.Flow("F", job, **options).invoke()
        else:
            anyio.run(main, backend=backend)
    disk.recover()
    assert is_free()


async def test_failure_that_the_body_handled_is_raised_at_the_end(disk):
    with pytest.raises(StateError, match="cannot be recorded"):
        async with rt.Session(run_identifier="run", on_write_error="stop"):
            disk.fail("write")
            with pytest.raises(StateError, match="cannot be recorded"):
                await rt.call(triple, 1)
            disk.recover()


async def test_own_error_of_the_body_is_raised(disk):
    with pytest.raises(ValueError, match="mine"):
        async with rt.Session(run_identifier="run", on_write_error="stop"):
            disk.fail("write")
            with pytest.raises(StateError, match="cannot be recorded"):
                await rt.call(triple, 1)
            raise ValueError("mine")


@pytest.mark.parametrize("name", ["open", "mkdir"])
def test_session_is_not_entered_if_its_run_cannot_be_locked(name, disk):
    disk.fail(name, ("lock", "folder"), errno.EROFS)
    with (
        pytest.raises(StateError, match="cannot be recorded") as caught,
        rt.Session(run_identifier="run", on_write_error="stop"),
    ):
        pytest.fail("it was entered")
    assert isinstance(caught.value.__cause__, OSError)
    disk.recover()
    assert is_free()


async def test_dead_journal_that_cannot_be_moved_stops_the_session(died, disk):
    disk.fail("rename")
    with pytest.raises(StateError, match="cannot be recorded"):
        async with rt.Session(run_identifier="run", on_write_error="stop"):
            pytest.fail("it was entered")
    disk.recover()
    assert rt.state.load_run("run").answer == 3


@pytest.mark.parametrize("durability", ["exit", "async"])
async def test_session_that_cannot_be_saved_at_all_raises(durability, disk, logged):
    session = rt.Session(run_identifier="run", durability=durability, on_write_error="stop")

    async def run():
        async with session:
            assert await rt.call(triple, 1) == 3
            disk.fail("replace")

    if durability == "exit":
        with pytest.raises(StateError, match="cannot be recorded"):
            await run()
    else:
        await run()
        assert rt.state.load_run("run").answer == 3
    assert len(logged("ERROR")) == 1


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_run_that_was_stopped_goes_on_when_it_is_resumed(durability, disk):
    runs = []

    @rt.function_node
    async def step(number):
        runs.append(number)
        return number

    @rt.function_node
    async def job():
        total = 0
        for number in range(5):
            if number == 3 and len(runs) == 3:
                disk.fail("write")
            total += await rt.call(step, number)
        return total

    options: Any = {"run_identifier": "run", "if_exists": "resume", "durability": durability}
    with pytest.raises(StateError, match="cannot be recorded"):
        async with rt.Session(on_write_error="stop", **options):
            await rt.call(job)
    disk.recover()
    async with rt.Session(**options):
        assert await rt.call(job) == 10
    assert runs == [0, 1, 2, 3, 4]


# ---- suspending


@pytest.mark.parametrize("on_write_error", ["continue", "stop"])
@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_run_that_cannot_be_saved_is_not_suspended(durability, on_write_error, disk):
    flow = rt.Flow(
        "Wait", rt.receive, run_identifier="run", durability=durability, on_write_error=on_write_error,
        logging_setting="NONE",
    )  # fmt: skip
    fill(disk)
    with pytest.raises(StateError) as caught:
        await flow.ainvoke("t")
    assert isinstance(caught.value.__cause__, OSError)
    assert "No space left" in str(caught.value)
    if on_write_error == "continue":
        assert str(caught.value).startswith("the run 'run' could not be suspended, because it could not be saved at ")
    disk.recover()
    with pytest.raises(rt.RunSuspended):
        await flow.ainvoke("t")
    assert rt.state.load_run("run").topics == ("t",)


def test_run_of_sync_code_that_cannot_be_saved_is_not_suspended(disk, backend):
    fill(disk)
    with (
        pytest.raises(StateError, match="could not be suspended"),
        rt.Session(run_identifier="run", suspend=True, backend=backend, logging_setting="NONE"),
    ):
        rt.call_sync(rt.receive, "t")


async def test_run_whose_journal_is_whole_is_suspended_all_the_same(disk):
    flow = rt.Flow("Wait", rt.receive, run_identifier="run", logging_setting="NONE")
    disk.fail("replace")
    with pytest.raises(rt.RunSuspended):
        await flow.ainvoke("t")
    disk.recover()
    rt.state.send("run", "t", 5)
    assert await flow.aresume("run") == 5
