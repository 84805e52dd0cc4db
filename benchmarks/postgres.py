"""Measure runs that are kept in PostgreSQL, if there is a server to start."""

from __future__ import annotations

import importlib.util
import time

import anyio

import railtracks as rt
from benchmarks.calls import loop
from benchmarks.measure import Result, Variant, in_turns, micro, ratio
from tests.postgres_server import Server, programs

RUNS = 100
"""How many run at the same time."""
CALLS = 20
"""The calls that each of them makes, one after another."""
TARGET = 1 / 10


def runs_at_once(store: rt.state.PostgresStore, most_runs: float) -> Variant:
    """Return a variant with sync-mode calls in many runs, of which as many share a commit.

    All runs are begun before the first call, and end after the last one; neither counts.
    """

    async def run(count: int) -> float:
        begun, ended = 0, 0
        all_begun, all_ended = anyio.Event(), anyio.Event()

        async def session() -> None:
            nonlocal begun, ended
            async with rt.Session(store=store, durability="sync", logging_setting="NONE", timeout=3600):
                begun += 1
                if begun == RUNS:
                    all_begun.set()
                await all_begun.wait()
                await rt.call(loop, count // RUNS)
                ended += 1
                if ended == RUNS:
                    all_ended.set()
                await all_ended.wait()

        store._committer.most_runs = most_runs
        async with anyio.create_task_group() as group:
            for _ in range(RUNS):
                group.start_soon(session)
            await all_begun.wait()
            start = time.perf_counter()
            await all_ended.wait()
            end = time.perf_counter()
        return end - start

    return run


def bare_commits(server: Server) -> Variant:
    """Return a variant that commits a row for each call, on one connection, and nothing else."""

    async def run(count: int) -> float:
        import psycopg

        with psycopg.connect(f"host={server.folder} user=tests dbname=postgres", autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS bare_commits (content bytea)")
            start = time.perf_counter()
            for _ in range(RUNS):
                connection.execute("INSERT INTO bare_commits VALUES (%s)", (b"x" * 300,))
            return (time.perf_counter() - start) / RUNS * count

    return run


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure group commit over one connection. Without a server or its driver, the result says so."""
    work = f"PostgreSQL, sync, {RUNS} runs at once"
    if importlib.util.find_spec("psycopg") is None:
        return [Result(work, "skipped", "the package psycopg is missing", 0.0)]
    if programs() is None:
        return [Result(work, "skipped", "there is no PostgreSQL here: no initdb", 0.0)]
    server = Server(on_disk=True)
    store = rt.state.PostgresStore(f"host={server.folder} user=tests dbname=postgres")
    try:
        variants = {
            "together": runs_at_once(store, float("inf")), "alone": runs_at_once(store, 1),
            "bare": bare_commits(server),
        }  # fmt: skip
        times = anyio.run(in_turns, variants, RUNS * CALLS, rounds, backend=backend)
    finally:
        store.close()
        server.stop()
    together, alone, bare = (micro(times[name]) for name in ("together", "alone", "bare"))
    return [
        Result(work, together, f"a commit for each call, {alone}", ratio(times, "together", "alone"), TARGET),
        Result("the same", together, f"bare INSERT and commit, {bare}", ratio(times, "together", "bare")),
    ]
