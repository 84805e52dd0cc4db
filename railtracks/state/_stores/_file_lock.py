"""Locks on runs, which the operating system releases when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from railtracks._concurrency._after_fork import after_fork
from railtracks.exceptions import RunInUseError
from railtracks.state._file_system import create_file

msvcrt: Any
try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

_LINUX = sys.platform.startswith("linux")
_LAYOUT = "hhqqi0q" if _LINUX else "qqihh0q"
_MEMBERS = "type whence start length process" if _LINUX else "start length process type whence"
"""``struct flock``, which ``F_GETLK`` needs and Python does not declare: first Linux, then macOS and the BSDs.

The offsets have 64 bits on 32-bit systems too, because Python is compiled that way. ``0q`` pads the structure to their
alignment at its end, as a C compiler does.
"""
HAS_POSIX_LOCKS: bool = "fcntl" in globals()
HAS_OWN_LOCKS: bool = HAS_POSIX_LOCKS and hasattr(fcntl, "F_OFD_SETLK")
"""Whether a lock belongs to an open file description (Linux), and not to the process."""
_guard = threading.RLock()  # reentrant, as the garbage collector may end a session while it is held
_opened: int | None = None  # the handle of a lock that is being acquired
_held: dict[object, FileLock] = {}
"""The locks of this process, by each of ``_keys``. Without ``HAS_OWN_LOCKS`` they exclude other processes only."""


def _keys(path: str | os.PathLike[str]) -> list[object]:
    """Return what stands for a lock file in this process: its path, and its name in its folder, if there is one.

    A folder may have several paths. On the other hand, it may be replaced by another one while a lock is held.
    """
    folder, name = os.path.split(path)
    try:
        status = os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return [os.fspath(path)]
    return [os.fspath(path), (status.st_dev, status.st_ino, name)]


class FileLock:
    """A lock that is held from construction until ``release``.

    On Linux it is a lock of the open file description. It stays when a backup or a scanner in this process opens and
    closes the file. A forked child shares it, so the child closes its handle at once. Elsewhere it is a POSIX lock of
    the process, which closing any handle of the file would release. On Windows it is one of the open file, on its first
    byte, which is there although the file is empty.

    If the holder removes the file while others wait to lock it, there may be two files of one name. So after locking
    it, ``_lock`` checks that the file has not been removed.

    Args:
        path: An empty file. It is made if it is missing, and removed on release.
        identifier: The run that the lock is for, named in errors.

    Raises:
        RunInUseError: Another session holds it, in this process or another.
        OSError: The file cannot be made or locked.
    """

    def __init__(self, path: str | os.PathLike[str], identifier: str) -> None:
        self._path = path
        with _guard:
            self._keys = _keys(path)
            if not _held.keys().isdisjoint(self._keys):
                raise RunInUseError(_in_use(path, identifier))
            self._handle, self._file = _lock(path, identifier)
            if len(self._keys) == 1:  # its folder was missing
                self._keys = _keys(path)
            _held.update(dict.fromkeys(self._keys, self))

    def release(self) -> None:
        """Release the lock and remove its file. Idempotent."""
        with _guard:
            held = [key for key in self._keys if _held.get(key) is self]
            if held:
                for key in held:
                    del _held[key]
                if not HAS_POSIX_LOCKS:  # a file that is open cannot be removed there
                    os.close(self._handle)
                    with contextlib.suppress(OSError):  # the next holder has opened it
                        os.unlink(self._path)
                    return
                try:
                    if _file_at(self._path) == self._file:  # and not another's, in a folder that was replaced
                        os.unlink(self._path)
                finally:
                    os.close(self._handle)


def _lock(path: str | os.PathLike[str], identifier: str) -> tuple[int, tuple[int, int]]:
    """Return a handle of the file, locked, and what identifies the file."""
    global _opened
    while True:
        handle = _opened = create_file(path, os.O_RDWR)
        try:
            lock_handle(handle)
            status = os.fstat(handle)
            if status.st_nlink:
                return handle, (status.st_dev, status.st_ino)
        except (BlockingIOError, PermissionError) as exc:
            os.close(handle)
            raise RunInUseError(_in_use(path, identifier)) from exc
        except BaseException:
            os.close(handle)
            raise
        finally:
            _opened = None
        os.close(handle)  # the holder removed the file after it was opened here


def lock_handle(handle: int) -> None:
    """Lock the file that is open under a handle, which may write to it.

    Raises:
        BlockingIOError, PermissionError: Another has locked it.
    """
    if HAS_OWN_LOCKS:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))
    elif HAS_POSIX_LOCKS:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)


def unlock_handle(handle: int) -> None:
    """Release the lock of an open file, also if a process that is being started, or an fsync, has a copy of its handle.

    Raises:
        OSError: The handle is not open.
    """
    if HAS_OWN_LOCKS:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK))


def _file_at(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return what identifies the file at a path; None if there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Return whether a session holds the lock, in this process or another. The answer may be out of date at once."""
    with _guard:
        if _held and not _held.keys().isdisjoint(_keys(path)):
            return True
        return is_file_locked(path)


def is_held_here(path: str | os.PathLike[str]) -> bool:
    """Return whether this process holds the lock whose file has this path."""
    return os.fspath(path) in _held


def is_file_locked(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is locked; without ``HAS_OWN_LOCKS``, by another process."""
    if not os.path.exists(path):
        return False
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return False
    try:
        if not HAS_POSIX_LOCKS:
            return _cannot_lock(handle)
        return bool(_conflicting_lock(handle)["type"] != fcntl.F_UNLCK)
    finally:
        os.close(handle)


def _cannot_lock(handle: int) -> bool:
    """Return whether another has locked the file. Where this cannot be asked, it is tried, for a moment."""
    try:
        lock_handle(handle)
    except PermissionError:
        return True
    return False  # closing the handle releases it


def _flock(kind: int) -> bytes:
    """Return the structure of a lock on a whole file."""
    return struct.pack(_LAYOUT, *{**dict.fromkeys(_MEMBERS.split(), 0), "type": kind}.values())


def _conflicting_lock(handle: int) -> dict[str, int]:
    """Return the lock of another on the file; its ``type`` is ``F_UNLCK`` if there is none."""
    query = fcntl.F_OFD_GETLK if HAS_OWN_LOCKS else fcntl.F_GETLK
    answer = fcntl.fcntl(handle, query, _flock(fcntl.F_WRLCK))
    return dict(zip(_MEMBERS.split(), struct.unpack(_LAYOUT, answer), strict=True))


def sweep_locks(paths: Iterable[Path]) -> None:
    """Remove the files of locks that no session holds, because their processes were killed."""
    for path in paths:
        with contextlib.suppress(RunInUseError, OSError):  # it is held, or was removed meanwhile
            FileLock(path, path.stem).release()


def _in_use(path: str | os.PathLike[str], identifier: str) -> str:
    return (
        f"the run {identifier!r} is open in another session, in this process or another ({path} is locked); "
        f"wait for it to end, or use another run_identifier"
    )


@after_fork
def reset() -> None:
    """Forget all locks, as is right in a forked child, which holds none of its parent's."""
    global _guard, _opened
    _guard = threading.RLock()
    handles = {lock._handle for lock in _held.values()} | (set() if _opened is None else {_opened})
    for handle in handles:
        with contextlib.suppress(OSError):
            os.close(handle)  # or the lock would stay for as long as the child lives
    _opened = None
    _held.clear()
