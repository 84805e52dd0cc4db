"""PostgresStore: runs in a PostgreSQL database, for processes of several machines."""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._background import wait_for_pending
from railtracks.exceptions import RunInUseError
from railtracks.state._document._compression import beginning_of
from railtracks.state._stores._headers import HEADER_BYTES, read_document_header
from railtracks.state._stores._parts import decompress_part, in_parts, joined
from railtracks.state._stores._postgres._committer import Committer, PostgresAppender
from railtracks.state._stores._postgres._connection import SharedConnection, select
from railtracks.state._stores._postgres._keeper import Keeper
from railtracks.state._stores._postgres._leases import Leases
from railtracks.state._stores._postgres._mailbox import PostgresMailbox, PostgresValues
from railtracks.state._stores._postgres._place import parse_place
from railtracks.state._stores._postgres._shared import PostgresCache, PostgresLimits
from railtracks.state._stores._protocols import Appender, Listed, Lock, Stored
from railtracks.state._stores._values import remove_lost_values

if TYPE_CHECKING:
    import psycopg

_stores: weakref.WeakSet[PostgresStore] = weakref.WeakSet()
_COLUMNS = ("flow_name", "session_name", "status", "start_time", "end_time", "calls")
_ANNOUNCE = "SELECT pg_notify(%s, 'w' || identifier) FROM watchers WHERE identifier = %s AND until > clock_timestamp()"


