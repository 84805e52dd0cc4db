"""A PostgreSQL server for the tests: one for each process that runs tests, started when the first test needs it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.postgres_server import Server, programs

PASSWORD = "right-Horse-7"


_HAS_DRIVER = importlib.util.find_spec("psycopg") is not None
_MISSING = "there is no PostgreSQL here: no initdb" if _HAS_DRIVER else "the package psycopg is not installed"
needs_postgres = pytest.mark.skipif(programs() is None or not _HAS_DRIVER, reason=_MISSING)
POSTGRES = pytest.param("postgres", marks=needs_postgres)
"""The parameter of a test that is about PostgreSQL."""
POSTGRES_IF_SLOW = pytest.param("postgres", marks=[needs_postgres, pytest.mark.slow])
"""The same, of a test that takes many seconds."""


@cache
def server() -> Server:
    """The server of this process."""
    return Server()


def schema_of(folder: Path) -> str:
    """The schema of what tests keep in a folder."""
    return f"t_{hashlib.sha256(os.path.abspath(folder).encode()).hexdigest()[:20]}"


def url_of(folder: Path, lease: float = 30.0, user: str = "tests") -> str:
    """The store of a folder, as text. Another folder has another schema."""
    return f"postgresql:///postgres?host={server().folder}&user={user}&schema={schema_of(folder)}&lease={lease}"


def store_of(folder: Path, lease: float = 30.0):
    """The store of a folder."""
    from railtracks.state import PostgresStore

    return PostgresStore(url_of(folder, lease))


IN_POSTGRES = pytest.param(lambda: store_of(Path.cwd()), marks=needs_postgres)
"""The same, where the parameter makes the store of a test."""


def close_stores() -> None:
    """Close the connections that a test has left open."""
    module = sys.modules.get("railtracks.state._stores._postgres")
    for store in list(module._stores) if module is not None else ():
        store._leases.reset()
        store._keeper._leases.clear()
        store.close()
