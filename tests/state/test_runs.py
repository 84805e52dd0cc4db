"""The runs of a store: listed, loaded, pruned, and warned of when they are very many."""

import contextlib
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, RunInUseError, StateError
from railtracks.state import (
    ExecutionInfo,
    FileStore,
    MemoryStore,
    Reason,
    SQLiteStore,
    Status,
    list_runs,
    load_run,
    prune,
)
from railtracks.state._document._writer import encoded
from railtracks.state._journal._format import encode_entries, header_entry
from railtracks.state._stores import _run_counts
from tests.postgres import IN_POSTGRES, POSTGRES, url_of
from tests.state.journals import Stop, broken, endless, leaf
from tests.state.stores import ROOT

# ---- lists and pruning


@pytest.fixture
def runs(tmp_path):
    """Runs r0 to r4 that ended 500, 400, ... seconds ago, one that died 1000 seconds ago, one that runs."""
    store = FileStore()
    now = time.time()
    for number in range(5):
        store.save(f"r{number}", [b'{"version": 3}'])
        os.utime(f".railtracks/r{number}.json", (now, now - 500 + 100 * number))
    for name in ("died", "runs"):
        store.open(name, encode_entries([header_entry(ExecutionInfo(name).facts, "")])[0]).close()
        os.utime(f".railtracks/{name}.journal", (now, now - 1000))
    lock = store.lock("runs")
    yield store
    lock.release()


def names():
    return {run.identifier for run in list_runs()}


ALL = {"r0", "r1", "r2", "r3", "r4", "died", "runs"}


def test_there_are_no_runs_where_there_is_no_folder(tmp_path):
    assert list_runs() == []
    assert list_runs(MemoryStore()) == []
    assert prune(keep=0) == []
    assert [*tmp_path.iterdir()] == []


def test_runs_are_listed_the_oldest_first_with_their_states(runs):
    listed = list_runs()
    assert {run.identifier for run in listed[:2]} == {"died", "runs"}
    assert [run.identifier for run in listed[2:]] == ["r0", "r1", "r2", "r3", "r4"]
    states = {run.identifier: run.state for run in listed}
    assert states == {"died": "died", "runs": "running", **{f"r{number}": "ended" for number in range(5)}}


async def test_a_run_that_ended_is_listed_with_what_came_of_it():
    for name, node in (("good", leaf), ("bad", broken)):
        async with rt.Session(run_identifier=name, flow_name="flow") as session:
            with pytest.raises(ValueError) if node is broken else anyio.CancelScope():
                await rt.call(node, *(() if node is broken else (1,)))
    bad = {run.identifier: run for run in list_runs()}["bad"]
    assert (bad.state, bad.status, bad.calls, bad.flow_name) == ("ended", Status.FAILED, 1, "flow")
    assert (bad.start_time, bad.end_time) == (session.info.start_time, session.info.end_time)
    assert {run.identifier: run.status for run in list_runs()} == {"good": Status.COMPLETED, "bad": Status.FAILED}


def test_pruning_by_age_removes_what_was_not_written_to_since(runs):
    assert prune(older_than=350) == ["r0", "r1"]
    assert names() == ALL - {"r0", "r1"}
    assert prune(older_than=timedelta(hours=1)) == []


def test_pruning_by_number_keeps_the_latest(runs):
    assert prune(keep=2) == ["r0", "r1", "r2"]
    assert names() == {"died", "r3", "r4", "runs"}


def test_pruning_by_both_limits_removes_what_exceeds_both(runs):
    """A run is removed if it is old and not among the latest."""
    assert prune(older_than=150, keep=4) == ["r0"]
    assert prune(older_than=350, keep=1) == ["r1"]
    assert names() == {"died", "r2", "r3", "r4", "runs"}


