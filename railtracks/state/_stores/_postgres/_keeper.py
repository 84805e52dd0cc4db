"""The thread that renews the leases of a process, and that hears what other processes announce (LISTEN)."""

from __future__ import annotations

import hashlib
import logging
import math
import selectors
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from railtracks.exceptions import RunLostError
from railtracks.state._stores._postgres import _tables
from railtracks.state._stores._postgres._connection import connect, is_usable, leave_to_parent
from railtracks.state._stores._postgres._place import Place

if TYPE_CHECKING:
    import psycopg

_LOG = logging.getLogger("RT")
IDLE = 10.0
"""Seconds without a lease or a listener after which the thread ends."""
WATCH = 60.0
"""Seconds for which those who write a run are asked to announce it. It is asked again in time."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries to reach the server. The time doubles each time, up to a sixth of a lease."""
_RENEW = """
    UPDATE leases SET expires = clock_timestamp() + make_interval(secs => %s)
    FROM unnest(%s::text[], %s::bigint[]) AS mine (identifier, token)
    WHERE leases.identifier = mine.identifier AND leases.token = mine.token RETURNING leases.token
"""
_WATCH = """
    INSERT INTO watchers SELECT unnest(%s::text[]), %s, clock_timestamp() + make_interval(secs => %s)
    ON CONFLICT (identifier, watcher) DO UPDATE SET until = excluded.until
"""


class KeptLease(Protocol):
    """A lease, as far as this module needs it."""

    identifier: str
    token: int

    def lose(self) -> RunLostError: ...


