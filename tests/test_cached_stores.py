"""Cached results in stores: who finds them, what fails, and how they are removed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.state._stores._cached_results import CachedContent
from tests.state.stores import KINDS, PERSISTENT_KINDS, STORES

runs: list[Any] = []


@pytest.fixture(autouse=True)
def _no_runs():
    runs.clear()


@rt.function_node(cache=rt.Cache(scope="store"))
async def stored(number: int) -> tuple[int, ...]:
    runs.append(number)
    return (number, number)


def cached_in(info) -> list[str | None]:
    return [None if record.policy is None else record.policy.cached for record in info.records]


def warnings(caplog) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in texts if "cache" in text.lower()]


# ---- in the store


@pytest.mark.parametrize("kind", PERSISTENT_KINDS)
async def test_another_run_finds_a_result_in_the_store(kind):
    store = STORES[kind](Path.cwd())
    for _ in range(2):
        async with rt.Session(store=store) as session:
            assert await rt.call(stored, 2) == (2, 2)
    assert runs == [2]
    assert cached_in(session.info) == ["store"]


async def test_another_process_finds_a_result_in_the_store():
    program = Path("program.py")
    program.write_text(
        "import railtracks as rt\n"
        "@rt.function_node(cache=rt.Cache(scope='store'))\n"
        "def work(number: int) -> int:\n"
        "    print('runs')\n"
        "    return number\n"
        "if __name__ == '__main__':\n"
        "    with rt.Session():\n"
        "        rt.call_sync(work, 1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(rt.__file__).parents[1])}
    outputs = [
        subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert outputs == ["runs\n", ""]


async def test_an_expired_result_in_the_store_is_not_used():
    node = stored.options(cache=rt.Cache(scope="store", ttl=10))
    for wait in (0, 11, 0):
        await anyio.sleep(wait)
        async with rt.Session():
            await rt.call(node, 1)
    assert len(runs) == 2


async def test_damaged_results_in_the_store_are_made_again():
    async with rt.Session():
        await rt.call(stored, 1)
    [path] = Path(".railtracks/cache").iterdir()
    content = path.read_bytes()
    for damaged in (b"", b"x", content[:-5], content[:20], b"1.0 inf\n{}"):
        path.write_bytes(damaged)
        async with rt.Session():
            assert await rt.call(stored, 1) == (1, 1)
    assert len(runs) == 6


async def test_a_store_that_keeps_no_results_is_warned_of(caplog):
    class PlainStore(rt.state.MemoryStore):
        put_cached = None  # type: ignore[assignment]

    async with rt.Session(store=PlainStore()):
        await rt.call(stored, 1)
        await rt.call(stored, 1)
    assert len(runs) == 1
    assert "in the session only" in warnings(caplog)[0]


async def test_a_session_that_saves_nothing_keeps_results_itself(caplog):
    async with rt.Session(save_state=False):
        await rt.call(stored, 1)
        await rt.call(stored, 1)
    assert len(runs) == 1
    assert "save_state=False" in warnings(caplog)[0]


class BrokenStore(rt.state.MemoryStore):
    def read_cached(self, key):
        raise OSError("cannot read")

    def put_cached(self, key, cached):
        raise OSError("cannot write")


async def test_a_store_that_fails_does_not_fail_calls(caplog):
    async with rt.Session(store=BrokenStore()):
        assert await rt.call(stored, 1) == await rt.call(stored, 1) == (1, 1)
    assert len(runs) == 2
    assert len(warnings(caplog)) == 2


# ---- pruning


@pytest.mark.parametrize("name", KINDS)
def test_stores_keep_read_and_prune_results(name):
    store = STORES[name](Path.cwd())
    assert store.read_cached("a") is None
    assert store.prune_cached(100.0) == 0
    kept = CachedContent(b"1\n2", 50.0, float("inf"))
    for key, cached in {"a": kept, "b": CachedContent(b"", 60.0, 90.0), "c": CachedContent(b"x", 10.0, 200.0)}.items():
        store.put_cached(key, CachedContent(b"old", 1.0, 2.0))
        store.put_cached(key, cached)
        assert store.read_cached(key) == cached
    assert store.prune_cached(90.0) == 1
    assert [store.read_cached(key) is None for key in "abc"] == [False, True, False]
    assert store.prune_cached(90.0, 20.0) == 1
    assert store.read_cached("a") == kept
    assert list(store.list()) == []


async def test_prune_removes_results_too():
    async with rt.Session():
        await rt.call(stored, 1)
        await rt.call(stored.options(cache=rt.Cache(scope="store", ttl=0)), 2)
    rt.state.prune(keep=10)
    assert len([*Path(".railtracks/cache").iterdir()]) == 1
    rt.state.prune(older_than=0)
    assert [*Path(".railtracks/cache").iterdir()] == []