def test_run_that_died_stays_and_a_warning_names_it(runs, caplog):
    assert prune(older_than=900) == []
    text = (
        "prune: 1 run that would have been removed is to go on, and is kept: died; go on with it by flow.resume, or "
        "use prune(..., pending=True)"
    )
    assert [record.getMessage() for record in caplog.records] == [text]
    assert prune(older_than=900, pending=True) == ["died"]
    assert len(caplog.records) == 1


def test_run_that_died_before_it_had_begun_is_removed():
    FileStore().open("torn", b"")
    assert prune(keep=0) == ["torn"]


@pytest.mark.parametrize(
    "make",
    [FileStore, MemoryStore, lambda: SQLiteStore("runs.db"), IN_POSTGRES],
    ids=["file", "memory", "sqlite", "postgres"],
)
async def test_suspended_and_interrupted_runs_stay(make, caplog):
    @rt.function_node
    async def main(kind):
        if kind == "failed":
            raise ValueError(kind)
        if kind.startswith("suspended"):
            await rt.receive("answer")

    store = make()
    for kind in ("completed", "failed", *(f"suspended-{number}" for number in range(7))):
        flow = rt.Flow("Flow", main, run_identifier=kind, store=store)
        with contextlib.suppress(ValueError, rt.RunSuspended):
            await flow.ainvoke(kind)
    info = attrs.evolve(load_run("completed", store), session_id="interrupted", interrupted=True)
    store.save("interrupted", encoded(info.document()))
    caplog.clear()
    assert prune(keep=0, store=store) == ["completed", "failed"]
    text = (
        "prune: 8 runs that would have been removed are to go on, and are kept: suspended-0, suspended-1, suspended-2, "
        "suspended-3, suspended-4 and 3 more; go on with them by flow.resume, or use prune(..., pending=True)"
    )
    assert [record.getMessage() for record in caplog.records] == [text]
    assert len(prune(keep=0, store=store, pending=True)) == 8


@pytest.mark.parametrize("keep", [7, 8, 10**9])
def test_pruning_keeps_all_if_there_are_not_more(runs, keep):
    assert prune(keep=keep) == prune(keep=keep, older_than=0) == []
    assert names() == ALL


@pytest.mark.parametrize("limit", [{"keep": 0}, {"older_than": 0}, {"older_than": timedelta(0), "keep": 0}])
def test_pruning_all_leaves_those_that_run(runs, limit):
    assert set(prune(**limit, pending=True)) == ALL - {"runs"}
    assert names() == {"runs"}
    assert sorted(path.name for path in Path(".railtracks").iterdir()) == ["runs.journal", "runs.lock"]


def test_pruning_without_a_limit_is_refused(runs):
    with pytest.raises(ConfigError, match="would remove all runs; use older_than=, keep=, or both"):
        prune()
    assert names() == ALL


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ({"keep": -1}, "prune: -1 is not allowed for keep; use a whole number of at least 0"),
        ({"keep": 1.5}, "1.5 is not allowed for keep"),
        ({"keep": True}, "True is not allowed for keep"),
        ({"keep": "3"}, "'3' is not allowed for keep"),
        ({"older_than": -0.5}, "prune: -0.5 is not allowed for older_than; use a number of seconds, or a timedelta"),
        ({"older_than": timedelta(-1)}, "is not allowed for older_than"),
        ({"older_than": float("nan")}, "nan is not allowed for older_than"),
        ({"older_than": "1 day"}, "'1 day' is not allowed for older_than"),
        ({"older_than": 0, "keep": -1}, "-1 is not allowed for keep"),
    ],
)
def test_pruning_with_a_wrong_value_is_refused(runs, limit, problem):
    """Nothing is removed."""
    with pytest.raises(ConfigError) as caught:
        prune(**limit)
    assert problem in str(caught.value)
    assert names() == ALL


def test_pruning_with_an_infinite_age_removes_nothing(runs):
    assert prune(older_than=float("inf")) == []


