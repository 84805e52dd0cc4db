"""SQLiteStore: runs in one SQLite file, for many processes on one machine and for queries about many runs."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from railtracks._concurrency._after_fork import after_fork
from railtracks.state._file_system import make_folder
from railtracks.state._stores._file_lock import FileLock, is_locked, sweep_locks
from railtracks.state._stores._headers import HEADER_BYTES, read_document_header
from railtracks.state._stores._protocols import Appender, Listed, Lock, Stored

if TYPE_CHECKING:
    import sqlite3  # imported where it is used, as most programs do not use it

_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []
"""In a forked child, the connections of its parent. Closing them there would harm the parent's."""
WAIT = 30.0
"""Seconds to wait for another process that writes."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    identifier TEXT PRIMARY KEY, modified REAL NOT NULL,
    flow_name TEXT, session_name TEXT, status TEXT, start_time REAL, end_time REAL, calls INTEGER,
    document BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS journals (
    identifier TEXT, part INTEGER, modified REAL NOT NULL, content BLOB NOT NULL, PRIMARY KEY (identifier, part)
);
"""
_COLUMNS = ("flow_name", "session_name", "status", "start_time", "end_time", "calls")


class SQLiteStore:
    """Runs in an SQLite file, which several processes of one machine may use at once.

    For your own queries, the table ``runs`` has ``identifier``, ``flow_name``, ``session_name``, ``status``,
    ``start_time``, ``end_time`` (seconds since the epoch), ``calls`` and ``document`` (JSON). Journal entries of
    running sessions are committed by a worker thread, so with ``durability="async"`` a killed process may lose those of
    its last 50 milliseconds or so.

    Args:
        path: The file. It is made, for its owner only, when the store is first used. SQLite's own ``-wal`` and ``-shm``
            files are beside it, and a ``.lock`` file for each run that is open. It must not be on a network file
            system.
    """

    blocks = True
    _connection: sqlite3.Connection | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.path.abspath(path))
        self._guard = threading.Lock()
        self._connection = None
        _stores.add(self)

    def lock(self, identifier: str) -> Lock:
        """Acquire the lock of the run.

        Raises:
            RunInUseError: Another session holds it, in this process or another.
        """
        return FileLock(self._lock_path(identifier), identifier)

    def is_locked(self, identifier: str) -> bool:
        """Return whether a session holds the lock of the run, in this process or another."""
        return is_locked(self._lock_path(identifier))

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        """Begin a journal with ``content``, in place of one that exists. Its first ``sync`` writes to the file."""
        return _SQLiteAppender(self, identifier, content)

    def move_journal(self, identifier: str, to: str) -> bool:
        """Move the journal to another identifier, which has no run yet. Return whether there was a journal."""
        if not self._path.exists():
            return False
        with self.transaction() as connection:
            moved = connection.execute("UPDATE journals SET identifier = ? WHERE identifier = ?", (to, identifier))
            return moved.rowcount > 0

    def exists(self, identifier: str) -> bool:
        """Return whether there is a document."""
        if not self._path.exists():  # reading must not make the file
            return False
        with self.transaction("DEFERRED") as connection:
            query = "SELECT 1 FROM runs WHERE identifier = ?"
            return connection.execute(query, (identifier,)).fetchone() is not None

    def modified(self, identifier: str) -> float | None:
        """Return when the run was last written to, in seconds since the epoch; None if there is no such run."""
        if not self._path.exists():
            return None
        query = """
            SELECT max(modified) FROM (
                SELECT modified FROM runs WHERE identifier = ?1
                UNION ALL SELECT modified FROM journals WHERE identifier = ?1
            )
        """
        with self.transaction("DEFERRED") as connection:
            return connection.execute(query, (identifier,)).fetchone()[0]  # type: ignore[no-any-return]

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document, in place of one that exists, and remove the journal, in one transaction."""
        document = b"".join(content)
        facts = read_document_header(document[:HEADER_BYTES])
        values = (identifier, time.time(), *(facts.get(name) for name in _COLUMNS), document)
        with self.transaction() as connection:
            marks = ", ".join("?" * len(values))
            names = ", ".join(("identifier", "modified", *_COLUMNS, "document"))
            connection.execute(f"INSERT OR REPLACE INTO runs ({names}) VALUES ({marks})", values)  # noqa: S608 (our names)
            connection.execute("DELETE FROM journals WHERE identifier = ?", (identifier,))

    def read(self, identifier: str) -> Stored | None:
        """Return what is stored of the run; None if there is no such run."""
        if not self._path.exists():
            return None
        with self.transaction("DEFERRED") as connection:
            row = connection.execute("SELECT document FROM runs WHERE identifier = ?", (identifier,)).fetchone()
            query = "SELECT content FROM journals WHERE identifier = ? ORDER BY part"
            parts = [part for (part,) in connection.execute(query, (identifier,))]
        document = None if row is None else row[0]
        return Stored(document, b"".join(parts) if parts else None) if parts or row else None

    def list(self) -> Sequence[Listed]:
        """Return all runs, the one that was written to least recently first."""
        query = """
            SELECT identifier, max(modified), sum(size), max(journal), max(head) FROM (
                SELECT identifier, modified, length(document) AS size, 0 AS journal, substr(document, 1, ?) AS head
                FROM runs
                UNION ALL
                SELECT identifier, max(modified), sum(length(content)), 1, NULL FROM journals GROUP BY identifier
            ) GROUP BY identifier ORDER BY 2
        """
        if not self._path.exists():
            return []
        with self.transaction("DEFERRED") as connection:
            rows = connection.execute(query, (HEADER_BYTES,)).fetchall()
            return [
                Listed(name, modified, size, bool(journal), head or self._head(connection, name))
                for name, modified, size, journal, head in rows
            ]

    def _head(self, connection: sqlite3.Connection, identifier: str) -> bytes:
        query = "SELECT substr(content, 1, ?) FROM journals WHERE identifier = ? ORDER BY part LIMIT 1"
        row = connection.execute(query, (HEADER_BYTES, identifier)).fetchone()
        return b"" if row is None else row[0] or b""

    def remove(self, identifier: str) -> None:
        """Remove document and journal of the run. Idempotent."""
        if not self._path.exists():
            return
        with self.transaction() as connection:
            connection.execute("DELETE FROM runs WHERE identifier = ?", (identifier,))
            connection.execute("DELETE FROM journals WHERE identifier = ?", (identifier,))

    def sweep(self) -> None:
        """Remove the lock files that killed processes left behind."""
        sweep_locks(self._path.parent.glob(f"{self._path.name}.*.lock"))

    def where(self, identifier: str) -> str:
        """Return the path of the file and the identifier, for people."""
        return f"{self._path}, as {identifier}"

    def close(self) -> None:
        """Close the file. The next use opens it again."""
        with self._guard:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """Return a context manager for a transaction, which gives the connection.

        The transaction is on disk when the context is left, or undone if an error leaves it. One that writes must be
        IMMEDIATE: a DEFERRED one that has read may no longer be allowed to write.

        Raises:
            OSError: SQLite reports an error.
        """
        import sqlite3

        with self._guard:
            try:
                connection = self._connect()
                connection.execute(f"BEGIN {kind}")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:  # some errors have undone it already
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as exc:
                raise OSError(f"{self._path}: {exc}") from exc

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def reset(self) -> None:
        """Leave the connection to the parent process, as is right in a forked child."""
        self._guard = threading.Lock()
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        make_folder(self._path.parent)
        with contextlib.suppress(FileExistsError):
            # For its owner only. O_EXCL, as an existing file must not be opened here: closing its handle would drop the
            # locks that SQLite holds on it in this process.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self._path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lock_path(self, identifier: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{identifier}.lock")


@after_fork
def _reset_all() -> None:
    for store in _stores:
        store.reset()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging, so that readers and writers do not wait for each other.

    The mode stays with the file. For this one statement SQLite does not wait for another process that writes, so this
    function does.
    """
    import sqlite3

    deadline = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as exc:
            busy = getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


class _SQLiteAppender:
    """Collects journal entries, which each ``sync`` commits as one part."""

    def __init__(self, store: SQLiteStore, identifier: str, content: bytes) -> None:
        self._store = store
        self._identifier = identifier
        self._guard = threading.Lock()
        self._parts = 0
        self._pending: list[bytes] | None = [content]

    def append(self, content: bytes) -> None:
        if self._pending is not None:
            self._pending.append(content)

    def sync(self) -> None:
        with self._guard:
            pending = self._pending
            if not pending:
                return
            count = len(pending)
            content = b"".join(pending[:count])
            with self._store.transaction() as connection:
                if not self._parts:
                    connection.execute("DELETE FROM journals WHERE identifier = ?", (self._identifier,))
                row = (self._identifier, self._parts, time.time(), content)
                connection.execute("INSERT INTO journals VALUES (?, ?, ?, ?)", row)
            self._parts += 1
            del pending[:count]  # more may have been appended meanwhile, at the other end

    def close(self) -> None:
        self._pending = None
