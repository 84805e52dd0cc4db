"""SQLiteStore: runs in one SQLite file, for many processes on one machine and for queries about many runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._background import wait_for_pending
from railtracks.exceptions import RunInUseError
from railtracks.state._document._compression import beginning_of
from railtracks.state._file_system import make_folder, sync_new_folders
from railtracks.state._stores._cached_results import SQLiteCache
from railtracks.state._stores._file_lock import FileLock, is_locked, sweep_locks
from railtracks.state._stores._free_space import configure, give_back, prepare_new
from railtracks.state._stores._headers import HEADER_BYTES, read_document_header
from railtracks.state._stores._limits import SQLiteLimits
from railtracks.state._stores._mailboxes import SQLiteMailbox
from railtracks.state._stores._parts import compress_part, decompress_part, in_parts, joined
from railtracks.state._stores._protocols import Appender, Listed, Lock, Stored
from railtracks.state._stores._values import SQLiteValues, remove_lost_values

if TYPE_CHECKING:
    import sqlite3  # imported where it is used, as most programs do not use it

_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
_inherited: list[sqlite3.Connection] = []
"""In a forked child, the connections of its parent. Closing them there would harm the parent's."""
WAIT = 30.0
"""Seconds to wait for another process that writes."""
BLOBS = 1000
"""After so many that were opened a connection is replaced: it keeps a weak reference to each of them, alive or not."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    identifier TEXT PRIMARY KEY, modified REAL NOT NULL,
    flow_name TEXT, session_name TEXT, status TEXT, start_time REAL, end_time REAL, calls INTEGER,
    document BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS journals (
    identifier TEXT, part INTEGER, modified REAL NOT NULL, content BLOB NOT NULL, PRIMARY KEY (identifier, part)
);
CREATE TABLE IF NOT EXISTS documents (
    identifier TEXT, part INTEGER, content BLOB NOT NULL, PRIMARY KEY (identifier, part)
);
CREATE TRIGGER IF NOT EXISTS documents_replaced AFTER INSERT ON runs BEGIN
    DELETE FROM documents WHERE identifier = new.identifier;
END;
CREATE TRIGGER IF NOT EXISTS documents_removed AFTER DELETE ON runs BEGIN
    DELETE FROM documents WHERE identifier = old.identifier;
END;
"""
_COLUMNS = ("flow_name", "session_name", "status", "start_time", "end_time", "calls")


