"""Where runs are kept by default, and how files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

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


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, accessible to their owner only. An existing one is left as it is."""
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, content: Iterable[bytes]) -> None:
    """Write a file whole or not at all. It is on disk when this returns, and readable by its owner only.

    The content goes to a temporary file beside it: fsync, rename, fsync of the folder. A missing folder is made, for
    its owner only.

    Raises:
        OSError: It cannot be written. What was at ``path`` before is unchanged.
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
    """Put the names in a folder on disk, so that a new or renamed file survives a failure of the machine."""
    if os.name == "nt":  # a folder cannot be opened there; NTFS journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
