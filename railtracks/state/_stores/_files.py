"""FileStore: runs as files in a folder. It is the default store."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from railtracks._concurrency._after_fork import after_fork
from railtracks.exceptions import RunInUseError, StateError
from railtracks.state._file_system import (
    FolderSync,
    create_file,
    open_regular,
    remove_file,
    state_folder,
    temporary_path,
    write_atomically,
    write_temporary,
)
from railtracks.state._serialization._large_values import VALUES_ENDING
from railtracks.state._stores._cached_results import FileCache
from railtracks.state._stores._file_lock import (
    HAS_OWN_LOCKS,
    FileLock,
    is_file_locked,
    is_held_here,
    is_locked,
    lock_handle,
    sweep_locks,
    unlock_handle,
)
from railtracks.state._stores._headers import HEADER_BYTES
from railtracks.state._stores._mailboxes import FileMailbox
from railtracks.state._stores._protocols import Appender, Listed, Lock, Stored
from railtracks.state._stores._values import FileValues, remove_lost_values

_LEFTOVER = re.compile(r"\.(.+)\.(?:json|journal)(\.[0-9a-f]{8})?\.tmp")  # as ``write_atomically`` names them
_LOG = logging.getLogger("RT")
_APPEND = os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)

_VALUES = VALUES_ENDING.removeprefix(".")
_KINDS = frozenset({"journal", "json", _VALUES})
_VALUES_ALONE = {_VALUES}
"""What a killed process may leave, and is not a run."""


class FileStore(FileMailbox, FileValues, FileCache):
    """Runs as files in a folder: ``<identifier>.json``, ``<identifier>.journal`` and ``<identifier>.lock``.

    This is the default store, in ``RAILTRACKS_HOME`` or ``.railtracks``. Only their owner can access files and folder.

    Args:
        folder: The folder, which is made when something is written. None for the default one, as it is set now.
    """

    blocks = True
    reach = "machine"

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = os.path.abspath(state_folder() if folder is None else folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._folder,)

    @property
    def reach_folder(self) -> str:
        """The folder, by which a copy in another process sees whether it is the same."""
        return self._folder

    @property
    def folder(self) -> Path:
        """The folder, as an absolute path."""
        return Path(self._folder)  # made only here, as it takes longer than the file names of a run

    def lock(self, identifier: str) -> Lock:
        """Acquire the lock of the run, and remove the temporary files that a killed holder has left.

        Raises:
            RunInUseError: Another session holds it, in this process or another.
        """
        lock = FileLock(self._path(identifier, "lock"), identifier)
        if self._is_journal_locked(identifier):
            lock.release()
            raise RunInUseError(
                f"the run {identifier!r} is open in another session, which writes {self._path(identifier, 'journal')}, "
                f"although its lock file was removed; wait for it to end, or use another run_identifier"
            )
        with contextlib.suppress(OSError):  # it is removed the next time, or overwritten
            for kind in ("json", "journal"):
                remove_file(temporary_path(self._path(identifier, kind)))
        return lock

    def is_locked(self, identifier: str) -> bool:
        """Return whether a session holds the lock of the run, in this process or another."""
        return is_locked(self._path(identifier, "lock")) or self._is_journal_locked(identifier)

    def _is_journal_locked(self, identifier: str) -> bool:
        """Return whether a session is writing the journal, also if something has removed its lock file."""
        return HAS_OWN_LOCKS and is_file_locked(self._path(identifier, "journal"))

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        """Begin a journal with ``content``, in place of one that exists. With ``durable``, it is on disk as a whole."""
        path = self._path(identifier, "journal")
        is_locked_run = is_held_here(self._path(identifier, "lock"))
        handle = None
        if not durable:
            with contextlib.suppress(FileExistsError):
                handle = create_file(path, _APPEND | os.O_EXCL)
        if handle is None:
            write_atomically(path, [content], is_only_writer=is_locked_run)
            return _FileAppender(path, os.open(path, _APPEND), is_locked_run)
        appender = _FileAppender(path, handle, is_locked_run)
        try:
            appender.append(content)
        except BaseException:  # an empty journal would look like a run that died
            appender.close()
            remove_file(path)
            raise
        return appender

    def prepare(self, identifier: str, content: Iterable[bytes]) -> PreparedJournal:
        """Write the beginning of a journal, which a resumed run has, beside an existing one. Blocks.

        Opening the journal later takes no longer than a rename then, however long the beginning is.
        """
        path, is_locked_run = self._path(identifier, "journal"), is_held_here(self._path(identifier, "lock"))
        temporary = write_temporary(path, content, is_only_writer=is_locked_run)
        return PreparedJournal(path, temporary, is_locked_run)

    def move_journal(self, identifier: str, to: str) -> bool:
        """Move the journal to another identifier, which has no run yet. Return whether there was a journal."""
        try:
            os.rename(self._path(identifier, "journal"), self._path(to, "journal"))
        except FileNotFoundError:
            return False
        return True

    def exists(self, identifier: str) -> bool:
        """Return whether there is a document."""
        return os.path.exists(self._path(identifier, "json"))

    def modified(self, identifier: str) -> float | None:
        """Return when the run was last written to, in seconds since the epoch; None if there is no such run."""
        run = self.find(identifier)
        return None if run is None else run.modified

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document, in place of one that exists, and then remove the journal."""
        is_locked_run = is_held_here(self._path(identifier, "lock"))
        write_atomically(self._path(identifier, "json"), content, is_only_writer=is_locked_run)
        remove_file(self._path(identifier, "journal"))

    def read(self, identifier: str) -> Stored | None:
        """Return what is stored of the run; None if there is no such run."""
        # The journal first: if the session ends in between, its document is found.
        try:
            journal, document = (_content(self._path(identifier, kind)) for kind in ("journal", "json"))
        except NotADirectoryError as exc:
            raise self._not_a_folder() from exc
        return None if journal is document is None else Stored(document, journal)

    def list(self) -> Sequence[Listed]:
        """Return all runs, the one that was written to least recently first."""
        # The names say what there is of each run: to look for what there is not took half of the time.
        found = [self._listed_if_readable(identifier, kinds) for identifier, kinds in self._kinds().items()]
        return sorted((run for run in found if run is not None), key=lambda run: run.modified)

    def _listed_if_readable(self, identifier: str, kinds: set[str]) -> Listed | None:
        """Return a run as it is listed; None, with a warning, if one entry of the folder cannot be read."""
        try:
            # If it has ended meanwhile, its journal is gone, and a document has come.
            return self._find(identifier, kinds) or self.find(identifier)
        except OSError as exc:
            _LOG.warning("the run %s in %s is left out, as it cannot be read: %s", identifier, self._folder, exc)
            return None

    def remove(self, identifier: str) -> None:
        """Remove document, journal, large values and messages of the run. Idempotent."""
        for kind in ("json", "journal"):
            remove_file(self._path(identifier, kind))
        self.remove_values(identifier, self.list_values(identifier))
        self._remove_mailbox(identifier)

    def sweep(self) -> None:
        """Remove the temporary files and lock files that killed processes left behind."""
        self.sweep_temporary(0.0)
        self._sweep_mailboxes()
        self._sweep_values()
        sweep_locks(self.folder.glob("*.lock"))

    def sweep_temporary(self, older_than: float) -> None:
        """Remove the temporary files that killed processes left behind.

        Args:
            older_than: The age in seconds from which on files are removed that something else than a session may have
                left, or may be writing. Those of sessions are removed unless their run is locked.
        """
        limit = time.time() - older_than
        for path in self.folder.glob(".*.tmp"):
            if leftover := _LEFTOVER.fullmatch(path.name):
                with contextlib.suppress(RunInUseError, FileNotFoundError):  # its session is writing it right now
                    if leftover[2] is None or path.stat().st_mtime <= limit:
                        lock = self.lock(leftover[1])
                        remove_file(path)
                        lock.release()

    def _sweep_values(self) -> None:
        """Remove the large values of runs that are not there: their process died between the two."""
        known = self._kinds()
        for path in self.folder.glob(f"*{VALUES_ENDING}"):
            identifier = path.name.removesuffix(VALUES_ENDING)
            with contextlib.suppress(OSError, RunInUseError):
                if identifier not in known:
                    remove_lost_values(self, identifier)

    def where(self, identifier: str) -> str:
        """Return the path of the document, whether or not it exists yet."""
        return self._path(identifier, "json")

    def count(self) -> int:
        """Return the number of runs, from file names alone."""
        return len(self._kinds())

    def _not_a_folder(self) -> StateError:
        return StateError(
            f"the store {self._folder!r} is not a folder: a file is in its place, or in that of a folder above it; "
            f"move that file away, or use another folder, as with store='file:runs' or RAILTRACKS_HOME"
        )

    def _path(self, identifier: str, kind: str) -> str:
        return f"{self._folder}{os.sep}{identifier}.{kind}"

    def _kinds(self) -> dict[str, set[str]]:
        """Return the identifiers of the runs, and the endings of what there is of each, from file names alone."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return {}
        except NotADirectoryError as exc:
            raise self._not_a_folder() from exc
        found: dict[str, set[str]] = {}
        for name in names:
            stem, _, kind = name.rpartition(".")
            if stem and kind in _KINDS and not name.startswith("."):
                found.setdefault(stem, set()).add(kind)
        return {identifier: kinds for identifier, kinds in found.items() if kinds != _VALUES_ALONE}

    def find(self, identifier: str) -> Listed | None:
        """Return a run as ``list`` does; None if there is no such run."""
        return self._find(identifier, _KINDS)

    def _find(self, identifier: str, kinds: Collection[str]) -> Listed | None:
        """Return a run as ``list`` does; None if it has no file with one of these endings."""
        found, modified, size, has_journal, head = False, 0.0, 0, False, b""
        for kind in filter(kinds.__contains__, ("journal", "json")):  # if both exist, the head is that of the document
            try:
                with open_regular(self._path(identifier, kind)) as file:
                    status = os.fstat(file.fileno())
                    modified, size = max(modified, status.st_mtime), size + status.st_size
                    has_journal = has_journal or kind == "journal"
                    found, head = True, file.read(HEADER_BYTES)
            except FileNotFoundError:
                continue
            except NotADirectoryError as exc:
                raise self._not_a_folder() from exc
        if found and _VALUES in kinds:
            size += self._size_of_values(identifier)
        return Listed(identifier, modified, size, has_journal, head) if found else None


def _content(path: str) -> bytes | None:
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


class PreparedJournal:
    """A journal whose beginning is on disk, under a temporary name."""

    def __init__(self, path: str, temporary: str, is_locked_run: bool) -> None:
        self._path = path
        self._temporary = temporary
        self._is_locked_run = is_locked_run

    def open(self) -> Appender:
        """Put it in place of a journal that exists, and return what appends to it."""
        os.replace(self._temporary, self._path)
        return _FileAppender(self._path, os.open(self._path, _APPEND), self._is_locked_run)

    def append(self, content: bytes) -> None:
        """Add entries, before it is opened, and put them on disk."""
        with open(self._temporary, "ab") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Remove it, unless it was opened. Idempotent."""
        remove_file(self._temporary)