class SQLiteStore(SQLiteMailbox, SQLiteValues, SQLiteLimits, SQLiteCache):
    """Runs in an SQLite file, which several processes of one machine may use at once.

    For your own queries, the table ``runs`` has ``identifier``, ``flow_name``, ``session_name``, ``status``,
    ``start_time``, ``end_time`` (seconds since the epoch), ``calls`` and ``document`` (JSON). Journal entries of
    running sessions are committed by a worker thread, so with ``durability="async"`` a killed process may lose those of
    its last 50 milliseconds or so.

    Args:
        path: The file. It is made, for its owner only, when the store is first used. SQLite's own ``-wal`` and ``-shm``
            files are beside it, and a ``.lock`` file for each run that is open and each call that an ``rt.Limit``
            counts. It must not be on a network file system.
    """

    blocks = True
    reach = "machine"
    _connection: sqlite3.Connection | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.path.abspath(path))
        self._guard = threading.Lock()
        self._connection = None
        self._blobs = 0  # opened on the connection; a lost update of two threads only delays its end
        _stores.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (os.fspath(self._path),)

    @property
    def reach_folder(self) -> str:
        """The folder of the file, by which a copy in another process sees whether it is the same."""
        return os.fspath(self._path.parent)

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
                SELECT modified FROM runs WHERE identifier = :run
                UNION ALL SELECT modified FROM journals WHERE identifier = :run
            )
        """
        with self.transaction("DEFERRED") as connection:
            return connection.execute(query, {"run": identifier}).fetchone()[0]  # type: ignore[no-any-return]

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document, in place of one that exists, and remove the journal, in one transaction."""
        first, *others = [*in_parts(content)] or [b""]
        facts = read_document_header(first[:HEADER_BYTES])
        values = (identifier, time.time(), *(facts.get(name) for name in _COLUMNS), first)
        with self.transaction() as connection:
            # First what is replaced, so that its pages are used again.
            connection.execute("DELETE FROM journals WHERE identifier = ?", (identifier,))
            connection.execute("DELETE FROM runs WHERE identifier = ?", (identifier,))
            marks = ", ".join("?" * len(values))
            names = ", ".join(("identifier", "modified", *_COLUMNS, "document"))
            connection.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", values)  # noqa: S608 (our names)
            rows = [(identifier, part, other) for part, other in enumerate(others, 1)]
            connection.executemany("INSERT INTO documents VALUES (?, ?, ?)", rows)
        self._give_back()

    def read(self, identifier: str) -> Stored | None:
        """Return what is stored of the run; None if there is no such run."""
        if not self._path.exists():
            return None
        with self.transaction("DEFERRED") as connection:
            document, journal = (
                [part for (part,) in connection.execute(query, {"run": identifier})]
                for query in (
                    """
                    SELECT content FROM (
                        SELECT 0 AS part, document AS content FROM runs WHERE identifier = :run
                        UNION ALL SELECT part, content FROM documents WHERE identifier = :run
                    ) ORDER BY part
                    """,
                    "SELECT content FROM journals WHERE identifier = :run ORDER BY part",
                )
            )
        if not document and not journal:
            return None
        return Stored(joined(document), joined([*map(decompress_part, journal)]))

    def list(self) -> Sequence[Listed]:
        """Return all runs, the one that was written to least recently first."""
        return self._list("1", {})

    def find(self, identifier: str) -> Listed | None:
        """Return a run as ``list`` does; None if there is no such run."""
        return next(iter(self._list("identifier = :run", {"run": identifier})), None)

    def _list(self, condition: str, values: dict[str, str]) -> Sequence[Listed]:
        query = f"""
            SELECT identifier, max(modified), sum(size), max(journal), max(run), max(first) FROM (
                SELECT identifier, modified, length(document) AS size, 0 AS journal, rowid AS run, NULL AS first
                FROM runs WHERE {condition}
                UNION ALL
                SELECT identifier, 0, sum(length(content)), 0, NULL, NULL
                FROM documents WHERE {condition} GROUP BY identifier
                UNION ALL
                SELECT identifier, max(modified), sum(length(content)), 1, NULL, min(rowid) FILTER (WHERE part = 0)
                FROM journals WHERE {condition} GROUP BY identifier
                UNION ALL
                SELECT identifier, NULL, sum(length(content)), 0, NULL, NULL
                FROM large_values WHERE {condition} GROUP BY identifier
            ) GROUP BY identifier HAVING max(modified) ORDER BY 2
        """  # noqa: S608 (our conditions)
        if not self._path.exists():
            return []
        with self.transaction("DEFERRED") as connection:
            rows = connection.execute(query, values).fetchall()
            listed = [
                Listed(name, modified, size, bool(journal), _head(connection, run, first))
                for name, modified, size, journal, run, first in rows
            ]
        self._blobs += len(listed)
        if self._blobs > BLOBS:
            self.close()
        return listed

    def remove(self, identifier: str) -> None:
        """Remove document, journal, large values and messages of the run. Idempotent."""
        if not self._path.exists():
            return
        with self.transaction() as connection:
            for table in ("runs", "journals", "large_values", "messages"):
                connection.execute(f"DELETE FROM {table} WHERE identifier = ?", (identifier,))  # noqa: S608 (our names)
        self._give_back()

    def sweep(self) -> None:
        """Remove the lock files that killed processes left behind, and the large values of runs that are not there."""
        query = """
            SELECT DISTINCT identifier FROM large_values WHERE identifier NOT IN (
                SELECT identifier FROM runs UNION SELECT identifier FROM journals
            )
        """
        for identifier in map(str, self._select(query)):
            with contextlib.suppress(RunInUseError):
                remove_lost_values(self, identifier)
        sweep_locks(self._path.parent.glob(f"{self._path.name}.*.lock"))

    def where(self, identifier: str) -> str:
        """Return the path of the file and the identifier, for people."""
        return f"{self._path}, as {identifier}"

    def close(self) -> None:
        """Close the file. The next use opens it again. The end of the process does this."""
        with self._guard:
            connection, self._connection, self._blobs = self._connection, None, 0
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
        with self._use() as connection:
            connection.execute(f"BEGIN {kind}")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # some errors have undone it already
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """Return a context manager that gives the connection to one thread at a time, without a transaction."""
        import sqlite3

        with self._guard:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except sqlite3.Error as exc:
                raise OSError(f"{self._path}: {exc}") from exc

    def _give_back(self) -> None:
        give_back(self._use, os.fspath(self._path), WAIT)

    def reset(self) -> None:
        """Leave the connection to the parent process, as is right in a forked child."""
        self._guard = threading.Lock()
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        make_folder(self._path.parent)
        sync_new_folders(os.fspath(self._path.parent))
        with contextlib.suppress(FileExistsError):
            # For its owner only. O_EXCL, as an existing file must not be opened here: closing its handle would drop the
            # locks that SQLite holds on it in this process.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self._path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            prepare_new(connection)
            _switch_to_wal(connection)
            configure(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(
                _SCHEMA + SQLiteMailbox.SCHEMA + SQLiteValues.SCHEMA + SQLiteLimits.LIMITS_SCHEMA + SQLiteCache.SCHEMA
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def _lock_path(self, identifier: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{identifier}.lock")


def _head(connection: sqlite3.Connection, run: int | None, first: int | None) -> bytes:
    """Return the beginning of a document or, without one, of a journal: in SQL, ``substr`` would read all of it."""
    for table, column, row in (("runs", "document", run), ("journals", "content", first)):
        if row is not None:
            with connection.blobopen(table, column, row, readonly=True) as blob:
                head = blob.read(HEADER_BYTES)
                return head if table == "runs" else beginning_of(head, HEADER_BYTES)
    return b""


@atexit.register
def _close_all() -> None:
    """Close the files at the end of the process: then SQLite writes its log to each file, unless others use it too.

    A file whose log has what was written last could not be copied by itself.
    """
    if any(store._connection is not None for store in _stores):
        wait_for_pending()  # sessions that are still being saved would open their file again
    for store in list(_stores):
        store.close()


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
            with self._store.transaction() as connection:
                if not self._parts:
                    connection.execute("DELETE FROM journals WHERE identifier = ?", (self._identifier,))
                now, parts = time.time(), enumerate(in_parts(pending[:count]), self._parts)
                rows = [(self._identifier, part, now, compress_part(content)) for part, content in parts]
                connection.executemany("INSERT INTO journals VALUES (?, ?, ?, ?)", rows)
            self._parts += len(rows)
            del pending[:count]  # more may have been appended meanwhile, at the other end

    def close(self) -> None:
        self._pending = None
