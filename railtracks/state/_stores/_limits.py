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


def slot_prefix(name: str) -> str:
    """Return what the names of all slots of a limit begin with. No run identifier does, as `+` is in none."""
    from hashlib import sha256  # here, as few programs share limits

    return f"limit+{sha256(name.encode()).hexdigest()[:16]}+"


def counted(begun: list[float], count: int, period: float, now: float) -> tuple[float, list[float]]:
    """Count a call that begins now, if that is allowed.

    Args:
        begun: When the latest calls began, sorted.
        count: How many may begin in ``period`` seconds.
        period: Seconds.
        now: Seconds since the epoch.

    Returns:
        0, or the seconds after which it may begin; and when the latest calls began then.
    """
    # Clocks differ, but one that was set back must not stop all calls until the time that it showed before.
    latest = [each for each in begun if abs(each - now) < period][-count:]
    return (latest[0] + period - now, begun) if len(latest) == count else (0.0, [*latest, now])


def packed(begun: list[float]) -> bytes:
    """Return times as they are stored."""
    return pack(f"<{len(begun)}d", *begun)


def unpacked(content: bytes) -> list[float]:
    """Return times that are stored, sorted."""
    return sorted(unpack(f"<{len(content) // 8}d", content))


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
        prefix = slot_prefix(name)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(total):
            try:
                return FileLock(self._path.with_name(f"{self._path.name}.{prefix}{number}.lock"), name)
            except RunInUseError:
                continue
        return None

    def take_rate(self, name: str, count: int, period: float, clock: Callable[[], float]) -> float:
        """Count a call that begins, if that is allowed; see ``LimitStore``."""
        with self.transaction() as connection:
            delay, begun = counted(self._begun(connection, name), count, period, clock())
            if not delay:
                self._note(connection, name, begun)
            return delay

    def give_back_rate(self, name: str) -> None:
        """Take back the latest call that was counted."""
        with self.transaction() as connection:
            self._note(connection, name, self._begun(connection, name)[:-1])

    @staticmethod
    def _begun(connection: sqlite3.Connection, name: str) -> list[float]:
        row = connection.execute("SELECT begun FROM rates WHERE name = ?", (name,)).fetchone()
        return [] if row is None else unpacked(row[0])

    @staticmethod
    def _note(connection: sqlite3.Connection, name: str, begun: list[float]) -> None:
        connection.execute("INSERT OR REPLACE INTO rates VALUES (?, ?)", (name, packed(begun)))
