"""Runs in every kind of store and with every durability can be resumed, listed and pruned."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.state import FileStore, MemoryStore, Reason, SQLiteStore, Status, Store
from railtracks.state._stores._protocols import STORE_METHODS
from tests.durability.disk import until
from tests.durability.world import FOLDER, failing, flow_of, resumed, reused
from tests.postgres import POSTGRES, store_of


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
@pytest.mark.parametrize("kind", ["file", "memory", "sqlite", POSTGRES])
async def test_every_store_and_durability_can_be_resumed(world, kind, durability):
    kinds = {"file": lambda: None, "memory": MemoryStore, "sqlite": lambda: SQLiteStore("runs.db")}
    store = store_of(Path.cwd()) if kind == "postgres" else kinds[kind]()
    flow = flow_of(world.steps, store=store, durability=durability)
    world.broken.add("b")
    with pytest.raises(ValueError):
        await flow.ainvoke("a", "b", "c")
    world.broken.clear()
    world.broken.add("c")
    with pytest.raises(ValueError):
        await flow.aresume("run")
    world.broken.clear()
    connection = flow.connect()
    assert await connection.aresume("run") == ["a!", "b!", "c!"]
    assert world.ran() == ["a", "b", "b", "c", "c"]
    assert rt.state.load_run("run", store) == connection.session.info
    forked = flow.connect()
    assert await forked.afork("run", before=3) == ["a!", "b!", "c!"]
    assert world.ran() == ["b", "c"]
    assert rt.state.load_run(forked.session_id, store) == forked.session.info


@pytest.mark.parametrize("kind", ["memory", "sqlite", POSTGRES])
async def test_a_run_that_died_is_resumed_from_every_store(world, kind):
    kinds = {"memory": MemoryStore, "sqlite": lambda: SQLiteStore("runs.db"), "postgres": lambda: store_of(Path.cwd())}
    store = kinds[kind]()

    async def main():
        await rt.call(world.steps, "a", "b")
        if "die" in world.broken:
            stored = store.read("run")
            appender = store.open("dead", stored.journal)
            appender.sync()
            appender.close()
            world.broken.remove("die")
        return await rt.call(world.step, "c")

    world.broken.add("die")
    flow = flow_of(main, store=store, durability="sync")  # what was appended is in the store at once
    await flow.ainvoke()
    world.ran()
    assert await flow.aresume("dead") == "c!"
    assert world.ran() == ["c"]


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("kind", ["file", "sqlite", POSTGRES])
async def test_a_call_that_runs_is_soon_on_record(durability, kind):
    """A run whose process dies in its first call is in the store, so that it can be recovered."""
    kinds: dict[str, Any] = {
        "file": FileStore,
        "sqlite": lambda: SQLiteStore("runs.db"),
        "postgres": lambda: store_of(Path.cwd()),
    }
    store = kinds[kind]()

    async def long():
        await until(lambda: store.read("run") is not None)
        return rt.ExecutionInfo.from_journal(store.read("run").journal, running=False)

    async with rt.Session(run_identifier="run", durability=durability, store=store):
        [record] = (await rt.call(long)).records
    assert (record.status, record.reason) == (Status.OPEN, Reason.PROCESS_DIED)


@pytest.mark.parametrize("durability", ["exit", "async"])
async def test_result_changed_later_is_on_record_as_it_was(world, durability):
    """A result that the caller changed later is on record as it was."""

    async def fetch():
        return ["fetched"]

    async def main():
        items = await rt.call(fetch)
        items.append("mine")
        await rt.call(world.step, "x")
        return items

    world.broken.add("x")
    flow = flow_of(main, durability=durability)
    await failing(flow)
    world.broken.clear()
    assert (await resumed(flow))[0] == ["fetched", "mine"]


@pytest.mark.parametrize("durability", ["exit", "async"])
async def test_arguments_that_changed_later_are_on_record_as_they_were(world, durability):
    async def count(items):
        return len(items)

    async def main():
        items, counts = [], []
        for i in range(3):
            items.append(i)
            counts.append(await rt.call(count, items))
        await rt.call(world.step, "x")
        return counts

    world.broken.add("x")
    flow = flow_of(main, durability=durability)
    await failing(flow)
    world.broken.clear()
    assert (await resumed(flow))[0] == [1, 2, 3]


async def test_without_saving_a_run_is_resumed_and_stays_as_it_was(world):
    world.broken.add("b")
    await failing(flow_of(world.steps), "a", "b")
    world.broken.clear()
    before = (FOLDER / "run.json").read_bytes()
    world.ran()
    connection = flow_of(world.steps, save_state=False).connect()
    assert await connection.aresume("run") == ["a!", "b!"]
    assert world.ran() == ["b"]
    assert reused(connection.session.info) == ["step"]
    assert (FOLDER / "run.json").read_bytes() == before
    assert not (FOLDER / "run.journal").exists()


def test_configured_store_is_listed_and_pruned(world):
    rt.set_config(store="sqlite:runs.db")
    with rt.Session(run_identifier="run"):
        rt.call_sync(world.step, 1)
    assert [run.identifier for run in rt.state.list_runs()] == ["run"]
    assert rt.state.load_run("run").answer == "1!"
    assert rt.state.prune(keep=0) == ["run"]


@pytest.mark.parametrize("store", ["bogus", "bogus:runs", 5, MemoryStore])
@pytest.mark.parametrize("function", [rt.state.list_runs, functools.partial(rt.state.load_run, "run")])
def test_what_is_not_a_store_is_refused_with_what_to_use(function, store):
    with pytest.raises(ConfigError, match="is not allowed for store; expected 'file:FOLDER'"):
        function(store=store)


class Plain:
    """A store with all methods and nothing else."""

    def __init__(self, without=None):
        self.inner = MemoryStore()
        self.threads = {}
        for name in STORE_METHODS:
            if name != without:
                setattr(self, name, functools.partial(self.use, name))

    def use(self, name, *args, **kwargs):
        self.threads[name] = threading.current_thread()
        return getattr(self.inner, name)(*args, **kwargs)


@pytest.mark.parametrize("method", STORE_METHODS)
def test_a_store_that_lacks_a_method_is_refused(method):
    with pytest.raises(ConfigError, match="is not allowed for store"):
        rt.state.list_runs(Plain(without=method))  # type: ignore[arg-type]


@pytest.mark.parametrize("blocks", [None, True, False])
async def test_a_store_that_may_block_is_used_in_worker_threads(world, blocks):
    store = Plain()
    assert isinstance(store, Store)
    if blocks is not None:
        store.blocks = blocks  # type: ignore[attr-defined]
    async with rt.Session(run_identifier="run", store=store):
        assert await rt.call(world.step, "a") == "a!"
    assert [run.state for run in rt.state.list_runs(store)] == ["ended"]
    assert (store.threads["save"] is threading.current_thread()) is (blocks is False)
    assert store.threads["open"] is threading.current_thread()