def test_a_run_that_is_resumed_while_others_are_pruned_stays(runs, monkeypatch):
    """Between the look at the list and the removal, r0 is written to."""
    original = FileStore.list

    def list_and_write(self):
        found = original(self)
        monkeypatch.setattr(FileStore, "list", original)
        self.save("r0", [b'{"new": 1}'])
        return found

    monkeypatch.setattr(FileStore, "list", list_and_write)
    assert prune(older_than=350) == ["r1"]
    assert FileStore().read("r0").document == b'{"new": 1}'


async def test_very_many_runs_are_warned_of_once_in_a_process(three_are_many, caplog):
    """The warning comes once for all folders, and for sessions that save at the same time."""

    async def save(folder, number):
        async with rt.Session(run_identifier=f"r{number}", store=FileStore(folder)):
            pass

    for folder in ("one", "other"):
        for number in range(3):
            FileStore(folder).save(f"old{number}", [b"{}"])
    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(save, "one", number)
            group.start_soon(save, "other", number)
    assert ["prune" in r.getMessage() for r in caplog.records] == [True]


async def test_a_folder_is_listed_again_only_when_it_may_hold_many(three_are_many, monkeypatch):
    listed = []

    def count(store, original=FileStore.count):
        listed.append(original(store))
        return listed[-1]

    monkeypatch.setattr(FileStore, "count", count)
    for number in range(2):
        async with rt.Session(run_identifier=f"r{number}"):
            pass
    assert listed == [0]


@pytest.mark.parametrize(("age", "stays"), [(0, True), (100, False)])
async def test_first_session_removes_old_half_written_files(age, stays):
    """A killed process leaves them. A young one may belong to a program that is writing it now."""
    store = FileStore()
    store.folder.mkdir()
    left = store.folder / ".dead.json.0123abcd.tmp"
    left.touch()
    os.utime(left, (time.time() - age,) * 2)
    async with rt.Session(run_identifier="run"):
        pass
    assert left.exists() is stays


@pytest.mark.parametrize(
    "make", [MemoryStore, lambda: SQLiteStore("runs.db"), IN_POSTGRES], ids=["memory", "sqlite", "postgres"]
)
def test_other_stores_are_pruned_too(make):
    store = make()
    for name in ("a", "b", "c"):
        store.save(name, [b'{"version": 3}'])
    lock = store.lock("a")
    assert prune(keep=1, store=store) == ["b"]
    lock.release()
    assert [run.identifier for run in list_runs(store)] == ["a", "c"]


# ---- loading one run


def test_an_unknown_run_is_an_error_that_names_the_latest_runs(runs):
    with pytest.raises(StateError, match=r"no run 'r9' at .*r9\.json; the latest are r2, r3, r4"):
        load_run("r9")
    with pytest.raises(StateError, match=r"no run 'r9' at memory, as r9; there are none$"):
        load_run("r9", MemoryStore())


def test_unknown_run_of_the_default_folder_may_be_elsewhere():
    with pytest.raises(StateError, match=r"there are none\. If it is in another store, pass that as store="):
        load_run("r9")


@pytest.mark.parametrize("folder", [".railtracks", ".railtracks/below"])
@pytest.mark.parametrize(
    "use",
    [
        lambda store: load_run("run", store),
        lambda store: list_runs(store),
        lambda store: prune(keep=0, store=store),
        lambda store: rt.state.run_exists("run", store),
        lambda store: rt.state.send("run", "t", 1, store),
        lambda store: rt.state.cancel_run("run", store),
        lambda store: rt.Flow("F", len, run_identifier="run", if_exists="resume", store=store).invoke("abc"),
        lambda store: rt.recover([rt.Flow("F", len, store=store)]),
    ],
    ids=["load_run", "list_runs", "prune", "run_exists", "send", "cancel_run", "resume", "recover"],
)
def test_file_in_place_of_the_folder_is_named(use, folder):
    Path(".railtracks").write_bytes(b"")
    with pytest.raises(StateError, match=f"the store '.*/{folder}' is not a folder: .* move that file away"):
        use(FileStore(folder))


