"""Where runs are kept by default, and how files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from railtracks._concurrency._after_fork import after_fork

FOLDER = ".railtracks"


def is_blocking(store: object) -> bool:
    """Return whether the methods of a store block, which is so unless its attribute ``blocks`` is false.

    It is not beside ``Store``, because every session calls it and the protocols take a millisecond to import.
    """
    return bool(getattr(store, "blocks", True))


def state_folder() -> Path:
    """Return ``RAILTRACKS_HOME`` if it is set, or else ``.railtracks`` below the working directory."""
    home = os.environ.get("RAILTRACKS_HOME")
    return Path(home) if home else Path.cwd() / FOLDER


_unsynced: set[str] = set()
"""The folders that this process has made, and whose names are not on disk yet."""


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, accessible to their owner only. An existing one is left as it is.

    Their names are on disk after the next :func:`sync_new_folders`.
    """
    if not folder.parent.exists():
        make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        _unsynced.add(os.fspath(folder))


def sync_new_folders(folder: str) -> None:
    """Put the name of a folder on disk, and those of its parents, as far as this process has made them. Blocks.

    Raises:
        OSError: That is not possible.
    """
    while folder in _unsynced:
        parent = os.path.dirname(folder)
        with contextlib.suppress(PermissionError):  # it may be made in, but not opened for reading
            sync_folder(parent)
        _unsynced.discard(folder)
        folder = parent


def create_file(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file for its owner only, creating it as ``flags`` say, and return its handle.

    A missing folder is made, but is not looked for first: it is almost always there.
    """
    flags |= os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_folder(Path(path).parent)
        return os.open(path, flags, 0o600)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading. It does not wait, as ``open`` would for a named pipe that no one writes to.

    Raises:
        FileNotFoundError: There is none.
        OSError: It cannot be opened, or is something else than a file, such as a folder or a pipe.
    """
    if not S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return open(path, "rb")


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove a file. Idempotent."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def temporary_path(path: str) -> str:
    """Return the name of the temporary file of a path that only one writes to at a time."""
    folder, name = os.path.split(path)
    return f"{folder}{os.sep}.{name}.tmp"


def write_atomically(path: str | os.PathLike[str], content: Iterable[bytes], *, is_only_writer: bool = False) -> None:
    """Write a file whole or not at all. It is on disk when this returns, and readable by its owner only.

    The content goes to a temporary file beside it: fsync, rename, fsync of the folder. A missing folder is made, for
    its owner only. Files that are written at the same time, in several threads, share fsyncs of the folder.

    Args:
        path: The file.
        content: What to write, in pieces.
        is_only_writer: Whether nothing else writes to ``path`` at the same time. The temporary file has always the
            same name then, :func:`temporary_path`, so that a killed process leaves at most one behind.

    Raises:
        OSError: It cannot be written. What was at ``path`` before is unchanged.
    """
    temporary = write_temporary(path, content, is_only_writer=is_only_writer)
    try:
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong before counts more
            os.unlink(temporary)
        raise
    FolderSync.of(os.path.dirname(temporary)).sync()


def write_temporary(path: str | os.PathLike[str], content: Iterable[bytes], *, is_only_writer: bool = False) -> str:
    """Write a file that is to be renamed to ``path``, put it on disk, and return its name. See ``write_atomically``.

    Raises:
        OSError: It cannot be written. Nothing is left of it.
    """
    path = os.path.abspath(path)
    folder, name = os.path.split(path)
    temporary = f"{folder}{os.sep}.{name}.{os.urandom(4).hex()}.tmp"
    if is_only_writer:
        temporary = temporary_path(path)
    try:
        with os.fdopen(_create_new(temporary, replaces=is_only_writer), "wb", 0) as file:
            for piece in content:
                _write_all(file, piece)
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):  # it may not exist yet, and what went wrong counts more
            os.unlink(temporary)
        raise
    return temporary


def _create_new(path: str, replaces: bool) -> int:
    """Create a file for its owner only, and return its handle. ``replaces``: one that is there is removed."""
    try:
        return create_file(path, os.O_WRONLY | os.O_EXCL)
    except FileExistsError:
        if not replaces:
            raise
        os.unlink(path)
        return create_file(path, os.O_WRONLY | os.O_EXCL)


def _write_all(file: FileIO, content: bytes) -> None:
    """Write all of ``content``, of which one system call may write a part."""
    while content:
        written = file.write(content)
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        content = content[written:]


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Put the names in a folder on disk, so that a new or renamed file survives a failure of the machine."""
    if os.name == "nt":  # a folder cannot be opened there; NTFS journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderSync:
    """The fsyncs of one folder, which threads share: each waits for one that began after its own change.

    Get the one of a folder from :meth:`of`.

    Attributes:
        started: How many have begun.
    """

    __slots__ = ("__weakref__", "_completed", "_folder", "_turn", "started")

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._turn = threading.RLock()  # reentrant, for a session that the garbage collector ends and that is saved
        self.started = 0
        self._completed = 0  # the number of the latest that has succeeded

    @staticmethod
    def of(folder: str | os.PathLike[str]) -> FolderSync:
        """Return the one for a folder, which is the same for all that use it now."""
        key = os.fspath(folder)
        with _guard:
            found = _syncs.get(key)
            if found is None:
                found = _syncs[key] = FolderSync(key)
            return found

    def sync(self, since: int | None = None) -> None:
        """Put on disk what has changed in the folder. Blocks.

        Args:
            since: The value of ``started`` after the change that must be on disk; None: now.

        Raises:
            OSError: That is not possible.
        """
        if since is None:
            since = self.started
        with self._turn:
            if self._completed <= since:
                sync_new_folders(self._folder)
                self.started = number = self.started + 1
                sync_folder(self._folder)
                self._completed = number


_guard = threading.RLock()  # reentrant, as the garbage collector may end a session while it is held, which is saved
_syncs: weakref.WeakValueDictionary[str, FolderSync] = weakref.WeakValueDictionary()


@after_fork
def _reset() -> None:
    global _guard
    _guard = threading.RLock()  # a thread of the parent may have held it
    _syncs.clear()
