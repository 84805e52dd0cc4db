"""What processes share in a PostgreSQL store beside runs: limits, and cached results.

A slot of a limit is a lease, as a run has one: a process that has died frees it at once on its machine, and for others
when it has expired. A process that is paused for longer than its lease may lose a slot while its call runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from railtracks.exceptions import RunInUseError
from railtracks.state._stores._cached_results import CachedContent
from railtracks.state._stores._limits import counted, packed, slot_prefix, unpacked
from railtracks.state._stores._postgres._connection import SharedConnection, select
from railtracks.state._stores._postgres._leases import Leases
from railtracks.state._stores._postgres._place import Place
from railtracks.state._stores._protocols import Lock

if TYPE_CHECKING:
    import psycopg


class PostgresLimits:
    """The limits of a PostgresStore: slots in the table ``leases``, rates in ``rates``."""

    _place: Place
    _connection: SharedConnection
    _leases: Leases

    @property
    def limit_group(self) -> str:
        """Where the store is."""
        return self._place.shown

    def take_slot(self, name: str, total: int) -> Lock | None:
        """Take one of the ``total`` slots of a limit; None if none is free."""
        prefix = slot_prefix(name)
        taken = self._leases.all_held(prefix=prefix)
        for number in range(total):
            if (slot := f"{prefix}{number}") not in taken:
                try:
                    return self._leases.take(slot)
                except RunInUseError:  # another process was faster
                    continue
        return None

    def take_rate(self, name: str, count: int, period: float, clock: Callable[[], float]) -> float:
        """Count a call that begins, if that is allowed; see ``LimitStore``."""

        def take(connection: psycopg.Connection[Any]) -> float:
            begun = _begun(connection, name)
            delay, begun = counted(begun, count, period, clock() + _ahead(connection))
            if not delay:
                _note(connection, name, begun)
            return delay

        return self._connection.run(take, again=True)  # counted twice, it has fewer calls begin

    def give_back_rate(self, name: str) -> None:
        """Take back the latest call that was counted."""

        def give_back(connection: psycopg.Connection[Any]) -> None:
            _note(connection, name, _begun(connection, name)[:-1])

        self._connection.run(give_back, again=False)


def _begun(connection: psycopg.Connection[Any], name: str) -> list[float]:
    """Return when the latest calls began, sorted. No other process counts until the transaction ends."""
    connection.execute("INSERT INTO rates VALUES (%s, '') ON CONFLICT (name) DO NOTHING", (name,))
    rows = select(connection, "SELECT begun FROM rates WHERE name = %s FOR UPDATE", (name,))
    return unpacked(bytes(rows[0][0])) if rows else []


def _note(connection: psycopg.Connection[Any], name: str, begun: list[float]) -> None:
    connection.execute("UPDATE rates SET begun = %b WHERE name = %s", (packed(begun), name))


def _ahead(connection: psycopg.Connection[Any]) -> float:
    """Return by how many seconds the clock of the server is ahead of that of this machine, as all go by the first."""
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    return 0.0 if row is None else row[0] - time.time()


class PostgresCache:
    """The cached results of a PostgresStore: the table ``cached_results``."""

    _place: Place
    _connection: SharedConnection

    @property
    def cache_location(self) -> str:
        """Where the store is."""
        return self._place.shown

    def put_cached(self, key: str, cached: CachedContent) -> None:
        """Store a result under a key, in place of one that is there."""
        command = """
            INSERT INTO cached_results VALUES (%s, %s, %s, %b) ON CONFLICT (key) DO UPDATE
            SET stored = excluded.stored, expires = excluded.expires, content = excluded.content
        """
        expires = None if cached.expires == math.inf else cached.expires
        values = (key, cached.stored, expires, cached.content)
        self._connection.run(lambda connection: connection.execute(command, values), again=True, single=True)

    def read_cached(self, key: str) -> CachedContent | None:
        """Return what is stored under a key; None if nothing is."""
        rows = self._connection.rows("SELECT content, stored, expires FROM cached_results WHERE key = %s", (key,))
        if not rows:
            return None
        content, stored, expires = rows[0]
        return CachedContent(bytes(content), stored, math.inf if expires is None else expires)

    def prune_cached(self, now: float, stored_before: float = -math.inf) -> int:
        """Remove what has expired, and what was stored before ``stored_before``. Return how many results."""
        command = "DELETE FROM cached_results WHERE expires <= %s OR stored < %s"
        return self._connection.read(lambda connection: connection.execute(command, (now, stored_before)).rowcount, 0)
