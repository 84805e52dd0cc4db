"""Files: where runs lie by default, what they are called, and how a file is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = ".railtracks"


def state_folder() -> Path:
    """``RAILTRACKS_HOME`` if it is set, or else ``.railtracks`` below the working directory."""
    home = os.environ.get("RAILTRACKS_HOME")
    return Path(home) if home else Path.cwd() / FOLDER


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it, for their owner only. One that exists stays as it is."""
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, content: Iterable[bytes]) -> None:
    """Put ``content`` at ``path``, whole or not at all, on disk when this returns, readable by its owner only.

    A temporary file beside it, fsync, rename, fsync of the folder. A folder that is missing is made, for its owner
    only.

    Raises:
        OSError: it cannot be written; what was at ``path`` is as it was.
    """
    make_folder(path.parent)
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in the folder on disk."""
    if os.name == "nt":  # a folder cannot be opened there; NTFS journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
