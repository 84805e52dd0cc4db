"""The state file: where it lies, what it is called, how it is written.

``json`` is imported where it is used: a program that saves nothing need not load it.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from pathlib import Path
from typing import Any

FOLDER = ".railtracks"


def state_folder() -> Path:
    """``RAILTRACKS_HOME`` if it is set, or else ``.railtracks`` below the working directory."""
    home = os.environ.get("RAILTRACKS_HOME")
    return Path(home) if home else Path.cwd() / FOLDER


def state_path(identifier: str) -> Path:
    """The state file of a session."""
    return state_folder() / f"{identifier}.json"


def slug(name: str, problem: str | None, limit: int) -> str:
    """``name`` as a safe file name: itself when there is no ``problem``, or else what is safe of it and a digest."""
    if problem is None:
        return name
    digest = f"{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"  # tells names apart; hides nothing
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[: limit - 9].rstrip("-")  # no dots: `con.txt` is reserved
    return f"{safe or 'session'}-{digest}"


def dumps(data: Any) -> str:
    """Plain data as JSON, in ASCII."""
    import json

    return json.dumps(data)


def loads(content: bytes) -> Any:
    """Plain data from JSON. ValueError if it is none, RecursionError if it is nested too deeply."""
    import json

    return json.loads(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole or not at all, on disk when this returns, readable by its owner only.

    A temporary file beside it, fsync, rename, fsync of the folder. A folder that is missing is made, for its owner
    only.

    Raises:
        OSError: it cannot be written; what was at ``path`` is as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there; NTFS journals the rename itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
