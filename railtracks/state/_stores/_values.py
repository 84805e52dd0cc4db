"""Large values in the stores: what records have only a digest of.

A value is stored under its digest, for the run that has it, and never changes. So what a killed process leaves is whole
or of no use, and a run that was forked can share the values of the other one.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from railtracks.state._file_system import FolderSync, make_folder, remove_file, write_atomically
from railtracks.state._serialization._large_values import VALUES_ENDING, read_value_file

if TYPE_CHECKING:
    import sqlite3

    from railtracks.state._stores._protocols import Listed, Lock


class ValueStore(Protocol):
    """The part of a store that keeps large values beside their runs. A store need not have it.

    All methods block, are called in worker threads, and may be called at the same time. A store whose ``remove``
    removes a run removes its values too; one whose ``move_journal`` moves a journal leaves them where they are.

    Raises: OSError where something cannot be read or written.
    """

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        """Store a value of the run, in place of what is stored under the digest. It is on disk when this returns."""

    def read_value(self, identifier: str, digest: str) -> bytes | None:
        """Return what is stored under a digest; None if nothing is. It need not be whole: the caller checks it."""

    def list_values(self, identifier: str) -> Sequence[str]:
        """Return the digests of the run's values, in any order."""

    def copy_values(self, identifier: str, to: str, digests: Collection[str]) -> None:
        """Let another run have some of the values, as far as they are there. They are on disk when this returns."""

    def remove_values(self, identifier: str, digests: Collection[str]) -> None:
        """Remove some of the run's values. Idempotent."""


VALUE_METHODS = ("put_value", "read_value", "list_values", "copy_values", "remove_values")


def find_value_store(store: object) -> ValueStore | None:
    """Return what keeps the large values of a store; None if it cannot keep any."""
    has_all = all(callable(getattr(store, name, None)) for name in VALUE_METHODS)
    return store if has_all else None  # type: ignore[return-value]


class _Finding(ValueStore, Protocol):
    def lock(self, identifier: str) -> Lock: ...

    def find(self, identifier: str) -> Listed | None: ...


def remove_lost_values(store: _Finding, identifier: str) -> None:
    """Remove the large values of a run that is not there: its process died between the two.

    Raises:
        RunInUseError: A session has the run open.
    """
    lock = store.lock(identifier)
    try:
        if store.find(identifier) is None:
            store.remove_values(identifier, store.list_values(identifier))
    finally:
        lock.release()


class FileValues:
    """The large values of a FileStore: a folder for each run that has some, ``<identifier>.values``."""

    _folder: str

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        """Store a value of the run. It is on disk when this returns."""
        folder = self._values(identifier)
        if read_value_file(folder, digest) == content:
            return
        write_atomically(f"{folder}{os.sep}{digest}", [content])
        FolderSync.of(self._folder).sync()  # which has the folder of the values

    def read_value(self, identifier: str, digest: str) -> bytes | None:
        """Return what is stored under a digest; None if nothing is."""
        return read_value_file(self._values(identifier), digest)

    def list_values(self, identifier: str) -> Sequence[str]:
        """Return the digests of the run's values."""
        return [name for name in self._files(identifier) if name[0] != "."]

    def copy_values(self, identifier: str, to: str, digests: Collection[str]) -> None:
        """Let another run have some of the values, as far as they are there. Their files are shared if possible."""
        found = sorted({*self.list_values(identifier)}.intersection(digests))
        if not found:
            return
        source, target = self._values(identifier), self._values(to)
        make_folder(Path(target))
        for digest in found:
            try:
                os.link(f"{source}{os.sep}{digest}", f"{target}{os.sep}{digest}")
            except (FileExistsError, FileNotFoundError):  # in the second case it was removed meanwhile
                continue
            except OSError:  # the file system has no links
                if (content := read_value_file(source, digest)) is not None:
                    write_atomically(f"{target}{os.sep}{digest}", [content])
        FolderSync.of(target).sync()
        FolderSync.of(self._folder).sync()

    def remove_values(self, identifier: str, digests: Collection[str]) -> None:
        """Remove some of the run's values, and what killed processes have left among them. Idempotent."""
        folder = self._values(identifier)
        for name in self._files(identifier):
            if name[0] == "." or name in digests:
                remove_file(f"{folder}{os.sep}{name}")
        with contextlib.suppress(OSError):  # it has others, or is not there
            os.rmdir(folder)

    def _size_of_values(self, identifier: str) -> int:
        size = 0
        for name in self._files(identifier):
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(f"{self._values(identifier)}{os.sep}{name}").st_size
        return size

    def _files(self, identifier: str) -> list[str]:
        try:
            return os.listdir(self._values(identifier))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _values(self, identifier: str) -> str:
        return f"{self._folder}{os.sep}{identifier}{VALUES_ENDING}"


