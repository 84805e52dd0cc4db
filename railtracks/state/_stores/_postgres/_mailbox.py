"""The mailbox and the large values of a PostgreSQL store: the tables ``messages`` and ``large_values``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence

from railtracks.state._stores._postgres._connection import SharedConnection
from railtracks.state._stores._postgres._keeper import Keeper
from railtracks.state._stores._postgres._leases import Leases


class PostgresMailbox:
    """The mailbox of a PostgresStore."""

    _connection: SharedConnection
    _keeper: Keeper
    _leases: Leases

    def put_message(self, identifier: str, content: bytes) -> None:
        """Add a message for the run, behind all that are there. It is committed when this returns."""
        command = """
            WITH added AS (
                INSERT INTO messages (identifier, key, content) VALUES (%s, %s, %s) ON CONFLICT (key) DO NOTHING
            )
            SELECT pg_notify(%s, 'm' || %s)
        """
        # With a key of its own it can be put twice, if the answer of the server was lost, and is there once.
        values = (identifier, uuid.uuid4(), content, self._keeper.channel, identifier)
        doing = f"send a message to {identifier!r}"
        self._connection.run(lambda each: each.execute(command, values), again=True, single=True, doing=doing)

    def list_messages(self, identifier: str) -> Sequence[str]:
        """Return the numbers of the run's messages, in the order in which they were added."""
        query = "SELECT number FROM messages WHERE identifier = %s ORDER BY number"
        return [str(number) for (number,) in self._connection.rows(query, (identifier,))]

    def read_message(self, identifier: str, number: str) -> bytes | None:
        """Return the content of a message; None if it was removed."""
        query = "SELECT content FROM messages WHERE identifier = %s AND number = %s"
        rows = self._connection.rows(query, (identifier, int(number)))
        return bytes(rows[0][0]) if rows else None

    def remove_message(self, identifier: str, number: str) -> None:
        """Remove a message. Idempotent."""
        command = "DELETE FROM messages WHERE identifier = %s AND number = %s"
        self._leases.write(command, (identifier, int(number)), identifier)

    def move_messages(self, identifier: str, to: str) -> None:
        """Move all messages of the run to another identifier, which has none yet."""
        command = "UPDATE messages SET identifier = %s WHERE identifier = %s"
        self._leases.write(command, (to, identifier), identifier)

    def listen(self, identifier: str, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called, in another thread, when a message may have come. Return what undoes this."""
        return self._keeper.listen("m", identifier, callback)

    def watch(self, identifier: str, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called, in another thread, when a run may have been written to, or released.

        Return what undoes this.
        """
        return self._keeper.listen("w", identifier, callback)


class PostgresValues:
    """The large values of a PostgresStore."""

    _connection: SharedConnection
    _leases: Leases

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        """Store a value of the run. It is committed when this returns."""
        command = """
            INSERT INTO large_values VALUES (%s, %s, %b)
            ON CONFLICT (identifier, digest) DO UPDATE SET content = excluded.content
        """
        self._leases.write(command, (identifier, digest, content), identifier)

    def read_value(self, identifier: str, digest: str) -> bytes | None:
        """Return what is stored under a digest; None if nothing is."""
        query = "SELECT content FROM large_values WHERE identifier = %s AND digest = %s"
        rows = self._connection.rows(query, (identifier, digest))
        return bytes(rows[0][0]) if rows else None

    def list_values(self, identifier: str) -> Sequence[str]:
        """Return the digests of the run's values."""
        query = "SELECT digest FROM large_values WHERE identifier = %s"
        return [str(digest) for (digest,) in self._connection.rows(query, (identifier,))]

    def copy_values(self, identifier: str, to: str, digests: Collection[str]) -> None:
        """Let another run have some of the values, as far as they are there."""
        command = """
            INSERT INTO large_values SELECT %s, digest, content FROM large_values
            WHERE identifier = %s AND digest = ANY(%s) ON CONFLICT (identifier, digest) DO NOTHING
        """
        if digests:
            self._leases.write(command, (to, identifier, list(digests)), identifier, to)

    def remove_values(self, identifier: str, digests: Collection[str]) -> None:
        """Remove some of the run's values. Idempotent."""
        command = "DELETE FROM large_values WHERE identifier = %s AND digest = ANY(%s)"
        if digests:
            self._leases.write(command, (identifier, list(digests)), identifier)