class PostgresStore(PostgresMailbox, PostgresValues, PostgresLimits, PostgresCache):
    """Runs in a schema of a PostgreSQL database, which processes of any number of machines may use at once.

    A process has a run by a lease, which it renews. When it has died, and its lease has expired, a process of another
    machine may go on with the run; on the machine where it died, one may do so at once. What takes over a run that was
    merely paused for longer than its lease keeps it: the session that had it before writes no more, and ends with
    ``RunLostError``.

    Journal entries of all sessions of the process are committed together by one thread, so with ``durability="async"``
    a killed process may lose those of its last 50 milliseconds or so. A process has up to three connections.

    For your own queries, the table ``runs`` has ``identifier``, ``flow_name``, ``session_name``, ``status``,
    ``start_time``, ``end_time`` (seconds since the epoch), ``calls`` and ``document`` (JSON in UTF-8, compressed if it
    is large).

    Args:
        conninfo: What libpq takes: ``"postgresql://user:password@host/database"``, or ``"host=... dbname=..."``. What
            it leaves out comes from libpq's environment variables and files, such as ``PGPASSWORD`` and ``~/.pgpass``.
            As a URL, it may have ``schema`` and ``lease`` among its parameters.
        schema: The schema of the tables, by default "railtracks". Both are made when the store is first written to.
        lease: Seconds after which another machine may take over a run whose process does not renew its lease any more,
            by default 30. It is renewed three times in that time.

    Raises:
        ConfigError: An argument is not allowed, or the package ``psycopg`` (the extra ``postgres``) is missing.
    """

    blocks = True
    lock_blocks = True
    reach = "network"

    def __init__(self, conninfo: str, *, schema: str | None = None, lease: float | None = None) -> None:
        self._place = place = parse_place(conninfo, schema, lease)
        self._connection = SharedConnection(place)
        self._keeper = Keeper(place)
        self._leases = Leases(place, self._connection, self._keeper)
        self._writer = SharedConnection(place)
        self._committer = Committer(self._writer, self._leases, self._keeper.channel)
        _stores.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how it is pickled: with the password, if it has one."""
        place = self._place
        return partial(type(self), schema=place.schema, lease=place.lease), (place.conninfo,)

    def __repr__(self) -> str:
        return f"<PostgresStore {self._place.shown}>"

    # ---- locks

    def lock(self, identifier: str) -> Lock:
        """Take the lease of the run. Blocks.

        Raises:
            RunInUseError: Another session holds it, in this process or another, on any machine.
        """
        return self._leases.take(identifier)

    def is_locked(self, identifier: str) -> bool:
        """Return whether a session holds the lease of the run, on any machine. Blocks."""
        return self._leases.is_held(identifier)

    def all_locked(self) -> set[str]:
        """Return the runs whose leases are held by any session. Blocks."""
        return self._leases.all_held()

    # ---- journals

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        """Begin a journal with ``content``, in place of one that exists. Its first ``sync`` writes to the database."""
        return PostgresAppender(self._committer, identifier, self._leases.held(identifier), content)

    def move_journal(self, identifier: str, to: str) -> bool:
        """Move the journal to another identifier, which has no run yet. Return whether there was a journal."""

        def move(connection: psycopg.Connection[Any]) -> bool:
            self._leases.check(connection, identifier)
            command = "UPDATE journals SET identifier = %s WHERE identifier = %s"
            return connection.execute(command, (to, identifier)).rowcount > 0

        if not self._connection.rows("SELECT 1 FROM journals WHERE identifier = %s LIMIT 1", (identifier,)):
            return False
        return self._connection.run(move, again=False)

    # ---- documents

    def exists(self, identifier: str) -> bool:
        """Return whether there is a document."""
        query = "SELECT 1 FROM runs WHERE identifier = %s"
        return bool(self._connection.rows(query, (identifier,), f"read the run {identifier!r}"))

    def modified(self, identifier: str) -> float | None:
        """Return when the run was last written to, in seconds since the epoch; None if there is no such run."""
        query = """
            SELECT max(modified) FROM (
                SELECT modified FROM runs WHERE identifier = %(identifier)s
                UNION ALL SELECT modified FROM journals WHERE identifier = %(identifier)s
            ) AS written
        """
        rows = self._connection.rows(query, {"identifier": identifier}, f"read the run {identifier!r}")
        return rows[0][0] if rows else None

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document, in place of one that exists, and remove the journal, in one transaction."""
        first, *others = [*in_parts(content)] or [b""]
        facts = read_document_header(first[:HEADER_BYTES])
        names = ", ".join(("identifier", "modified", *_COLUMNS, "document"))
        values = (identifier, time.time(), *(_column(name, facts.get(name)) for name in _COLUMNS), first)
        marks = ", ".join(["%s"] * (len(values) - 1))

        def write(connection: psycopg.Connection[Any]) -> None:
            self._leases.check(connection, identifier)
            for table in ("journals", "documents", "runs"):
                connection.execute(f"DELETE FROM {table} WHERE identifier = %s", (identifier,))  # noqa: S608 (our names)
            connection.execute(f"INSERT INTO runs ({names}) VALUES ({marks}, %b)", values)  # noqa: S608 (likewise)
            for part, other in enumerate(others, 1):
                connection.execute("INSERT INTO documents VALUES (%s, %s, %b)", (identifier, part, other))
            connection.execute(_ANNOUNCE, (self._keeper.channel, identifier))

        self._connection.run(write, again=True, doing=f"save the run {identifier!r}")

    # ---- reading

    def read(self, identifier: str) -> Stored | None:
        """Return what is stored of the run; None if there is no such run."""
        queries = (
            """
            SELECT content FROM (
                SELECT 0 AS part, document AS content FROM runs WHERE identifier = %(identifier)s
                UNION ALL SELECT part, content FROM documents WHERE identifier = %(identifier)s
            ) AS parts ORDER BY part
            """,
            "SELECT content FROM journals WHERE identifier = %(identifier)s ORDER BY part",
        )

        def read(connection: psycopg.Connection[Any]) -> list[list[bytes]]:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # of one moment
            values = {"identifier": identifier}
            return [[bytes(part) for (part,) in select(connection, query, values)] for query in queries]

        nothing: list[list[bytes]] = [[], []]
        document, journal = self._connection.read(read, nothing, f"read the run {identifier!r}")
        if not document and not journal:
            return None
        return Stored(joined(document), joined([*map(decompress_part, journal)]))

    def list(self) -> Sequence[Listed]:
        """Return all runs, the one that was written to least recently first."""
        return self._list(None)

    def find(self, identifier: str) -> Listed | None:
        """Return a run as ``list`` does; None if there is no such run."""
        return next(iter(self._list(identifier)), None)

    def _list(self, identifier: str | None) -> Sequence[Listed]:
        condition = "true" if identifier is None else "identifier = %(identifier)s"
        query = f"""
            WITH stored AS (
                SELECT identifier, modified, length(document) AS size, substring(document FOR {HEADER_BYTES}) AS head
                FROM runs WHERE {condition}
            ), more AS (
                SELECT identifier, sum(length(content)) AS size FROM documents WHERE {condition} GROUP BY identifier
            ), written AS (
                SELECT identifier, max(modified) AS modified, sum(length(content)) AS size
                FROM journals WHERE {condition} GROUP BY identifier
            ), begun AS (
                SELECT identifier, content AS head FROM journals
                WHERE part = 0 AND {condition} AND identifier NOT IN (SELECT identifier FROM runs)
            ), values_beside AS (
                SELECT identifier, sum(length(content)) AS size FROM large_values WHERE {condition} GROUP BY identifier
            )
            SELECT identifier, greatest(stored.modified, written.modified) AS modified,
                (coalesce(stored.size, 0) + coalesce(more.size, 0) + coalesce(written.size, 0)
                    + coalesce(values_beside.size, 0))::bigint,
                written.identifier IS NOT NULL, stored.head, begun.head
            FROM stored FULL JOIN written USING (identifier) LEFT JOIN more USING (identifier)
                LEFT JOIN begun USING (identifier) LEFT JOIN values_beside USING (identifier)
            ORDER BY 2
        """  # noqa: S608 (our conditions)
        doing = "list the runs" if identifier is None else f"read the run {identifier!r}"
        rows = self._connection.rows(query, {"identifier": identifier}, doing)
        return [
            Listed(
                name, modified, size, has_journal,
                bytes(head) if head is not None else beginning_of(bytes(begun or b""), HEADER_BYTES),
            )
            for name, modified, size, has_journal, head, begun in rows
        ]  # fmt: skip

    # ---- removing

    def remove(self, identifier: str) -> None:
        """Remove document, journal, large values and messages of the run. Idempotent."""

        def delete(connection: psycopg.Connection[Any]) -> None:
            self._leases.check(connection, identifier)
            for table in ("runs", "documents", "journals", "large_values", "messages"):
                connection.execute(f"DELETE FROM {table} WHERE identifier = %s", (identifier,))  # noqa: S608 (our names)

        self._connection.run(delete, again=True, doing=f"remove the run {identifier!r}")

    def sweep(self) -> None:
        """Remove leases that expired long ago, and the large values of runs that are not there."""

        def delete(connection: psycopg.Connection[Any]) -> list[str]:
            connection.execute("DELETE FROM leases WHERE expires < clock_timestamp() - interval '1 day'")
            connection.execute("DELETE FROM watchers WHERE until < clock_timestamp() - interval '1 hour'")
            query = """
                SELECT DISTINCT identifier FROM large_values WHERE identifier NOT IN (
                    SELECT identifier FROM runs UNION SELECT identifier FROM journals
                )
            """
            return [name for (name,) in connection.execute(query).fetchall()]

        for identifier in self._connection.run(delete, again=True):
            try:
                remove_lost_values(self, identifier)
            except RunInUseError:
                continue

    # ---- the store itself

    def where(self, identifier: str) -> str:
        """Return where the database is, without a password, and the identifier, for people."""
        return f"{self._place.shown}, as {identifier}"

    def close(self) -> None:
        """Close the connections. The next use opens others. The end of the process does this."""
        self._keeper.close()
        self._connection.close()
        self._writer.close()

    def __del__(self) -> None:
        keeper = getattr(self, "_keeper", None)  # missing if an argument was not allowed
        if keeper is not None:
            keeper.close(wait=False)

    def reset(self) -> None:
        """Leave connections, threads and leases to the parent process, as is right in a forked child."""
        for part in (self._connection, self._writer, self._keeper, self._leases, self._committer):
            part.reset()


def _column(name: str, value: object) -> object:
    """Return a member of a document as it stands in its column: without what PostgreSQL does not take for text."""
    kinds: dict[str, tuple[type, ...]] = {"calls": (int,), "start_time": (int, float), "end_time": (int, float)}
    if not isinstance(value, kinds.get(name, (str,))):  # a document that something else has written
        return None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    return value


@atexit.register
def _close_all() -> None:
    if _stores:
        wait_for_pending()  # sessions that are still being saved would open their connections again
    for store in list(_stores):
        store.close()


@after_fork
def _reset_all() -> None:
    for store in _stores:
        store.reset()
