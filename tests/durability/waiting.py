"""Runs that wait for people and messages, and the stores that have a mailbox."""

from __future__ import annotations

from pathlib import Path

import pytest

import railtracks as rt
from railtracks.exceptions import RunSuspended
from railtracks.state import FileStore, MemoryStore, PostgresStore, SQLiteStore
from tests import postgres

STORES = {
    "file": lambda: FileStore("runs"),
    "sqlite": lambda: SQLiteStore("runs.db"),
    "memory": MemoryStore,
    "postgres": lambda: postgres.store_of(Path.cwd()),
}
KINDS = ["file", "sqlite", "memory", postgres.POSTGRES]
"""The same, as parameters of tests."""


async def suspended(flow, *args, resume=None, answers=None):
    """Run or resume the flow, which is suspended, and return what it waits for."""
    connection = flow.connect()
    with pytest.raises(RunSuspended) as caught:
        await (connection.ainvoke(*args) if resume is None else connection.aresume(resume, answers=answers))
    assert connection.session.info.payload()["status"] == "Suspended"
    assert caught.value.run_identifier == connection.session.identifier
    return caught.value


def close_store(store):
    if isinstance(store, (SQLiteStore, PostgresStore)):
        store.close()


@rt.function_node
async def confirm(what="it"):
    return await rt.ask(f"Do {what}?")
