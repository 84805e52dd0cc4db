"""``rt.state.cancel_run``: a run is cancelled from outside, whether it is running or not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _watch_thread
from railtracks._concurrency._watch_thread import watch_thread
from railtracks.exceptions import (
    ConfigError,
    RunCancelledError,
    RunNotFoundError,
    RunSuspended,
    SessionEndedError,
    StateError,
)
from railtracks.execution._mailbox import SessionMailbox
from railtracks.state import FileStore, Reason, Status
from railtracks.state._stores._settings import _sqlite_store
from tests.durability.waiting import KINDS, STORES, close_store
from tests.durability.world import FOLDER, check, flow_of, keep_journal
from tests.postgres import POSTGRES, url_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ROOT = Path(rt.__file__).parents[1]


@pytest.fixture(params=KINDS)
def store(request):
    store = STORES[request.param]()
    yield store
    close_store(store)


@rt.function_node
async def forever():
    await anyio.sleep_forever()


async def test_running_run_is_cancelled(store):
    seen: list[Any] = []

    @rt.function_node
    async def main():
        try:
            await rt.call(forever)
        except Exception as exc:
            seen.append(exc)
        finally:
            seen.append("finally")

    connection = flow_of(main, store=store).connect()

    async def cancel():
        await anyio.sleep(5)
        rt.state.cancel_run("run", store)

    with pytest.raises(RunCancelledError, match="the run 'run' was cancelled on request") as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            try:
                await connection.ainvoke()
            except RunCancelledError as exc:
                error = exc
        raise error
    assert isinstance(caught.value, SessionEndedError)
    assert seen == ["finally"]
    records = connection.session.info.records
    assert [(record.status, record.reason) for record in records] == [(Status.CANCELLED, Reason.REQUEST)] * 2
    [run] = rt.state.list_runs(store)
    assert run.status is Status.CANCELLED
    assert store.list_messages("run") == []


async def test_session_that_is_cancelled_makes_no_more_calls():
    with pytest.raises(RunCancelledError):
        async with rt.Session(run_identifier="run") as session:
            session.start_soon(forever)
            await anyio.sleep(1)
            rt.state.cancel_run("run")
            await anyio.sleep(1)
            with pytest.raises(SessionEndedError) as caught:
                await rt.call(forever)
            assert isinstance(caught.value.__cause__, RunCancelledError)
    check(session)


async def test_run_that_waits_for_a_message_is_cancelled(store):
    async with rt.Session(run_identifier="run", store=store) as session, anyio.create_task_group() as group:

        async def cancel():
            await anyio.sleep(1)
            rt.state.cancel_run("run", store)

        group.start_soon(cancel)
        with pytest.raises(RunCancelledError):
            await rt.receive("t")
    assert session.info.records[0].reason is Reason.REQUEST


PROGRAM = """
import anyio, sys
import railtracks as rt

@rt.function_node
async def forever():
    print("begun", flush=True)
    await anyio.sleep_forever()

try:
    options = {"store": sys.argv[1], "backend": sys.argv[2], "logging_setting": "QUIET"}
    rt.Flow("F", forever, run_identifier="run", **options).invoke()
except rt.exceptions.RunCancelledError as exc:
    print("cancelled", exc, flush=True)
