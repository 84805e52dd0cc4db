"""Locks on runs, which the operating system releases when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from railtracks._concurrency._after_fork import after_fork
from railtracks.exceptions import RunInUseError
from railtracks.state._file_system import make_folder

try:
    import fcntl
except ImportError:  # Windows: there, only sessions of one process exclude each other
    fcntl = None  # type: ignore[assignment]

_LINUX = sys.platform.startswith("linux")
_LAYOUT = "hhqqi0q" if _LINUX else "qqihh0q"
"""``struct flock``: type, whence, start, length, process; elsewhere start, length, process, type, whence."""
_guard = threading.Lock()
_held: dict[str, FileLock] = {}
"""The locks of this process, by file. POSIX locks exclude other processes only."""


class FileLock:
    """A lock, held from construction to ``release``.

    A POSIX record lock: unlike with ``flock``, a child that was forked does not hold it on. Two traps come with it. A
    process that closes any handle of the file loses the lock; so only this module opens it, and never while the lock is
    held. And a file that is removed while others wait to lock it would be two files of one name; so who has
    locked it looks whether it is still the one that the name stands for.

    Args:
        path: An empty file; made if need be, and removed on release.
        identifier: Of the run that it stands for, for the error.

    Raises:
        RunInUseError: another session holds it, in this process or another.
        OSError: the file cannot be made or locked.
    """

    def __init__(self, path: Path, identifier: str) -> None:
        self._path = path
        with _guard:
            make_folder(path.parent)
            self._key = os.path.realpath(path)
            if self._key in _held:
                raise RunInUseError(_problem(path, identifier))
            self._handle = _lock(path, identifier)
            _held[self._key] = self

    def release(self) -> None:
        """Let others have it."""
        with _guard:
            if _held.get(self._key) is self:
                del _held[self._key]
                try:
                    if _is_at(self._path, self._handle):  # and not another's, in a folder that was made anew
                        os.unlink(self._path)
                finally:
                    os.close(self._handle)


def _lock(path: Path, identifier: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if fcntl is not None:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, handle):
                return handle
        except (BlockingIOError, PermissionError) as exc:
            os.close(handle)
            raise RunInUseError(_problem(path, identifier)) from exc
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder removed it while we opened it


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Does a session hold the lock, in this process or another? A look, no more: it may change at once."""
    with _guard:
        if os.path.realpath(path) in _held:
            return True
        if fcntl is None or not path.exists():
            return False
        try:
            handle = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError:
            return False
        try:
            question = struct.pack(_LAYOUT, *((fcntl.F_WRLCK, 0, 0, 0, 0) if _LINUX else (0, 0, 0, fcntl.F_WRLCK, 0)))
            answer = struct.unpack(_LAYOUT, fcntl.fcntl(handle, fcntl.F_GETLK, question))
        finally:
            os.close(handle)
        return bool(answer[0 if _LINUX else 3] != fcntl.F_UNLCK)


def sweep_locks(paths: Iterable[Path]) -> None:
    """Remove the files of locks that nobody holds: their processes were killed."""
    for path in paths:
        with contextlib.suppress(RunInUseError, OSError):  # somebody holds it, or removed it
            FileLock(path, path.stem).release()


def _problem(path: Path, identifier: str) -> str:
    return (
        f"the run {identifier!r} is open in another session, in this process or another ({path} is locked); "
        f"wait for it, or give this one a run_identifier of its own"
    )


@after_fork
def reset() -> None:
    """Forget the locks of this process, as is right in a forked child, which holds none of its parent's."""
    global _guard
    _guard = threading.Lock()
    _held.clear()