_appenders: weakref.WeakSet[_FileAppender] = weakref.WeakSet()


@after_fork
def _detach_all_after_fork() -> None:
    for appender in _appenders:
        appender.detach_after_fork()


class _FileAppender:
    """Appends each entry to a file in one system call, so that a kill can only tear the last one."""

    def __init__(self, path: str, handle: int, is_locked_run: bool) -> None:
        self._path = path
        self._lock = threading.RLock()  # a signal handler may append too
        self._handle: int | None = handle
        if is_locked_run and HAS_OWN_LOCKS:
            with contextlib.suppress(OSError):  # a second lock, in case that something removes the file of the first
                lock_handle(handle)
        _appenders.add(self)
        self._folder = FolderSync.of(os.path.dirname(path))
        self._since = self._folder.started  # its name is on disk after an fsync of the folder that begins from now on

    def detach_after_fork(self) -> None:
        """Close the handle of a forked child, which would keep the journal locked."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def append(self, content: bytes) -> None:
        with self._lock:
            handle = self._handle
            if handle is None:
                return
            written = os.write(handle, content)
            if written < len(content):
                # A full disk took a part: remove it, so that the journal stays whole.
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(errno.ENOSPC, "No space left on device", self._path)

    def sync(self) -> None:
        with self._lock:
            handle = None if self._handle is None else os.dup(self._handle)  # appending goes on while the disk works
        if handle is None:
            return
        try:
            os.fsync(handle)
            self._folder.sync(self._since)
            if not os.fstat(handle).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the file was removed while it was being written", self._path)
        finally:
            os.close(handle)

    def close(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            try:
                unlock_handle(handle)
            finally:
                os.close(handle)
