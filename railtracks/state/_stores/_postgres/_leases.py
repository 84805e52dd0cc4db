"""Leases: the rows that say which process has which run, and until when unless it renews that.

A lease has a token, which no other lease ever has. Each write of its holder checks in its transaction that the row
still has that token, and locks the row (``FOR KEY SHARE``) until it is committed. Who takes over a lease that has
expired locks the row first (``FOR UPDATE SKIP LOCKED``), and gives it another token. So a holder that was paused for
longer than its lease either writes before it is taken over, or not at all.

Times are the server's. A lease that has expired and that nobody has taken is still its holder's.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._background import Work, background
from railtracks._concurrency._event_loop import running_library
from railtracks.exceptions import RunInUseError, RunLostError
from railtracks.state._stores._postgres._connection import SharedConnection
from railtracks.state._stores._postgres._keeper import Keeper
from railtracks.state._stores._postgres._owner import Owner, has_died, this_process
from railtracks.state._stores._postgres._place import Place

if TYPE_CHECKING:
    import psycopg

_LOG = logging.getLogger("RT")
_TAKE = """
    INSERT INTO leases (identifier, token, expires, machine, process, host, started)
    VALUES (%s, %s, clock_timestamp() + make_interval(secs => %s), %s, %s, %s, %s)
    ON CONFLICT (identifier) DO NOTHING RETURNING token
"""
_HOLDER = """
    SELECT token, machine, process, host, started, extract(epoch FROM expires - clock_timestamp())::float8
    FROM leases WHERE identifier = %s
"""
_TAKE_OVER = """
    WITH free AS (
        SELECT identifier FROM leases WHERE identifier = %s AND token = %s AND (%s OR expires < clock_timestamp())
        FOR UPDATE SKIP LOCKED
    )
    UPDATE leases SET token = %s, expires = clock_timestamp() + make_interval(secs => %s), machine = %s, process = %s,
        host = %s, started = %s
    FROM free WHERE leases.identifier = free.identifier RETURNING leases.token
"""
_RELEASE = """
    WITH released AS (DELETE FROM leases WHERE identifier = %(identifier)s AND token = %(token)s)
    SELECT pg_notify(%(channel)s, 'w' || identifier) FROM watchers
    WHERE identifier = %(identifier)s AND until > clock_timestamp()
