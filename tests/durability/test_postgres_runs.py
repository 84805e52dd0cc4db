"""Runs in PostgreSQL: processes of several machines take over each other's runs, each of which is held by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.cli import _runs
from railtracks.exceptions import RunInUseError, RunLostError, StateError, StoreError
from railtracks.execution._recording import _journal_writer
from railtracks.state import PostgresStore, Status
from railtracks.state._stores._fsync_thread import fsync_thread
from railtracks.state._stores._postgres import _committer, _connection
from tests.postgres import needs_postgres, schema_of, server, store_of, url_of
from tests.programs import ROOT

pytestmark = [needs_postgres, pytest.mark.usefixtures("nothing_is_left")]

WORKER = """
import os
import sys
import railtracks as rt
import railtracks.execution._mailbox
from railtracks.state._stores._postgres import _owner

machine, store, backend = sys.argv[1:]
store += f"&application_name=rt-{os.getpid()}"
_owner._host = lambda: machine

def say(*words):
    print(*words, flush=True)

@rt.function_node
async def first():
    say("first")
    return 1

@rt.function_node(abandon_on_cancel=False)
def second():
    say("second")
    if machine == "one":
        sys.stdin.readline()
    return 2

@rt.function_node
async def main():
    return [await rt.call(first), await rt.call(second)]

@rt.function_node
async def waiting():
    say("waiting")
    return await rt.receive("answer")

options = {"store": store, "durability": "sync", "backend": backend, "logging_setting": "NONE"}
flow = rt.Flow("F", main, run_identifier="run", **options)
try:
    if machine == "one":
        say("result", flow.invoke())
    elif machine == "receiver":
        railtracks.execution._mailbox.SHORTEST = 60.0
        say("result", rt.Flow("W", waiting, run_identifier="wait", suspend=False, **options).invoke())
    else:
        say("recovered", [run.result for run in rt.recover([flow])])
except rt.exceptions.RunLostError as exc:
    say("lost", exc)
"""


@contextmanager
def worker(machine, backend):
    """A process of a machine, which works on the flow."""
    Path("worker.py").write_text(WORKER)
    command = [sys.executable, "worker.py", machine, url_of(Path.cwd()), backend]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, text=True, env=environment, stdin=pipe, stdout=pipe)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def recovered_by(machine, backend):
    """What a process of another machine says that goes on with what is left."""
    with worker(machine, backend) as child:
        return child.communicate(timeout=60)[0].splitlines()


def sql(command, *values):
    return server().execute(command.replace("@", f"{schema_of(Path.cwd())}."), *values)


def expire():
    sql("UPDATE @leases SET expires = clock_timestamp() - interval '1 second'")


@contextmanager
def paused(child):
    """Pause a process for longer than its lease."""
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)  # all its threads are stopped
    expire()
    yield
    child.send_signal(signal.SIGCONT)


RENEWED = """
    SELECT 1 FROM pg_stat_activity
    WHERE application_name = %s AND state = 'idle' AND query LIKE '%%UPDATE leases SET expires%%'