@pytest.mark.parametrize("identifier", ["../r0", "a/b", "", ".", 7, None])
def test_an_identifier_that_names_no_run_is_refused(identifier):
    with pytest.raises(ConfigError, match="is not allowed as the identifier of a run"):
        load_run(identifier)


@pytest.mark.parametrize("setting", ["file:runs", "sqlite:runs.db", POSTGRES])
async def test_a_store_can_be_given_as_text(setting):
    setting = url_of(Path.cwd()) if setting == "postgres" else setting
    async with rt.Session(run_identifier="mine", store=setting, durability="sync") as session:
        await rt.call(leaf, 1)
        assert [run.state for run in list_runs(setting)] == ["running"]
    assert load_run("mine", setting) == session.info
    assert [run.state for run in list_runs(setting)] == ["ended"]
    assert prune(keep=0, store=setting) == ["mine"]


async def test_inside_a_session_its_own_run_is_loaded_as_running():
    with pytest.raises(Stop):
        async with rt.Session(run_identifier="mine") as session:
            session.start_soon(endless)
            await anyio.sleep(1)
            info = load_run("mine")
            assert [(r.name, r.status, r.reason) for r in info.records] == [("endless", Status.OPEN, None)]
            assert info.answer is None
            assert [(run.state, run.status) for run in list_runs()] == [("running", None)]
            with pytest.raises(RunInUseError):
                FileStore().lock("mine")
            raise Stop
    assert load_run("mine") == session.info
    assert session.info.records[0].reason is Reason.SESSION_ENDED


DYING = """
import os, signal, sys
import anyio
import railtracks as rt

@rt.function_node
async def done(): return 1

@rt.function_node
async def dying():
    await rt.call(done)
    print("now", flush=True)
    sys.stdin.readline()

async def main():
    async with rt.Session(run_identifier="mine", durability=sys.argv[1], logging_setting="NONE"):
        await rt.call(dying)

anyio.run(main)
"""


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_the_run_of_a_killed_process_can_be_loaded(durability):
    """Its state is that it died."""
    command = [sys.executable, "-c", DYING, durability]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdout.readline() == "now\n"
        assert [run.state for run in list_runs()] == ["running"]
        assert [r.reason for r in load_run("mine").records] == [None, None]
        process.kill()
    assert [run.state for run in list_runs()] == ["died"]
    assert [(r.name, r.status, r.reason) for r in load_run("mine").records] == [
        ("dying", Status.OPEN, Reason.PROCESS_DIED),
        ("done", Status.COMPLETED, None),
    ]


# ---- very many runs


@pytest.fixture
def three_are_many(monkeypatch):
    monkeypatch.setattr(_run_counts, "MANY_RUNS", 3)
    monkeypatch.setattr(_run_counts, "_run_counts", _run_counts._RunCounts())


async def test_a_folder_with_very_many_runs_is_warned_of_once(three_are_many, caplog):
    for number in range(6):
        async with rt.Session(run_identifier=f"r{number}"):
            pass
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "there are 3 runs in" in record.getMessage()
    assert "rt.state.prune(keep=...)" in record.getMessage()
    assert f"in {Path.cwd() / '.railtracks'}" in record.getMessage()


async def test_a_folder_with_fewer_runs_is_not_warned_of(three_are_many, caplog):
    for _ in range(5):
        async with rt.Session(run_identifier="the-same"):
            pass
    async with rt.Session(run_identifier="other"):
        pass
    assert [r.getMessage() for r in caplog.records if "prune" in r.getMessage()] == []


@pytest.mark.parametrize(
    "make", [MemoryStore, lambda: SQLiteStore("runs.db"), IN_POSTGRES], ids=["memory", "sqlite", "postgres"]
)
async def test_other_stores_are_not_warned_of(make, three_are_many, caplog):
    store = make()
    for number in range(6):
        async with rt.Session(run_identifier=f"r{number}", store=store):
            pass
    assert caplog.records == []
