"""Limits that several processes share: how many calls run at once, and how many begin in a time.

A slot is the lock of a file beside the store, so that a process that ends, however it ends, frees its slots at once. A
rate is a row: when the latest calls began. None of this belongs to a run, and nothing of it is needed to resume one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from struct import pack, unpack
from typing import TYPE_CHECKING, Protocol

from railtracks.exceptions import RunInUseError
from railtracks.state._stores._file_lock import FileLock
from railtracks.state._stores._protocols import Lock

if TYPE_CHECKING:
    import sqlite3


class LimitStore(Protocol):
    """The part of a store that keeps limits for several processes. A store need not have it.

    All methods block, and may be called from any thread and any process, at the same time.

    Raises: OSError where something cannot be read or written.
    """

    @property
    def limit_group(self) -> str:
        """What is equal for all stores that share their limits, such as the path of their file."""

    def take_slot(self, name: str, total: int) -> Lock | None:
        """Take one of the ``total`` slots of a limit; None if none is free."""

    def take_rate(self, name: str, count: int, period: float, clock: Callable[[], float]) -> float:
        """Count a call that begins, if no more than ``count`` begin in any ``period`` seconds then.

        Args:
            name: The name of the limit.
            count: How many.
            period: Seconds.
            clock: Returns seconds since the epoch. It is read when no other process counts.

        Returns:
            0; or the seconds after which it may begin, and it was not counted.
        """

    def give_back_rate(self, name: str) -> None:
        """Take back the latest call that was counted: it did not begin."""


LIMIT_METHODS = ("take_slot", "take_rate", "give_back_rate")


def find_limit_store(store: object) -> LimitStore | None:
    """Return what keeps limits for several processes in a store; None if it cannot keep any."""
    has_all = all(callable(getattr(store, name, None)) for name in LIMIT_METHODS)
    return store if has_all else None  # type: ignore[return-value]


class SQLiteLimits:
    """The limits of an SQLiteStore."""

    LIMITS_SCHEMA = "CREATE TABLE IF NOT EXISTS rates (name TEXT PRIMARY KEY, begun BLOB NOT NULL);"
    _path: Path

    if TYPE_CHECKING:

        def transaction(self, kind: str = "IMMEDIATE") -> AbstractContextManager[sqlite3.Connection]: ...

    @property
    def limit_group(self) -> str:
        """The path of the file."""
        return os.fspath(self._path)

    def take_slot(self, name: str, total: int) -> Lock | None:
        """Take one of the ``total`` slots of a limit; None if none is free."""
        from hashlib import sha256  # here, as few programs share limits

        digest = sha256(name.encode()).hexdigest()[:16]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(total):
            try:  # `+` is in no run identifier
                return FileLock(self._path.with_name(f"{self._path.name}.limit+{digest}+{number}.lock"), name)
            except RunInUseError:
                continue
        return None

    def take_rate(self, name: str, count: int, period: float, clock: Callable[[], float]) -> float:
        """Count a call that begins, if that is allowed; see ``LimitStore``."""
        with self.transaction() as connection:
            now = clock()
            # Clocks differ, but one that was set back must not stop all calls until the time that it showed before.
            begun = [each for each in self._begun(connection, name) if abs(each - now) < period][-count:]
            if len(begun) == count:
                return begun[0] + period - now
            self._note(connection, name, [*begun, now])
            return 0.0

    def give_back_rate(self, name: str) -> None:
        """Take back the latest call that was counted."""
        with self.transaction() as connection:
            self._note(connection, name, self._begun(connection, name)[:-1])

    @staticmethod
    def _begun(connection: sqlite3.Connection, name: str) -> list[float]:
        row = connection.execute("SELECT begun FROM rates WHERE name = ?", (name,)).fetchone()
        return [] if row is None else sorted(unpack(f"<{len(row[0]) // 8}d", row[0]))

    @staticmethod
    def _note(connection: sqlite3.Connection, name: str, begun: list[float]) -> None:
        content = pack(f"<{len(begun)}d", *begun)
        connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?)", (name, content))