"""


def begun(child):
    """Wait until a process is within its second call, and renews its lease no more for many seconds."""
    assert [child.stdout.readline() for _ in range(2)] == ["first\n", "second\n"]
    while not sql(RENEWED, f"rt-{child.pid}"):  # otherwise that may come after the test has let the lease expire
        assert child.poll() is None


# ---- several machines


@pytest.mark.either_backend
def test_another_machine_goes_on_when_the_lease_has_expired(backend):
    with worker("one", backend) as child:
        begun(child)
        child.kill()
        child.wait()
        assert recovered_by("two", backend) == ["recovered []"]  # the process might be alive
        [run] = rt.state.list_runs(store_of(Path.cwd()))
        expire()
        assert recovered_by("two", backend) == ["second", "recovered [[1, 2]]"]
    assert run.identifier == "run"
    assert rt.state.load_run("run", store_of(Path.cwd())).answer == [1, 2]


@pytest.mark.either_backend
def test_a_paused_process_that_lost_its_run_writes_no_more(backend):
    with worker("one", backend) as child:
        begun(child)
        with paused(child):
            assert recovered_by("two", backend) == ["second", "recovered [[1, 2]]"]
            store = store_of(Path.cwd())
            saved = store.read("run")
        out, _ = child.communicate("\n", timeout=60)
    assert out.startswith("lost this process does not have the run 'run' any more: it had not renewed its lease")
    assert store.read("run") == saved
    assert [each.identifier for each in rt.state.list_runs(store)] == ["run"]


@pytest.mark.either_backend
def test_of_several_machines_exactly_one_goes_on(backend):
    with worker("one", backend) as child:
        begun(child)
        child.kill()
        child.wait()
    expire()
    others = [worker(f"machine {number}", backend) for number in range(3)]
    with others[0] as a, others[1] as b, others[2] as c:
        said = [each.communicate(timeout=60)[0].splitlines() for each in (a, b, c)]
    assert sorted(said) == [["recovered []"], ["recovered []"], ["second", "recovered [[1, 2]]"]]


def test_a_message_of_another_process_is_announced(backend):
    with worker("receiver", backend) as child:
        assert child.stdout.readline() == "waiting\n"
        rt.state.send("wait", "answer", 7, url_of(Path.cwd()))
        out, _ = child.communicate(timeout=30)  # without that it would come after a minute
    assert out == "result 7\n"


def test_tail_prints_at_once_what_another_process_writes(monkeypatch, capsys):
    monkeypatch.setattr(_runs, "_ANNOUNCED_POLL", 600.0)

    @rt.function_node
    def piece(number: int) -> int:
        if number:
            follower.start()
            assert printed.wait(60)
        return number

    @rt.function_node
    async def main() -> None:
        await rt.call(piece, 0)
        await rt.call(piece, 1)

    printed = threading.Event()

    def line(record, info):
        printed.set()
        return record.name

    monkeypatch.setattr(_runs, "_ended_line", line)
    follower = threading.Thread(target=_runs.follow_run, args=("run", store_of(Path.cwd())))
    rt.Flow("F", main, store=store_of(Path.cwd()), run_identifier="run", durability="sync").invoke()
    follower.join(60)
    assert not follower.is_alive()
    assert [line for line in capsys.readouterr().out.splitlines() if line in ("piece", "main")] == [
        "piece", "piece", "main",
    ]  # fmt: skip


# ---- a lease that is lost


@pytest.mark.parametrize("on_write_error", ["continue", "stop"])
def test_a_session_ends_when_its_run_was_taken(backend, on_write_error, caplog):
    store = store_of(Path.cwd(), lease=0.5)
    cancelled = []

    @rt.function_node
    async def wait():
        sql("UPDATE @leases SET token = 1")
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    flow = rt.Flow("F", wait, store=store, run_identifier="run", backend=backend, on_write_error=on_write_error)
    with pytest.raises(RunLostError, match="does not have the run 'run' any more"):
        flow.invoke()
    assert cancelled == [True]
    errors = [record for record in caplog.records if record.levelname == "ERROR" and record.name == "RT.Session"]
    assert len(errors) == 1
    assert errors[0].getMessage().endswith("the session ends")
    assert errors[0].exc_info is None
    assert sql("SELECT count(*) FROM @runs") == [(0,)]


# ---- the event loop


@pytest.fixture
def waits(monkeypatch):
    """The threads that have waited for the server."""
    threads, original = set(), _connection.SharedConnection._run

    def run(self, *args, **kwargs):
        threads.add(threading.get_ident())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(_connection.SharedConnection, "_run", run)
    sync = _committer.PostgresAppender.sync

    def noted_sync(self):
        threads.add(threading.get_ident())
        sync(self)

    monkeypatch.setattr(_committer.PostgresAppender, "sync", noted_sync)
    return threads


def test_the_event_loop_never_waits_for_the_server(backend, waits):
    store = store_of(Path.cwd())

    @rt.function_node
    async def inner():
        async with rt.Session(name="inner", store=store, logging_setting="QUIET"):
            return await rt.call(abs, -1)

    @rt.function_node
    async def main(broken):
        blob = await rt.call(bytes, 100_000)
        number = await rt.call(inner)
        if broken:
            raise ValueError
        return len(blob) + number + await rt.receive("more")

    async def run():
        flow = rt.Flow("F", main, store=store, run_identifier="run", durability="sync", logging_setting="NONE")
        with pytest.raises(ValueError):
            await flow.ainvoke(True)
        with pytest.raises(rt.RunSuspended):
            await flow.ainvoke(False)
        await anyio.to_thread.run_sync(rt.state.send, "run", "more", 1, store)
        assert await flow.aresume("run") == 100_002
        with pytest.raises(RunInUseError):
            async with rt.Session(run_identifier="taken", store=store), rt.Session(run_identifier="taken", store=store):
                pass
        return threading.get_ident()

    assert anyio.run(run, backend=backend) not in waits
    assert len(waits) > 1


async def test_a_step_that_is_a_session_goes_on_with_its_run(tmp_path):
    store, broken, ran = store_of(tmp_path), [True], []

    @rt.function_node
    async def piece(number):
        ran.append(number)
        if number == 1 and broken:
            raise ValueError
        return number

    @rt.function_node
    async def main():
        async with rt.Session(name="inner", store=store) as inner:
            await rt.call(piece, 0)
            await rt.call(piece, 1)
        return inner.identifier

    flow = rt.Flow("F", main, store=store, run_identifier="run")
    lock = store.lock("inner")  # so that it gets another identifier, which is on record
    with pytest.raises(ValueError):
        await flow.ainvoke()
    broken.clear()
    await anyio.to_thread.run_sync(lock.release)
    identifier = await flow.aresume("run")
    assert identifier.startswith("inner-")
    assert ran == [0, 1, 1]
    assert sorted(run.identifier for run in rt.state.list_runs(store)) == [identifier, "run"]


async def test_a_session_that_cannot_begin_fails_its_step(tmp_path):
    store = store_of(tmp_path)
    lock = store.lock("inner")

    @rt.function_node
    async def main():
        async with rt.Session(run_identifier="inner", store=store):
            pass

    flow = rt.Flow("F", main, store=store, run_identifier="run")
    with pytest.raises(RunInUseError):
        await flow.ainvoke()
    records = rt.state.load_run("run", store).records
    assert [(record.name, record.status) for record in records] == [("main", Status.FAILED), ("session", Status.FAILED)]
    await anyio.to_thread.run_sync(lock.release)


async def test_entering_can_be_cancelled(tmp_path, monkeypatch):
    store = store_of(tmp_path)
    scope, original = anyio.CancelScope(), PostgresStore.lock

    def lock(self, identifier):
        anyio.from_thread.run_sync(scope.cancel)
        return original(self, identifier)

    monkeypatch.setattr(PostgresStore, "lock", lock)
    with scope:
        async with rt.Session(run_identifier="run", store=store):
            pytest.fail("it was entered")
    assert scope.cancelled_caught
    monkeypatch.undo()
    await anyio.to_thread.run_sync(lambda: store.lock("run").release())  # so it is not held


# ---- a server that goes away


@rt.function_node
async def number(value):
    return value


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(_journal_writer, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(_journal_writer, "RETRY_SHARE", 0)


def test_a_session_outlives_the_server(backend, soon, caplog):
    store = store_of(Path.cwd())
    seen = []

    async def run():
        async with rt.Session(run_identifier="run", store=store, durability="sync"):
            await rt.call(number, 1)
            server().kill()
            await rt.call(number, 2)
            server().start()
            while not any("is written again" in record.getMessage() for record in caplog.records):
                await anyio.sleep(0.01)
            await rt.call(number, 3)
            seen.append(await anyio.to_thread.run_sync(rt.state.load_run, "run", store))
            server().kill()
            server().start()
            await rt.call(number, 4)

    anyio.run(run, backend=backend)
    assert [record.result for record in seen[0].records] == [1, 2, 3]
    assert [record.result for record in rt.state.load_run("run", store).records] == [1, 2, 3, 4]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors
    assert all("the session goes on" in text for text in errors)


def test_with_stop_a_session_ends_with_the_server(backend, caplog):
    async def run():
        async with rt.Session(run_identifier="run", store=store, durability="sync", on_write_error="stop"):
            await rt.call(number, 1)
            server().kill()
            await rt.call(number, 2)

    store = store_of(Path.cwd())
    try:
        with pytest.raises(StateError, match="the run 'run' cannot be recorded at postgresql://tests@"):
            anyio.run(run, backend=backend)
    finally:
        server().start()
    assert rt.state.load_run("run", store).records[0].result == 1
    assert "password" not in caplog.text


def test_without_a_server_a_session_is_refused_or_goes_on(backend, tmp_path, caplog):
    store = PostgresStore(f"host={tmp_path} dbname=runs")
    flow = rt.Flow("F", number, store=store, backend=backend)
    assert flow.invoke(7) == 7
    assert "cannot be written: postgresql:///" in caplog.text.replace(str(tmp_path), "")
    with pytest.raises(StateError, match="cannot be recorded"):
        rt.Flow("F", number, store=store, backend=backend, on_write_error="stop").invoke(7)


@pytest.mark.parametrize("options", [{}, {"if_exists": "resume"}, {"durability": "exit"}], ids=str)
def test_a_session_of_a_missing_database_is_refused(backend, options):
    store = PostgresStore(f"host={server().folder} user=tests dbname=absent")
    flow = rt.Flow("F", number, store=store, backend=backend, run_identifier="run", **options)
    with pytest.raises(StoreError, match=r'database "absent" does not exist; make it with `createdb absent`'):
        flow.invoke(7)


@pytest.mark.parametrize(
    ("tries", "what"),
    [
        (lambda flow, store: flow.resume("run"), "read the run 'run'"),
        (
            lambda flow, store: rt.Flow("F", number, store=store, run_identifier="r", if_exists="resume").invoke(7),
            "read the run 'r'",
        ),
        (lambda flow, store: rt.recover([flow]), "list the runs"),
        (lambda flow, store: rt.state.load_run("run", store), "read the run 'run'"),
        (lambda flow, store: rt.state.list_runs(store), "list the runs"),
    ],
    ids=["resume", "if_exists", "recover", "load", "list"],
)
def test_without_a_server_nothing_can_be_resumed(backend, tmp_path, tries, what):
    store = PostgresStore(f"host={tmp_path} dbname=runs user=me password=hidden-5")
    flow = rt.Flow("F", number, store=store, backend=backend, run_identifier="run", logging_setting="NONE")
    with pytest.raises(StoreError, match=rf"postgresql://me@\S+/runs \(schema railtracks\): cannot {what}: ") as caught:
        tries(flow, store)
    assert caught.value.temporary is True
    assert "hidden-5" not in str(caught.value)


# ---- group commit


def test_sessions_at_once_are_committed_together(backend, monkeypatch):
    store, groups, original = store_of(Path.cwd()), [], _committer.Committer._write

    def write(self, group):
        pause = threading.Event()
        while not groups and self._queue.qsize() + len(group.appenders) < 30:
            pause.wait(0.001)  # the first commit takes until all sessions have something to commit
        groups.append(sum(map(bool, group.rows)))
        return original(self, group)

    monkeypatch.setattr(_committer.Committer, "_write", write)
    monkeypatch.setattr(fsync_thread, "schedule", lambda work: None)  # so each session is queued once

    @rt.function_node
    async def ten():
        for each in range(10):
            await rt.call(number, each)

    async def session():
        async with rt.Session(store=store, durability="sync", logging_setting="NONE") as session:
            await rt.call(ten)
        sessions.append(session)

    async def run():
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(session)

    sessions = []
    anyio.run(run, backend=backend)
    assert max(groups[1:]) + groups[0] >= 30
    for each in sessions:
        assert rt.state.load_run(each.identifier, store) == each.info


def test_what_nothing_waits_for_is_committed_together_too(backend, monkeypatch):
    store, groups, committed, original = store_of(Path.cwd()), [], [], _committer.Committer._write

    def write(self, group):
        pause = threading.Event()
        while not groups and self._queue.qsize() + len(group.appenders) < 20:
            pause.wait(0.001)
        groups.append(sum(map(bool, group.rows)))
        outcomes = original(self, group)
        committed.append(groups[-1])
        return outcomes

    monkeypatch.setattr(_committer.Committer, "_write", write)

    async def run():
        async with AsyncExitStack() as stack:
            for each in range(20):
                session = rt.Session(run_identifier=f"run-{each}", store=store, logging_setting="NONE")
                await stack.enter_async_context(session)
                await rt.call(number, each)
            while sum(committed) < 20:
                await anyio.sleep(0.001)
            return await anyio.to_thread.run_sync(rt.state.list_runs, store)

    runs = anyio.run(run, backend=backend)
    assert sum(groups[:2]) == 20
    assert [run.state for run in runs] == ["running"] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_writes_nothing(backend):
    store = store_of(Path.cwd())
    program = textwrap.dedent(
        """
        import os, sys
        import railtracks as rt

        with rt.Session(run_identifier="run", store=sys.argv[1], backend=sys.argv[2], logging_setting="NONE"):
            rt.call_sync(abs, -1)
            if not (child := os.fork()):
                with rt.Session(run_identifier="child", store=sys.argv[1], logging_setting="NONE"):
                    rt.call_sync(abs, -2)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            rt.call_sync(abs, -3)
        """
    )
    command = [sys.executable, "-c", program, url_of(Path.cwd()), backend]
    subprocess.run(command, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=True, timeout=60)
    assert [record.result for record in rt.state.load_run("run", store).records] == [1, 3]
    assert [record.result for record in rt.state.load_run("child", store).records] == [2]