class SQLiteValues:
    """The large values of an SQLiteStore: the table ``large_values``."""

    SCHEMA = """
    CREATE TABLE IF NOT EXISTS large_values (
        identifier TEXT, digest TEXT, content BLOB NOT NULL, PRIMARY KEY (identifier, digest)
    );
    """
    _path: Path

    if TYPE_CHECKING:

        def transaction(self, kind: str = "IMMEDIATE") -> AbstractContextManager[sqlite3.Connection]: ...

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        """Store a value of the run. It is on disk when this returns."""
        with self.transaction() as connection:
            row = (identifier, digest, content)
            connection.execute("INSERT OR REPLACE INTO large_values VALUES (?, ?, ?)", row)

    def read_value(self, identifier: str, digest: str) -> bytes | None:
        """Return what is stored under a digest; None if nothing is."""
        query = "SELECT content FROM large_values WHERE identifier = ? AND digest = ?"
        row = next(iter(self._select(query, identifier, digest)), None)
        return None if row is None else bytes(row)  # type: ignore[call-overload]

    def list_values(self, identifier: str) -> Sequence[str]:
        """Return the digests of the run's values."""
        return [
            str(digest) for digest in self._select("SELECT digest FROM large_values WHERE identifier = ?", identifier)
        ]

    def _select(self, query: str, *values: str) -> list[object]:
        if not self._path.exists():  # reading must not make the file
            return []
        with self.transaction("DEFERRED") as connection:
            return [value for (value,) in connection.execute(query, values)]

    def copy_values(self, identifier: str, to: str, digests: Collection[str]) -> None:
        """Let another run have some of the values, as far as they are there."""
        command = """
            INSERT OR IGNORE INTO large_values
            SELECT ?, digest, content FROM large_values WHERE identifier = ? AND digest = ?
        """
        if digests and self._path.exists():
            with self.transaction() as connection:
                connection.executemany(command, [(to, identifier, digest) for digest in digests])

    def remove_values(self, identifier: str, digests: Collection[str]) -> None:
        """Remove some of the run's values. Idempotent."""
        command = "DELETE FROM large_values WHERE identifier = ? AND digest = ?"
        if digests and self._path.exists():
            with self.transaction() as connection:
                connection.executemany(command, [(identifier, digest) for digest in digests])


class MemoryValues:
    """The large values of a MemoryStore."""

    def __init__(self) -> None:
        self._values: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._values_guard = threading.Lock()

    @contextlib.contextmanager
    def _values_of(self, identifier: str) -> Iterator[dict[str, bytes]]:
        with self._values_guard:
            yield self._values[identifier]
            if not self._values[identifier]:
                del self._values[identifier]

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        """Store a value of the run."""
        with self._values_of(identifier) as values:
            values[digest] = content

    def read_value(self, identifier: str, digest: str) -> bytes | None:
        """Return what is stored under a digest; None if nothing is."""
        with self._values_of(identifier) as values:
            return values.get(digest)

    def list_values(self, identifier: str) -> Sequence[str]:
        """Return the digests of the run's values."""
        with self._values_of(identifier) as values:
            return list(values)

    def copy_values(self, identifier: str, to: str, digests: Collection[str]) -> None:
        """Let another run have some of the values, as far as they are there."""
        with self._values_of(identifier) as values:
            copied = {digest: values[digest] for digest in digests if digest in values}
        with self._values_of(to) as values:
            values.update(copied)

    def remove_values(self, identifier: str, digests: Collection[str]) -> None:
        """Remove some of the run's values. Idempotent."""
        with self._values_of(identifier) as values:
            for digest in digests:
                values.pop(digest, None)

    def _size_of_values(self, identifier: str) -> int:
        with self._values_of(identifier) as values:
            return sum(map(len, values.values()))
