"""Stores: where journals and documents of runs are kept.

A store keeps, for each identifier, at most one journal and one document, as bytes that it does not look into.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from railtracks.exceptions import RunInUseError
from railtracks.state._files import make_folder, state_folder, sync_folder, write_atomically
from railtracks.state._heads import HEAD
from railtracks.state._lock import FileLock, is_locked, sweep_locks

_LEFTOVER = re.compile(r"\.(.+)\.(?:json|journal)\.[0-9a-f]{8}\.tmp")  # as ``write_atomically`` names them
_APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


class Lock(Protocol):
    """The right to write a run. Held until it is released, or until the process ends, however it ends."""

    def release(self) -> None:
        """Let others have it. Calling it again does nothing."""


class Appender(Protocol):
    """A journal that is being written, by one session. Its methods may be called from any thread."""

    def append(self, content: bytes) -> None:
        """Add ``content`` at the end. It is called on the event loop. OSError if it cannot; what was there is whole."""

    def sync(self) -> None:
        """Return when everything appended so far is on disk. Blocks. OSError if that cannot be done."""

    def close(self) -> None:
        """Write no more. What was appended stays. Calling it again does nothing."""


class Stored(NamedTuple):
    """What a store has of one run."""

    document: bytes | None
    journal: bytes | None


class Listed(NamedTuple):
    """What a store knows of one run without reading it all."""

    identifier: str
    modified: float
    """Seconds since the epoch."""
    size: int
    """Bytes, of document and journal together."""
    has_journal: bool
    head: bytes
    """The beginning of the document, or else of the journal: 64 KiB at the most."""


@runtime_checkable
class Store(Protocol):
    """Where runs are kept. All methods may be called from any thread.

    ``lock``, ``is_locked``, ``where`` and ``open`` are called on the event loop and should be quick. The others may
    take their time, and are called in worker threads, unless the store has an attribute ``blocks`` that is False; then
    what is appended is synced only with ``durability="sync"``. Between ``lock`` and its release nobody else writes
    the run.

    Raises: OSError where something cannot be read or written; nothing that was there is lost then.
    """

    def lock(self, identifier: str) -> Lock:
        """The right to write the run. RunInUseError if somebody has it."""

    def is_locked(self, identifier: str) -> bool:
        """Does somebody have it? That may change at once."""

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        """Begin a journal with ``content``. One that is there is replaced by it, but not before it is on disk.

        ``durable``: ``content`` is of value by itself, and has to be there as a whole or not at all.
        """

    def move_journal(self, identifier: str, to: str) -> bool:
        """Give the journal, if there is one, to another identifier, which has no run. Was there one?"""

    def exists(self, identifier: str) -> bool:
        """Is there a document?"""

    def modified(self, identifier: str) -> float | None:
        """When it was last written to, in seconds since the epoch; None if there is no such run."""

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Keep a document, in place of one that may be there; then remove the journal.

        On disk when it returns; whenever the process ends, the document or the journal is there.
        """

    def read(self, identifier: str) -> Stored | None:
        """What there is; None if there is nothing."""

    def list(self) -> Sequence[Listed]:
        """All runs; the one that was written to least recently first."""

    def remove(self, identifier: str) -> None:
        """Forget document and journal. Nothing happens if there are none."""

    def sweep(self) -> None:
        """Remove what processes that were killed left behind, other than runs."""

    def where(self, identifier: str) -> str:
        """Where the document is, or will be, for people."""


