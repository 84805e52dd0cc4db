"""Which limits and caches hold across workers: for the calls that are made there."""

from __future__ import annotations

import os
import pickle
import re
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.execution._remote import _stores
from railtracks.execution._remote._stores import SentStore, UnreachableStoreError, find_store
from railtracks.state import FileStore, MemoryStore, SQLiteStore
from tests.places.helpers import at
from tests.places.test_places import run, session
from tests.postgres import IN_POSTGRES

pytestmark = pytest.mark.either_backend  # what workers do is the same on either; trio runs with the slow tests

ONE = rt.Limit("one at a time", concurrency=1)
STEP = 0.01


@rt.function_node(limit=ONE)
async def alone(folder: str) -> int:
    """Return how many calls run now."""
    mark = Path(folder, f"{time.monotonic_ns()}-{os.getpid()}")
    mark.touch()
    seen = []
    for _ in range(3):
        seen.append(len(list(Path(folder).iterdir())))
        await anyio.sleep(STEP)
    mark.unlink()
    return max(seen)


@rt.function_node
async def call_alone(folder: str) -> int:
    return max(await rt.call_batch(alone, [folder] * 3, return_exceptions=False))


@rt.function_node(cache=rt.Cache(scope="store"))
def stored(x: int) -> int:
    Path(rt.context.get("folder"), f"stored-{time.monotonic_ns()}").touch()
    return x


@rt.function_node
def call_stored(x: int) -> int:
    return rt.call_sync(stored, x) + rt.call_sync(stored, x)


@rt.function_node(cache=True)
def kept(x: int) -> int:
    Path(rt.context.get("folder"), f"kept-{time.monotonic_ns()}").touch()
    return x


@rt.function_node
def call_kept(x: int) -> int:
    return rt.call_sync(kept, x) + rt.call_sync(kept, x)


@rt.function_node
def leaf() -> None:
    return None


@rt.function_node
async def call_leaves(count: int) -> int:
    """Return how many of some calls may be made."""
    return sum([await may_call() for _ in range(count)])


async def may_call() -> bool:
    try:
        await rt.call(leaf)
    except rt.exceptions.LimitExceededError:
        return False
    return True


def warnings_in(caplog):
    texts = [each.getMessage() for each in caplog.records]
    return [text for text in texts if "counts the calls that are made in a worker" in text]


async def greatest(folder, where):
    """Return the greatest number of limited calls at once, of those in workers and those of the session."""
    found = []

    async def note(node):
        found.append(await rt.call(node, str(folder)))

    async with anyio.create_task_group() as group:
        for node in (at(call_alone, where), at(call_alone, where), call_alone):
            group.start_soon(note, node)
    return max(found)


def sqlite_store():
    return SQLiteStore("runs.db")


@pytest.mark.parametrize("make_store", [sqlite_store, IN_POSTGRES])
@pytest.mark.parametrize("where", ["thread", "pool", "process"])
def test_a_limit_in_a_store_holds_in_workers(where, make_store, backend, tmp_path, caplog):
    folder = tmp_path / "marks"
    folder.mkdir()

    async def main():
        async with session(store=make_store()):
            assert await greatest(folder, where) == 1

    run(backend, main)
    assert not warnings_in(caplog)


def test_a_rate_in_a_store_holds_in_workers(backend):
    @rt.function_node(limit=rt.Limit(f"rare on {backend}", rate="1/h", wait=False))
    def rare():
        return 1

    @rt.function_node(where="process")
    def call_rare():
        return rt.call_sync(rare)

    async def main():
        async with session(store=SQLiteStore("runs.db")):
            await rt.call(rare)
            with pytest.raises(rt.exceptions.LimitExceededError, match="rare"):
                await rt.call(call_rare)

    run(backend, main)


class UnpicklableStore(FileStore):
    def __reduce__(self):
        raise TypeError("it is used here")


SLOW = [pytest.param(store, marks=pytest.mark.slow) for store in ("unpicklable", "unsaved")]


@pytest.mark.parametrize("store", [None, "memory", *SLOW])
def test_a_limit_without_a_store_for_it_warns_once(store, backend, tmp_path, caplog):
    folder = tmp_path / "marks"
    folder.mkdir()
    options: Any = {
        None: {},
        "memory": {"store": MemoryStore()},
        "unpicklable": {"store": UnpicklableStore(tmp_path)},
        "unsaved": {"save_state": False},
    }[store]

    async def main():
        async with session(logging_setting="REGULAR", **options):
            for _ in range(2):
                await rt.call(at(call_alone, "process"), str(folder))

    run(backend, main)
    why = {
        None: "keeps no limits",
        "memory": "MemoryStore.* is of use in its own process",
        "unpicklable": "UnpicklableStore.* cannot be sent to or from a worker: TypeError: it is used here",
        "unsaved": "saves nothing",
    }
    (text,) = warnings_in(caplog)
    assert text.startswith("rt.Limit('one at a time', concurrency=1) counts the calls that are made in a worker")
    assert re.search(why[store], text)


@pytest.mark.parametrize("where", ["thread", "pool"])
def test_a_limit_holds_in_threads_without_a_store(where, backend, tmp_path, caplog):
    folder = tmp_path / "marks"
    folder.mkdir()

    async def main():
        async with session(save_state=False):
            assert await greatest(folder, where) == 1

    run(backend, main)
    assert not warnings_in(caplog)


@pytest.mark.parametrize("where", ["pool", "process"])
@pytest.mark.parametrize("make_store", [FileStore, sqlite_store, IN_POSTGRES])
def test_results_in_a_store_are_found_in_workers(where, make_store, backend, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()

    async def main():
        async with session(context={"folder": str(marks)}, store=make_store()):
            assert await rt.call(at(call_stored, where), 2) == 4
            assert await rt.call(at(call_stored, where), 2) == 4
            assert await rt.call(stored, 2) == 2

    run(backend, main)
    assert len([*marks.iterdir()]) == 1


@pytest.mark.parametrize("where", ["pool", "process"])
def test_a_session_cache_holds_for_one_call_in_a_worker(where, backend, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()

    async def main():
        async with session(context={"folder": str(marks)}):
            for _ in range(2):
                assert await rt.call(at(call_kept, where), 2) == 4

    run(backend, main)
    assert len([*marks.iterdir()]) == 2


@pytest.mark.parametrize("where", ["thread", "pool", "process"])
def test_max_calls_counts_calls_of_workers_that_ended(where, backend):
    async def main():
        async with session(max_calls=6):
            assert await rt.call(at(call_leaves, where), 3) == 3
            assert await rt.call(at(call_leaves, where), 3) == 1

    run(backend, main)


@pytest.mark.parametrize("make_store", [FileStore, sqlite_store, IN_POSTGRES])
def test_a_pickled_store_finds_the_same_runs(make_store):
    store = make_store()
    with rt.Session(run_identifier="mine", store=store):
        rt.call_sync(leaf)
    copy = pickle.loads(pickle.dumps(store))
    assert type(copy) is type(store)
    assert copy.read("mine") == store.read("mine")


def test_a_store_of_another_machine_is_not_used(monkeypatch):
    sent = SentStore(sqlite_store())
    monkeypatch.setattr(_stores, "host", lambda: "elsewhere")
    with pytest.raises(UnreachableStoreError, match=r"is on the machine .*, and this is elsewhere"):
        find_store(sent.reference, ("another interpreter", 1))