class Keeper:
    """Renews leases, and calls who listens. Its thread has a connection of its own, and lives while there is work.

    Args:
        place: Where the store is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        # The name of a channel has 63 bytes, as that of a schema has.
        self.channel = f"railtracks_{hashlib.sha256(place.schema.encode()).hexdigest()[:16]}"
        self._watcher = uuid.uuid4()
        self._connection: psycopg.Connection[Any] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget leases, listeners and thread, as is right in a forked child."""
        leave_to_parent(self._connection)
        self._connection = None
        self._guard = threading.RLock()  # a finalizer may leave a session while it is held
        self._leases: dict[int, KeptLease] = {}
        self._listeners: dict[str, list[Callable[[], object]]] = {}  # by "m" (message) or "w" (written), and the run
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self._is_closed = False

    # ---- from any thread

    def keep(self, lease: KeptLease) -> None:
        """Renew a lease from now on. It has just been taken."""
        with self._guard:
            self._leases[lease.token] = lease
            self._start()

    def drop(self, lease: KeptLease) -> None:
        """Do not renew a lease any more."""
        with self._guard:
            self._leases.pop(lease.token, None)

    def listen(self, what: str, identifier: str, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called, in the thread of the keeper, when something may have happened to a run.

        It is called, too, when the server could not be reached for some time, and when this begins to work.

        Args:
            what: "m": a message has come; "w": it was written, or released.
            identifier: The run.
            callback: It must be quick.

        Returns:
            What undoes this. Idempotent.
        """
        key = what + identifier
        with self._guard:
            self._listeners.setdefault(key, []).append(callback)
            self._start()
            if self._wake is not None and what == "w":
                self._wake.send(b"x")  # so that those who write it are asked to announce that
        if self._connection is not None:
            callback()  # what has come before is not announced again

        def unlisten() -> None:
            with self._guard:
                callbacks = self._listeners.get(key, [])
                if callback in callbacks:
                    callbacks.remove(callback)
                if not callbacks:
                    self._listeners.pop(key, None)

        return unlisten

    def close(self, wait: bool = True) -> None:
        """End the thread, unless there are leases to renew. It starts again when it is needed.

        Args:
            wait: Whether to wait until it has ended.
        """
        with self._guard:
            if self._leases:
                return
            self._is_closed = True
            thread = self._thread
            if self._wake is not None:
                self._wake.send(b"x")
        if wait and thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _start(self) -> None:
        """Start the thread if it does not run."""
        self._is_closed = False
        if self._thread is not None:
            return
        ours, self._wake = socket.socketpair()
        thread = threading.Thread(target=self._run, args=(ours, self._wake), name="railtracks-postgres", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # "can't start new thread": leases expire, and polling finds messages
            ours.close()
            self._wake.close()
            self._wake = None
            _LOG.warning("No thread can be started that renews the leases of %s", self._place.shown)
            return
        self._thread = thread

    # ---- in the thread

    def _run(self, waking: socket.socket, wake: socket.socket) -> None:
        try:
            self._work(waking, wake)
        except BaseException:  # SystemExit of a handler of the application's log; another thread goes on
            with self._guard:
                self._disconnect()
                self._thread = self._wake = None
                self._start()
            raise

    def _work(self, waking: socket.socket, wake: socket.socket) -> None:
        with waking, wake:
            pause, idle_until = 0.0, time.monotonic() + IDLE
            has_failed = False
            while True:
                with self._guard:
                    if (self._leases or self._listeners) and not self._is_closed:
                        idle_until = time.monotonic() + IDLE
                    elif self._is_closed or time.monotonic() >= idle_until:
                        self._disconnect()
                        self._thread = self._wake = None
                        return
                try:
                    self._turn(waking, idle_until)
                    pause = 0.0
                    if has_failed:
                        _LOG.warning("%s can be reached again", self._place.shown)
                    has_failed = False
                except Exception as exc:  # of the driver, of the network, or of a callback
                    self._disconnect()
                    if not self._leases and not self._listeners:  # it matters to nobody; the next turn ends the thread
                        idle_until = -math.inf
                        continue
                    if not has_failed:
                        has_failed = True
                        reason = self._place.without_secrets(str(exc))
                        _LOG.warning("%s cannot be reached to renew leases: %s", self._place.shown, reason)
                    pause = min(max(SHORTEST_PAUSE, 2 * pause), LONGEST_PAUSE, self._place.lease / 6)
                    _wait(waking, pause)

    def _turn(self, waking: socket.socket, idle_until: float) -> None:
        """Renew everything, and then listen until it is time to renew it again."""
        connection = self._connection
        if connection is None:
            connection = self._connect()
        self._renew(connection)
        self._watch(connection)
        until = min(time.monotonic() + self._place.lease / 3, max(idle_until, time.monotonic() + 0.1))
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ, "server")
            selector.register(waking, selectors.EVENT_READ, "wake")
            while (left := until - time.monotonic()) > 0:
                self._dispatch(connection)
                ready = {key.data for key, _ in selector.select(left)}
                if "server" in ready:
                    connection.pgconn.consume_input()
                    self._dispatch(connection)
                    if not is_usable(connection):
                        raise OSError(f"{self._place.shown}: the server closed the connection")
                if "wake" in ready:
                    waking.recv(4096)
                    return

    def _connect(self) -> psycopg.Connection[Any]:
        self._connection = connection = connect(self._place)
        connection.execute("SET synchronous_commit = off")  # what is lost is a little time of a lease
        if not _tables.are_there(connection, self._place.schema):
            _tables.make(connection, self._place.schema)
        connection.execute(f"LISTEN {self.channel}")
        connection.add_notify_handler(lambda notify: self._notify(notify.payload))
        with self._guard:
            callbacks = [callback for callbacks in self._listeners.values() for callback in callbacks]
        for callback in callbacks:  # something may have happened while nothing was heard
            callback()
        return connection

    def _renew(self, connection: psycopg.Connection[Any]) -> None:
        with self._guard:
            leases = list(self._leases.values())
        if not leases:
            return
        values = self._place.lease, [each.identifier for each in leases], [each.token for each in leases]
        renewed = {token for (token,) in connection.execute(_RENEW, values).fetchall()}
        for lease in leases:
            with self._guard:
                is_lost = lease.token not in renewed and self._leases.get(lease.token) is lease
                if is_lost:
                    del self._leases[lease.token]
            if is_lost:
                lease.lose()

    def _watch(self, connection: psycopg.Connection[Any]) -> None:
        """Ask those who write the runs that are watched to announce it."""
        import psycopg

        with self._guard:
            watched = [key[1:] for key in self._listeners if key[0] == "w"]
        if watched:
            try:
                connection.execute(_WATCH, (watched, self._watcher, WATCH + self._place.lease))
            except psycopg.errors.InsufficientPrivilege:  # who may only read polls
                return

    def _dispatch(self, connection: psycopg.Connection[Any]) -> None:
        while (notify := connection.pgconn.notifies()) is not None:
            self._notify(notify.extra.decode(errors="replace"))

    def _notify(self, key: str) -> None:
        with self._guard:
            callbacks = list(self._listeners.get(key, ()))
        for callback in callbacks:
            callback()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _wait(waking: socket.socket, seconds: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(waking, selectors.EVENT_READ)
        if selector.select(seconds):
            waking.recv(4096)