class FileStore:
    """Runs as files in a folder: ``<identifier>.json``, ``<identifier>.journal`` and ``<identifier>.lock``.

    Files and folder are made for their owner only. The default store, in ``RAILTRACKS_HOME`` or ``.railtracks``.

    Args:
        folder: The folder; made when something is written. None: the default one, as it is now.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder: Path = state_folder() if folder is None else Path(os.path.abspath(folder))

    def lock(self, identifier: str) -> Lock:
        return FileLock(self._path(identifier, "lock"), identifier)

    def is_locked(self, identifier: str) -> bool:
        return is_locked(self._path(identifier, "lock"))

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        path = self._path(identifier, "journal")
        make_folder(self.folder)
        if durable or path.exists():
            write_atomically(path, [content])
            return _FileAppender(path, os.open(path, _APPEND))
        appender = _FileAppender(path, os.open(path, _APPEND | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            appender.append(content)
        except BaseException:  # an empty journal would look like a run that died
            appender.close()
            path.unlink(missing_ok=True)
            raise
        return appender

    def move_journal(self, identifier: str, to: str) -> bool:
        try:
            os.rename(self._path(identifier, "journal"), self._path(to, "journal"))
        except FileNotFoundError:
            return False
        return True

    def exists(self, identifier: str) -> bool:
        return self._path(identifier, "json").exists()

    def modified(self, identifier: str) -> float | None:
        run = self._listed(identifier)
        return None if run is None else run.modified

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        write_atomically(self._path(identifier, "json"), content)
        self._path(identifier, "journal").unlink(missing_ok=True)

    def read(self, identifier: str) -> Stored | None:
        # The journal first: if the session ends in between, its document is there.
        journal, document = (_content(self._path(identifier, kind)) for kind in ("journal", "json"))
        return None if journal is document is None else Stored(document, journal)

    def list(self) -> Sequence[Listed]:
        found = [self._listed(identifier) for identifier in self._identifiers()]
        return sorted((run for run in found if run is not None), key=lambda run: run.modified)

    def remove(self, identifier: str) -> None:
        for kind in ("json", "journal"):
            self._path(identifier, kind).unlink(missing_ok=True)

    def sweep(self) -> None:
        for path in self.folder.glob(".*.tmp"):
            if leftover := _LEFTOVER.fullmatch(path.name):
                with contextlib.suppress(RunInUseError):  # its session is just writing it
                    lock = self.lock(leftover[1])
                    path.unlink(missing_ok=True)
                    lock.release()
        sweep_locks(self.folder.glob("*.lock"))

    def where(self, identifier: str) -> str:
        return str(self._path(identifier, "json"))

    def count(self) -> int:
        """How many runs there are, without looking at them."""
        return len(self._identifiers())

    def _path(self, identifier: str, kind: str) -> Path:
        return self.folder / f"{identifier}.{kind}"

    def _identifiers(self) -> set[str]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return set()
        pairs = (name.rpartition(".") for name in names if not name.startswith("."))
        return {stem for stem, _, kind in pairs if stem and kind in ("json", "journal")}

    def _listed(self, identifier: str) -> Listed | None:
        found, modified, size, has_journal, head = False, 0.0, 0, False, b""
        for kind in ("journal", "json"):  # the document's head counts, if both are there
            with contextlib.suppress(FileNotFoundError), self._path(identifier, kind).open("rb") as file:
                status = os.fstat(file.fileno())
                modified, size = max(modified, status.st_mtime), size + status.st_size
                has_journal = has_journal or kind == "journal"
                found, head = True, file.read(HEAD)
        return Listed(identifier, modified, size, has_journal, head) if found else None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


class _FileAppender:
    """Appends to a file, in one system call per record, so that a record is there, or torn at the very end."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._lock = threading.RLock()  # a signal handler may append too
        self._handle: int | None = handle
        self._named = False  # its name is on disk

    def append(self, content: bytes) -> None:
        with self._lock:
            handle = self._handle
            if handle is None:
                return
            written = os.write(handle, content)
            if written < len(content):
                # A full disk takes a part: have a whole journal, not a torn one.
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(errno.ENOSPC, "No space left on device", str(self._path))

    def sync(self) -> None:
        with self._lock:
            handle = None if self._handle is None else os.dup(self._handle)  # appending goes on while the disk works
        if handle is None:
            return
        try:
            os.fsync(handle)
            if not self._named:
                sync_folder(self._path.parent)
                self._named = True
            if not os.fstat(handle).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the file was removed while it was written", str(self._path))
        finally:
            os.close(handle)

    def close(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


class _Kept:
    """A document or a journal in memory."""

    def __init__(self, content: bytearray, modified: float) -> None:
        self.content = content
        self.modified = modified


class MemoryStore:
    """Runs in memory, for tests: gone with the process, and seen by nobody else."""

    blocks = False

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._documents: dict[str, _Kept] = {}
        self._journals: dict[str, _Kept] = {}
        self._locks: dict[str, Lock] = {}

    def lock(self, identifier: str) -> Lock:
        with self._guard:
            if identifier in self._locks:
                raise RunInUseError(
                    f"the run {identifier!r} is open in another session; "
                    f"wait for it, or give this one a run_identifier of its own"
                )
            self._locks[identifier] = lock = _MemoryLock(self._locks, identifier)
        return lock

    def is_locked(self, identifier: str) -> bool:
        return identifier in self._locks

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        journal = _Kept(bytearray(content), time.time())
        with self._guard:
            self._journals[identifier] = journal
        return _MemoryAppender(journal)

    def move_journal(self, identifier: str, to: str) -> bool:
        with self._guard:
            journal = self._journals.pop(identifier, None)
            if journal is not None:
                self._journals[to] = journal
        return journal is not None

    def exists(self, identifier: str) -> bool:
        return identifier in self._documents

    def modified(self, identifier: str) -> float | None:
        with self._guard:
            there = identifier in self._documents or identifier in self._journals
            return self._listed(identifier).modified if there else None

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        document = _Kept(bytearray().join(content), time.time())
        with self._guard:
            self._documents[identifier] = document
            self._journals.pop(identifier, None)

    def read(self, identifier: str) -> Stored | None:
        with self._guard:
            document, journal = self._documents.get(identifier), self._journals.get(identifier)
            if document is journal is None:
                return None
            return Stored(*(None if kept is None else bytes(kept.content) for kept in (document, journal)))

    def list(self) -> Sequence[Listed]:
        with self._guard:
            found = [self._listed(identifier) for identifier in {*self._documents, *self._journals}]
        return sorted(found, key=lambda run: run.modified)

    def sweep(self) -> None:
        pass

    def _listed(self, identifier: str) -> Listed:
        there = [kept[identifier] for kept in (self._documents, self._journals) if identifier in kept]
        return Listed(
            identifier,
            modified=max(kept.modified for kept in there),
            size=sum(len(kept.content) for kept in there),
            has_journal=identifier in self._journals,
            head=bytes(there[0].content[:HEAD]),
        )

    def remove(self, identifier: str) -> None:
        with self._guard:
            self._documents.pop(identifier, None)
            self._journals.pop(identifier, None)

    def where(self, identifier: str) -> str:
        return f"memory, as {identifier}"


class _MemoryLock:
    def __init__(self, locks: dict[str, Lock], identifier: str) -> None:
        self._locks, self._identifier = locks, identifier

    def release(self) -> None:
        if self._locks.get(self._identifier) is self:
            del self._locks[self._identifier]


class _MemoryAppender:
    def __init__(self, journal: _Kept) -> None:
        self._journal: _Kept | None = journal

    def append(self, content: bytes) -> None:
        journal = self._journal
        if journal is not None:
            journal.content.extend(content)
            journal.modified = time.time()

    def sync(self) -> None:
        pass

    def close(self) -> None:
        self._journal = None