"""
_CHECK = "SELECT 1 FROM leases WHERE identifier = %s AND token = %s FOR KEY SHARE"


class Lease:
    """A run that this process has: a ``Lock``.

    Attributes:
        identifier: The run.
        token: What distinguishes this lease from all others.
        lost: Why it is lost; None as long as it is not known to be.
        on_lost: Called once when it is known to be lost, in any thread.
    """

    def __init__(self, leases: Leases, identifier: str, token: int) -> None:
        self._leases = leases
        self.identifier = identifier
        self.token = token
        self.lost: RunLostError | None = None
        self.on_lost: Callable[[RunLostError], object] = bool

    def release(self) -> None:
        """Let others have the run. Blocks; on an event loop, a thread does it soon. Idempotent.

        Raises:
            StoreError: The server cannot be reached. The lease expires.
        """
        self._leases.release(self)

    def lose(self) -> RunLostError:
        """Note that another has taken the run, and return the error that says so."""
        if self.lost is None:
            self.lost = RunLostError(
                f"this process does not have the run {self.identifier!r} any more: it had not renewed its lease of "
                f"{self._leases.place.lease:g} s, as when it was paused or cut off from {self._leases.place.shown}, "
                f"and another one has gone on with the run. Use a longer lease= if that happens often"
            )
            self.on_lost(self.lost)
        return self.lost


class Leases:
    """The leases of one store in this process.

    Args:
        place: Where the store is.
        connection: Where they are taken and released.
        keeper: Renews them.
    """

    def __init__(self, place: Place, connection: SharedConnection, keeper: Keeper) -> None:
        self.place = place
        self._connection = connection
        self._keeper = keeper
        self.reset()

    def reset(self) -> None:
        """Forget all leases, as is right in a forked child: they are its parent's."""
        self._guard = threading.RLock()  # a finalizer may leave a session while it is held
        self._held: dict[str, Lease] = {}
        self._releasing: dict[str, Work] = {}

    def held(self, identifier: str) -> Lease | None:
        """Return the lease that this process has on a run, or had and lost; None if it has none."""
        return self._held.get(identifier)

    def take(self, identifier: str) -> Lease:
        """Take the lease of a run. Blocks.

        Raises:
            RunInUseError: Another has it.
            StoreError: The server cannot be reached.
        """
        self._wait_released(identifier)
        token = secrets.randbits(62) + 1  # made here, so that it is known if the answer of the server is lost
        lease = Lease(self, identifier, token)
        doing = f"take the lease of {identifier!r}"
        self._connection.run(lambda connection: self._take(connection, identifier, token), again=True, doing=doing)
        with self._guard:
            self._held[identifier] = lease
        self._keeper.keep(lease)
        return lease

    def _take(self, connection: psycopg.Connection[Any], identifier: str, token: int) -> None:
        values = (token, self.place.lease, *this_process())
        if connection.execute(_TAKE, (identifier, *values)).fetchone() is not None:
            return
        row = connection.execute(_HOLDER, (identifier,)).fetchone()
        if row is None:  # it was released meanwhile
            if connection.execute(_TAKE, (identifier, *values)).fetchone() is not None:
                return
            raise _in_use(identifier)
        there, owner, seconds = row[0], Owner(*row[1:5]), row[5]
        if there == token:  # the answer to the first try was lost
            return
        dead = has_died(owner)
        if not dead and seconds >= 0:
            raise _in_use(identifier, owner, seconds)
        if connection.execute(_TAKE_OVER, (identifier, there, dead, *values)).fetchone() is None:
            raise _in_use(identifier)  # another takes it, or its holder is in the middle of writing

    def is_held(self, identifier: str) -> bool:
        """Return whether anybody has the run. Blocks."""
        self._wait_released(identifier)
        return bool(self.all_held(identifier))

    def all_held(self, identifier: str | None = None, prefix: str = "") -> set[str]:
        """Return what anybody has: everything, one run, or that whose name begins with ``prefix``. Blocks."""
        query = """
            SELECT identifier, machine, process, host, started FROM leases
            WHERE expires >= clock_timestamp() AND (%s::text IS NULL OR identifier = %s) AND starts_with(identifier, %s)
        """
        doing = "see which runs are open" if identifier is None else f"read the run {identifier!r}"
        rows = self._connection.rows(query, (identifier, identifier, prefix), doing)
        return {row[0] for row in rows if not has_died(Owner(*row[1:]))}

    def check(self, connection: psycopg.Connection[Any], *identifiers: str) -> None:
        """Check, in a transaction that writes, that this process still has these runs, or that nobody has them.

        Raises:
            RunLostError: Another has taken one that this process had.
            RunInUseError: Another has one that this process has not, as after an outage in which it could not be taken.
        """
        for identifier in sorted(identifiers):
            lease = self._held.get(identifier)
            if lease is None:
                self._check_free(connection, identifier)
                continue
            row = None if lease.lost else connection.execute(_CHECK, (identifier, lease.token)).fetchone()
            if row is None:
                raise lease.lose()

    def _check_free(self, connection: psycopg.Connection[Any], identifier: str) -> None:
        row = connection.execute(f"{_HOLDER} AND expires >= clock_timestamp() FOR KEY SHARE", (identifier,)).fetchone()
        owner = None if row is None else Owner(*row[1:5])
        # This process may have it by another store object of the same place.
        if row is not None and owner is not None and owner != this_process() and not has_died(owner):
            raise _in_use(identifier, owner, row[5])

    def write(self, command: str, values: Sequence[object], *identifiers: str) -> None:
        """Execute a command that writes these runs, and may be done twice. Blocks.

        Raises:
            RunLostError: This process has lost one of them.
            StoreError: The server cannot be reached, or reports an error.
        """

        def execute(connection: psycopg.Connection[Any]) -> None:
            self.check(connection, *identifiers)
            connection.execute(command, values)

        self._connection.run(execute, again=True)

    def release(self, lease: Lease) -> None:
        """Release a lease. Idempotent."""
        with self._guard:
            if self._held.get(lease.identifier) is not lease:
                return
            del self._held[lease.identifier]
            self._keeper.drop(lease)
            if lease.lost is not None:
                return
            on_loop = running_library() is not None
            if on_loop:
                self._releasing[lease.identifier] = work = Work(lambda: self._release_later(lease))
        if on_loop:
            background.submit(work)
        else:
            self._release(lease)

    def _release(self, lease: Lease) -> None:
        values = {"identifier": lease.identifier, "token": lease.token, "channel": self._keeper.channel}
        self._connection.run(lambda connection: connection.execute(_RELEASE, values), again=True, single=True)

    def _release_later(self, lease: Lease) -> None:
        try:
            self._release(lease)
        except OSError as exc:
            text = "The run %s is not released at once, but when its lease of %g s has expired: %s"
            _LOG.warning(text, lease.identifier, self.place.lease, exc)
        finally:
            with self._guard:
                self._releasing.pop(lease.identifier, None)

    def _wait_released(self, identifier: str) -> None:
        work = self._releasing.get(identifier)
        if work is not None:
            work.wait()


def _in_use(identifier: str, owner: Owner | None = None, seconds: float = 0.0) -> RunInUseError:
    who = ""
    if owner is not None:
        who = f" (process {owner.process} on {owner.machine}, whose lease ends in {seconds:.0f} s unless it is renewed)"
    return RunInUseError(
        f"the run {identifier!r} is open in another session{who}; wait for it to end, or use another run_identifier"
    )
