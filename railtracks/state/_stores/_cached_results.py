"""Cached results in the stores: what calls with ``rt.Cache(scope="store")`` have returned, for all runs.

A result is stored under a digest of the call that it is of, and belongs to no run. Losing one does no harm, so what
cannot be read counts as not there.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from railtracks.state._file_system import open_regular, remove_file, write_atomically

if TYPE_CHECKING:
    import sqlite3

FOLDER = "cache"
"""The folder with the cached results of a FileStore. No run has a file of this name, as theirs have endings."""


class CachedContent(NamedTuple):
    """A cached result as it is stored. Times are in seconds since the epoch."""

    content: bytes
    """The result, as ``execution`` writes it."""
    stored: float
    """When it was stored."""
    expires: float
    """When it may be removed; ``math.inf`` for never."""


class CacheStore(Protocol):
    """The part of a store that keeps cached results. A store need not have it.

    All methods block, are called in worker threads, and may be called at the same time.

    A store may also have an attribute ``cache_location``: a text that it has in common with the other objects that keep
    their results in the same place. Equal calls of sessions with such stores wait for each other, in one process.

    Raises: OSError where something cannot be read or written.
    """

    def put_cached(self, key: str, cached: CachedContent) -> None:
        """Store a result under a key, in place of one that is there. A reader finds the one or the other, whole."""

    def read_cached(self, key: str) -> CachedContent | None:
        """Return what is stored under a key, whether or not it has expired; None if nothing is."""

    def prune_cached(self, now: float, stored_before: float = -math.inf) -> int:
        """Remove what has expired until ``now``, and what was stored before ``stored_before``. Return how many."""


CACHE_METHODS = ("put_cached", "read_cached", "prune_cached")


def find_cache_store(store: object) -> CacheStore | None:
    """Return what keeps the cached results of a store; None if it cannot keep any."""
    has_all = all(callable(getattr(store, name, None)) for name in CACHE_METHODS)
    return store if has_all else None  # type: ignore[return-value]


def _is_over(stored: float, expires: float, now: float, stored_before: float) -> bool:
    return expires <= now or stored < stored_before


class FileCache:
    """The cached results of a FileStore: a file for each, in the folder ``cache``.

    Its first line has the two times; the rest is the content.
    """

    _folder: str

    @property
    def cache_location(self) -> str:
        """The folder of the results."""
        return f"{self._folder}{os.sep}{FOLDER}"

    def put_cached(self, key: str, cached: CachedContent) -> None:
        """Store a result under a key, in place of one that is there."""
        head = f"{cached.stored!r} {cached.expires!r}\n".encode("ascii")
        write_atomically(f"{self.cache_location}{os.sep}{key}", [head, cached.content])

    def read_cached(self, key: str) -> CachedContent | None:
        """Return what is stored under a key; None if nothing is."""
        try:
            with open_regular(f"{self.cache_location}{os.sep}{key}") as file:
                stored, expires = _times_in(file.readline(100))
                return CachedContent(file.read(), stored, expires)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def prune_cached(self, now: float, stored_before: float = -math.inf) -> int:
        """Remove what has expired, what was stored before, and what is damaged. Return how many results."""
        removed = 0
        for path in self._cached_files():
            with contextlib.suppress(OSError):  # another process removes it, too
                if path.name.startswith("."):
                    if path.stat().st_mtime < now - _LEFTOVER_AGE:
                        remove_file(path)
                    continue
                with open_regular(path) as file:
                    head = file.readline(100)
                try:
                    is_over = _is_over(*_times_in(head), now, stored_before)
                except ValueError:
                    is_over = True
                if is_over:
                    remove_file(path)
                    removed += 1
        return removed

    def _cached_files(self) -> list[Path]:
        try:
            return [*Path(self.cache_location).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []


_LEFTOVER_AGE = 3600.0
"""Seconds after which a temporary file is not being written any more."""


def _times_in(head: bytes) -> tuple[float, float]:
    stored, expires = map(float, head.split())
    return stored, expires


class SQLiteCache:
    """The cached results of an SQLiteStore: the table ``cached_results``."""

    SCHEMA = """
    CREATE TABLE IF NOT EXISTS cached_results (
        key TEXT PRIMARY KEY, stored REAL NOT NULL, expires REAL, content BLOB NOT NULL
    );
    """
    _path: Path

    if TYPE_CHECKING:
        _give_back: Callable[[], None]

        def transaction(self, kind: str = "IMMEDIATE") -> AbstractContextManager[sqlite3.Connection]: ...

    @property
    def cache_location(self) -> str:
        """The path of the file."""
        return os.fspath(self._path)

    def put_cached(self, key: str, cached: CachedContent) -> None:
        """Store a result under a key, in place of one that is there."""
        expires = None if cached.expires == math.inf else cached.expires
        with self.transaction() as connection:
            row = (key, cached.stored, expires, cached.content)
            connection.execute("INSERT OR REPLACE INTO cached_results VALUES (?, ?, ?, ?)", row)

    def read_cached(self, key: str) -> CachedContent | None:
        """Return what is stored under a key; None if nothing is."""
        if not self._path.exists():  # reading must not make the file
            return None
        query = "SELECT content, stored, expires FROM cached_results WHERE key = ?"
        with self.transaction("DEFERRED") as connection:
            row = connection.execute(query, (key,)).fetchone()
        return None if row is None else CachedContent(row[0], row[1], math.inf if row[2] is None else row[2])

    def prune_cached(self, now: float, stored_before: float = -math.inf) -> int:
        """Remove what has expired, and what was stored before ``stored_before``. Return how many results."""
        if not self._path.exists():
            return 0
        command = "DELETE FROM cached_results WHERE expires <= ? OR stored < ?"
        with self.transaction() as connection:
            removed = connection.execute(command, (now, stored_before)).rowcount
        if removed:
            self._give_back()
        return removed


class MemoryCache:
    """The cached results of a MemoryStore."""

    def __init__(self) -> None:
        self._cached: dict[str, CachedContent] = {}
        self._cached_guard = threading.Lock()

    def put_cached(self, key: str, cached: CachedContent) -> None:
        """Store a result under a key, in place of one that is there."""
        with self._cached_guard:
            self._cached[key] = cached

    def read_cached(self, key: str) -> CachedContent | None:
        """Return what is stored under a key; None if nothing is."""
        return self._cached.get(key)

    def prune_cached(self, now: float, stored_before: float = -math.inf) -> int:
        """Remove what has expired, and what was stored before ``stored_before``. Return how many results."""
        with self._cached_guard:
            over = [
                key for key, each in self._cached.items() if _is_over(each.stored, each.expires, now, stored_before)
            ]
            for key in over:
                del self._cached[key]
        return len(over)
