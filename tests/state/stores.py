"""The stores that are tested, processes that use them, and what is in their folders."""

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import railtracks as rt
from railtracks.state import FileStore, MemoryStore, PostgresStore, SQLiteStore
from tests import postgres

ROOT = Path(__file__).parent.parent.parent

PERSISTENT: dict[str, Callable[[Path], FileStore | SQLiteStore | PostgresStore]] = {
    "file": lambda folder: FileStore(folder / "runs"),
    "sqlite": lambda folder: SQLiteStore(folder / "runs" / "runs.db"),
    "postgres": postgres.store_of,
}

STORES = {**PERSISTENT, "memory": lambda folder: MemoryStore()}
PERSISTENT_KINDS = ["file", "sqlite", postgres.POSTGRES]
DATABASES = (SQLiteStore, PostgresStore)
KINDS = [*PERSISTENT_KINDS, "memory"]
"""The keys of ``PERSISTENT`` and ``STORES``, as parameters of tests."""


def journal_of(store, identifier="mine"):
    """Return the journal of a run, or None if there is none."""
    stored = store.read(identifier)
    return None if stored is None else stored.journal


def write(store, identifier, *parts):
    """Write a journal that consists of these parts, and sync it."""
    appender = store.open(identifier, parts[0])
    for part in parts[1:]:
        appender.append(part)
    appender.sync()
    appender.close()


HEAD = """
import os, signal, sys
from pathlib import Path
from railtracks.exceptions import RunInUseError
from railtracks.state import FileStore, PostgresStore, SQLiteStore
def say(*words): print(*words, flush=True)
def attempt(lock_of, identifier="mine"):
    try:
        lock_of.lock(identifier).release()
    except RunInUseError:
        return "in use"
    return "free"
if sys.argv[1].startswith("postgresql:"):
    store = PostgresStore(sys.argv[1])
else:
    store = FileStore("runs") if sys.argv[1] == "file" else SQLiteStore("runs/runs.db")
"""


@contextmanager
def process(kind, body, *args):
    """Run ``body`` in a process; it has the same ``store`` as the test, and writes lines with ``say``."""
    where = postgres.url_of(Path.cwd()) if kind == "postgres" else kind
    command = [sys.executable, "-c", HEAD + textwrap.dedent(body), where, *args]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child = subprocess.Popen(command, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def ran(kind, body, *args):
    """Run such a process to its end and return the lines that it wrote."""
    with process(kind, body, *args) as child:
        out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    return out.splitlines()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@rt.function_node
async def double(x):
    return 2 * x


def mode(path):
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def files(folder):
    """Return the names of the files in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
