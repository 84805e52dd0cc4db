"""The size of an SQLite file: what large runs have left is given back to the file system.

SQLite keeps the pages of what is removed for later rows, and a log that was long once stays as long. Some of both is of
use, as the next run need not ask for it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

KEPT = 8 << 20
"""The number of bytes of free pages, and of the log, that stay."""
LONGEST = 0.5
"""For how long one call gives pages back. The next one goes on."""
PATIENCE = 0.1
"""For how many seconds it waits for another process that is at work on the file."""
_PAGES = 1_000
"""The number of pages that are given back in one transaction, for which others wait."""
_INCREMENTAL = 2


def prepare_new(connection: sqlite3.Connection) -> None:
    """Let a file that has no tables yet give pages back. For others this does nothing."""
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def configure(connection: sqlite3.Connection) -> None:
    """Set what a connection writes of what is removed.

    Some builds of SQLite overwrite it with zeros, which would write all of a large journal once more, to the log first.
    """
    connection.execute("PRAGMA secure_delete = FAST")
    connection.execute(f"PRAGMA journal_size_limit = {KEPT}")


def give_back(use: Callable[[], AbstractContextManager[sqlite3.Connection]], path: str, wait: float) -> None:
    """Give free pages back, and shorten the log, as far as others who use the file allow it now.

    Args:
        use: Returns a context manager for the connection, without a transaction.
        path: The path of the file.
        wait: For how many seconds the connection waits for other processes elsewhere.
    """
    deadline = time.monotonic() + LONGEST
    is_done = False
    while not is_done and time.monotonic() < deadline:
        with use() as connection, _impatient(connection, wait):
            is_done = not _give_back_some(connection)
    with use() as connection, _impatient(connection, wait):
        _shorten(connection, path)


def _shorten(connection: sqlite3.Connection, path: str) -> None:
    """Write what stands in the log to the file, if one of the two is longer than need be.

    While others read, this leaves both as they are, and says so in a row. A later one does it then.
    """
    pages, size = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    if _size(f"{path}-wal") > KEPT or _size(path) - pages * size > KEPT:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _give_back_some(connection: sqlite3.Connection) -> bool:
    """Give some free pages back. Return whether there are more to give."""
    import sqlite3

    names = ("freelist_count", "page_size", "auto_vacuum")
    free, size, mode = (int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)
    spare = free - KEPT // size
    if mode != _INCREMENTAL or spare <= 0:
        return False
    try:
        # As a script: this yields a row without columns for each page, and execute would stop at the first.
        connection.executescript(f"PRAGMA incremental_vacuum({min(spare, _PAGES)})")
    except sqlite3.OperationalError as exc:
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False  # another process writes; it, or the next save, gives them back
    return spare > _PAGES


@contextmanager
def _impatient(connection: sqlite3.Connection, wait: float) -> Iterator[None]:
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * PATIENCE)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * wait)}")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