"""


@pytest.mark.either_backend
@pytest.mark.parametrize("store", ["file:runs", "sqlite:runs.db", POSTGRES])
def test_another_process_notices_within_about_a_second(store, backend):
    store = url_of(Path.cwd()) if store == "postgres" else store
    command = [sys.executable, "-c", PROGRAM, store, backend]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            rt.state.cancel_run("run", store)
            began = time.monotonic()
            assert child.stdout.readline().startswith("cancelled the run 'run' was cancelled on request")
            assert time.monotonic() - began < 20  # on a busy machine; usually it takes a second
            assert child.wait(20) == 0
        finally:
            child.kill()
    [run] = rt.state.list_runs(store)
    assert run.status is Status.CANCELLED
    if store.startswith("sqlite"):
        _sqlite_store(str(Path("runs.db").absolute())).close()


async def test_suspended_run_is_recorded_as_cancelled(store):
    flow = flow_of(rt.receive, store=store)
    with pytest.raises(RunSuspended):
        await flow.ainvoke("t")
    rt.state.cancel_run("run", store)
    info = rt.state.load_run("run", store)
    assert {(record.status, record.reason) for record in info.records} == {(Status.CANCELLED, Reason.REQUEST)}
    with pytest.raises(StateError, match=r"'run' was cancelled by rt.state.cancel_run, .* use flow.resume\('run'\)"):
        rt.state.send("run", "t", 1, store)
    assert await rt.arecover([flow], cancelled=True) == []
    with pytest.raises(RunSuspended):  # if the program says so
        await flow.aresume("run")
    rt.state.send("run", "t", 1, store)
    assert await flow.aresume("run") == 1


@pytest.mark.parametrize("running", [False, True])
async def test_run_stays_cancelled_when_the_program_is_started_again(store, running):
    async def main():
        if running:
            rt.state.cancel_run("run", store)
            await anyio.sleep_forever()
        return await rt.receive("t")

    flow = flow_of(main, store=store, if_exists="resume")
    with pytest.raises(RunCancelledError if running else RunSuspended):
        await flow.ainvoke()
    if not running:
        rt.state.cancel_run("run", store)
    before = rt.state.load_run("run", store)
    for session in (flow.ainvoke, rt.Session(run_identifier="run", store=store, if_exists="resume").__aenter__):
        with pytest.raises(RunCancelledError, match=r"'run' was cancelled by rt\.state\.cancel_run, and stays"):
            await session()
    assert rt.state.load_run("run", store) == before
    running = False
    with pytest.raises(RunSuspended):
        await flow.aresume("run")
    rt.state.send("run", "t", 1, store)
    assert await flow.ainvoke() == 1  # it was gone on with, so the program may be started again, too


async def test_resumed_run_goes_on_with_its_steps():
    inner = rt.Flow("Inner", rt.receive, run_identifier="inner", if_exists="resume", suspend=False)
    waits = anyio.Event()

    async def main():
        waits.set()
        return await inner.ainvoke("t")

    flow = flow_of(main)
    with pytest.raises(RunCancelledError):
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_after, waits)
            try:
                await flow.ainvoke()
            except RunCancelledError as exc:
                error = exc
        raise error
    waits = anyio.Event()

    async def send():
        await waits.wait()
        while not FileStore().is_locked("inner"):
            await anyio.sleep(0.01)
        rt.state.send("inner", "t", 5)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        assert await flow.aresume("run") == 5


async def _cancel_after(event):
    await event.wait()
    while not FileStore().is_locked("inner"):
        await anyio.sleep(0.01)
    rt.state.cancel_run("run")


async def test_failed_run_is_recorded_as_cancelled():
    broken = [True]

    @rt.function_node
    async def leaf():
        if broken:
            raise ValueError

    @rt.function_node
    async def main():
        await rt.call(leaf)

    flow = flow_of(main)
    with pytest.raises(ValueError):
        await flow.ainvoke()
    rt.state.cancel_run("run")
    info = rt.state.load_run("run")
    assert [record.status for record in info.records] == [Status.CANCELLED, Status.FAILED]
    assert info.payload()["status"] == "Cancelled"
    broken.clear()
    assert await flow.aresume("run") is None


async def test_run_of_a_dead_process_is_recorded_as_cancelled():
    done = []

    @rt.function_node
    async def step():
        done.append(1)

    @rt.function_node
    async def main():
        await rt.call(step)
        keep_journal()

    flow = flow_of(main)
    await flow.ainvoke()
    assert [run.identifier for run in rt.state.list_runs() if run.state == "died"] == ["dead"]
    rt.state.cancel_run("dead")
    [run] = [run for run in rt.state.list_runs() if run.identifier == "dead"]
    assert (run.state, run.status) == ("ended", Status.CANCELLED)
    assert not (FOLDER / "dead.journal").exists()
    assert await rt.arecover([flow]) == []
    await flow.aresume("dead")
    assert done == [1]


async def test_cancelling_twice_is_like_cancelling_once():
    with pytest.raises(RunSuspended):
        await flow_of(rt.receive).ainvoke("t")
    rt.state.cancel_run("run")
    before = (FOLDER / "run.json").read_bytes()
    rt.state.cancel_run("run")
    assert (FOLDER / "run.json").read_bytes() == before


async def test_completed_run_cannot_be_cancelled(store):
    async with rt.Session(run_identifier="run", store=store):
        await rt.call(lambda: 1)
    with pytest.raises(StateError, match="'run' has completed, and cannot be cancelled"):
        rt.state.cancel_run("run", store)


def test_run_that_does_not_exist_is_an_error(store):
    with pytest.raises(RunNotFoundError):
        rt.state.cancel_run("run", store)
    with pytest.raises(ConfigError):
        rt.state.cancel_run("../run", store)
    assert not list(Path().rglob("*.lock"))


async def test_request_that_a_session_missed_cancels_the_resumed_one():
    @rt.function_node
    async def main():
        await rt.receive("t")

    flow = flow_of(main)
    with pytest.raises(RunSuspended):
        await flow.ainvoke()
    lock = FileStore().lock("run")  # as if it still ran
    rt.state.cancel_run("run")
    lock.release()
    assert [(run.identifier, type(run.exception)) for run in await rt.arecover([flow])] == [("run", RunCancelledError)]
    assert rt.state.list_runs()[0].status is Status.CANCELLED


def test_short_sessions_leave_nothing_to_watch(backend):
    with rt.Session(run_identifier="run", backend=backend):
        rt.call_sync(len, "abc")
    assert not [func for func in watch_thread._due if type(getattr(func, "__self__", None)) is SessionMailbox]


def test_watching_goes_on_after_its_thread_has_ended(monkeypatch):
    monkeypatch.setattr(_watch_thread, "IDLE", 0.0)
    monkeypatch.setattr(_watch_thread, "INTERVAL", 0.02)
    thread = _watch_thread.WatchThread()
    for _ in range(2):
        called = threading.Event()
        thread.watch(called.set)
        assert called.wait(10)
        thread.unwatch(called.set)
        running = thread._thread
        if running is not None:
            running.join(10)
        assert thread._thread is None


def test_what_is_due_earlier_is_not_held_up(monkeypatch):
    monkeypatch.setattr(_watch_thread, "INTERVAL", 1_000.0)
    monkeypatch.setattr(_watch_thread, "IDLE", 0.5)
    thread = _watch_thread.WatchThread()
    first, second = threading.Event(), threading.Event()
    thread.watch(lambda: None)
    thread.watch(first.set, 0.1)
    assert first.wait(10)
    thread.unwatch(first.set)
    thread.watch(second.set, 0.001)
    assert second.wait(10)
    thread.reset()
