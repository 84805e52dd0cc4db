"""Runs in places where few look: forks, errors while recording, stores that fail, what is left behind."""

import contextlib
import functools
import os
import threading

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, RunInUseError
from railtracks.state import FileStore, MemoryStore, Status
from railtracks.state._journal import _FRAME


@rt.function_node
async def step(x):
    return x


def journal_of(identifier):
    return FileStore().read(identifier).journal


async def test_forked_child_does_not_write_into_the_run_of_its_parent():
    async with rt.Session(run_identifier="run"):
        await rt.call(step, 1)
        before = journal_of("run")
        if (child := os.fork()) == 0:
            rt.context.put("who", "child")  # outside a call, and yet of a session that is the parent's
            os._exit(0)
        os.waitpid(child, 0)
        assert journal_of("run") == before
        await rt.call(step, 2)
    assert rt.state.load_run("run").answer == [1, 2]


class Calls:
    """Its repr makes a call, as far as one that never waits can be made there."""

    def __repr__(self):
        with contextlib.suppress(StopIteration):
            rt.call(step, "inner").send(None)
        return "<it calls>"


async def test_call_made_while_another_is_recorded_comes_after_it():
    async with rt.Session(run_identifier="run") as session:
        await rt.call(step, Calls())
        await rt.call(step, 3)
        (FileStore().folder / "copy.journal").write_bytes(journal_of("run"))
    info = rt.state.load_run("copy")
    assert info.damage is None
    assert [r.index for r in info.records] == [r.index for r in session.info.records]
    assert info.records[-1].result == 3


async def test_call_that_cannot_be_recorded_fails_alone(monkeypatch):
    """A call whose recording fails fails, and the others are recorded."""
    from railtracks.execution import _recorder

    original = _recorder.inputs_text

    def inputs_text(args, *rest):
        if args == ("too deep",):
            raise RecursionError("too deep")
        return original(args, *rest)

    monkeypatch.setattr(_recorder, "inputs_text", inputs_text)
    async with rt.Session(run_identifier="run") as session:
        with pytest.raises(RecursionError):
            await rt.call(step, "too deep")
        await rt.call(step, 2)
        info = rt.ExecutionInfo.from_journal(journal_of("run"), running=True)
    assert [r.status for r in info.records] == [Status.FAILED, Status.COMPLETED]
    assert info.damage is None
    assert session.info.records[0].status is Status.FAILED


async def test_interruption_of_a_write_may_change_the_context(monkeypatch):
    """What interrupts the writing of a record, such as a signal handler, may change the context."""
    original, interrupts = os.write, []  # as a signal handler does, or a finaliser

    def write(*args):
        if len(interrupts) < 3:
            interrupts.append(1)
            rt.context.put("interrupts", len(interrupts))
        return original(*args)

    @rt.function_node
    async def many():
        monkeypatch.setattr(os, "write", write)
        for i in range(5):
            await rt.call(step, i)

    async with rt.Session(run_identifier="run"):
        await rt.call(many)
        info = rt.ExecutionInfo.from_journal(journal_of("run"), running=True)
    assert info.damage is None
    assert [r.status for r in info.records] == [Status.COMPLETED] * 6
    assert len(interrupts) == sum(len(r.changes or ()) for r in info.records) == 3


class Faulty(MemoryStore):
    """A store of a user's with a bug in one method."""

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
            lock.release = self.fail
        return lock


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize(
    "method", ["lock", "open", "move_journal", "exists", "save", "append", "sync", "close", "release"]
)
async def test_bug_in_a_store_does_not_harm_the_flow(method, durability, caplog):
    store = Faulty(method)
    async with rt.Session(run_identifier="run", store=store, durability=durability):
        assert await rt.call(step, 1) == 1
    assert len([r for r in caplog.records if r.levelname == "ERROR"]) <= 1
    assert "railtracks-sync" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("bit", range(0, 8 * (_FRAME.size + 4), 3))
def test_damaged_journal_of_a_dead_run_is_kept(bit):
    """A run that died is kept, whichever bit at the beginning of its journal is damaged."""
    store = FileStore()

    async def main():
        async with rt.Session(run_identifier="run"):
            await rt.call(step, 1)
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


@pytest.mark.parametrize("method", ["exists", "count"])
async def test_folder_that_cannot_be_read_is_still_written_to(method, monkeypatch, caplog):
    def fail(*_args):
        raise PermissionError("not yours to read")

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, method, fail)
        async with rt.Session(run_identifier="run"):
            await rt.call(step, 1)
    assert rt.state.load_run("run").answer == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_configured_store_is_listed_and_pruned():
    rt.set_config(store="sqlite:runs.db")
    with rt.Session(run_identifier="run"):
        rt.call_sync(step, 1)
    assert [run.identifier for run in rt.state.list_runs()] == ["run"]
    assert rt.state.load_run("run").answer == 1
    assert rt.state.prune(keep=0) == ["run"]


@pytest.mark.parametrize("store", ["bogus", "bogus:runs", 5, MemoryStore])
@pytest.mark.parametrize("function", [rt.state.list_runs, functools.partial(rt.state.load_run, "run")])
def test_what_is_not_a_store_is_refused_with_what_to_use(function, store):
    with pytest.raises(ConfigError, match="is not allowed for store; give 'file:FOLDER'"):
        function(store=store)


async def test_open_run_can_be_forked_but_not_copied():
    async with rt.Session(run_identifier="run"):
        await rt.call(step, 1)
        with pytest.raises(RunInUseError):
            async with rt.Session(resume="run", run_identifier="copy"):
                pass
        async with rt.Session(resume="run", before=99) as fork:
            assert await rt.call(step, 1) == 1
    assert fork.info.resumed[0].reused


async def test_latest_session_has_the_last_word_about_the_context():
    failing = []

    @rt.function_node
    async def many():
        for i in range(10):
            rt.context.put("k", f"many {i}")

    @rt.function_node
    async def last():
        rt.context.put("k", "last")
        if failing.pop():
            raise OSError

    async def main():
        await rt.call(many)
        await rt.call(last)
        if failing.pop():
            raise OSError

    flow = rt.Flow("Flow", main, run_identifier="run")
    for failing[:] in ([True, True], [True, False]):
        with pytest.raises(OSError):
            await flow.aresume("run") if rt.state.list_runs() else await flow.ainvoke()
    failing[:] = [False]
    connection = flow.connect()
    await connection.aresume("run")
    assert connection.context["k"] == "last"


async def test_traceback_is_written_only_at_the_bottom_and_the_top():
    """The traceback of an error that rises through many calls is written where it was raised and at the top."""

    @rt.function_node
    async def down(n):
        if not n:
            raise ValueError("at the bottom")
        return await rt.call(down, n - 1)

    with pytest.raises(ValueError):
        async with rt.Session(run_identifier="run"):
            await rt.call(down, 5)
    tracebacks = [record.exception.traceback for record in rt.state.load_run("run").records]
    assert [text.startswith("Traceback") for text in tracebacks] == [True, False, False, False, False, True]
    assert all("at the bottom" in str(record.exception) for record in rt.state.load_run("run").records)
