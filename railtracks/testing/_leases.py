"""LeaseStore: a store in memory whose leases expire, as those of the PostgreSQL store do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from railtracks._test_hooks import runtime_hooks
from railtracks._test_probe import expected_value
from railtracks.exceptions import ConfigError, RunInUseError, RunLostError
from railtracks.state import MemoryStore


class LeaseStore(MemoryStore):
    """A store in memory, as one machine sees it, with leases that expire.

    A session has its run as long as its machine renews the lease. A machine that is cut off does not, and does not
    notice that. When the lease has expired, in virtual time if there is such, a session on another machine may take the
    run. From then on what the first one writes raises ``RunLostError``, and nothing of it is stored::

        here = LeaseStore(lease=30)
        there = here.machine()
        here.cut_off()

    Args:
        lease: Seconds from the moment at which a machine is cut off until others may take its runs.

    Attributes:
        refused: The writes that came too late: what was to be done, and the run.

    Raises:
        ConfigError: ``lease`` is not a number of seconds.
    """

    def __init__(self, *, lease: float = 30.0) -> None:
        if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 <= lease < 2**62:
            raise ConfigError(f"LeaseStore: lease is {lease!r}; expected {expected_value('seconds, 0 or more', lease)}")
        super().__init__()
        self.lease = lease
        self._lease_guard = threading.RLock()
        self._leases: dict[str, _Lease] = {}  # of all machines
        self._begin()

    def _begin(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self._held: dict[str, _Lease] = {}  # of this machine
        self._cut_off_at: float | None = None

    def machine(self) -> LeaseStore:
        """Return the same store as another machine sees it."""
        other: LeaseStore = object.__new__(LeaseStore)
        vars(other).update(vars(self))
        other._begin()
        return other

    def cut_off(self) -> None:
        """Have this machine renew its leases no more. Its sessions go on, and read and write what they still may."""
        self._cut_off_at = _now()

    def reconnect(self) -> None:
        """Have this machine renew its leases again. It notices those that others have taken."""
        self._cut_off_at = None
        for identifier, lease in list(self._held.items()):
            if self._leases.get(identifier) is not lease:
                lease.lose()

    # ---- leases

    def lock(self, identifier: str) -> _Lease:
        """Take the lease of the run.

        Raises:
            RunInUseError: another session has it, and it has not expired.
        """
        with self._lease_guard:
            if self.is_locked(identifier):
                raise RunInUseError(
                    f"the run {identifier!r} is open in another session; its lease ends with that session, or when "
                    f"it is not renewed for {self.lease:g} s"
                )
            self._leases[identifier] = self._held[identifier] = lease = _Lease(self, identifier)
        return lease

    def is_locked(self, identifier: str) -> bool:
        """Return whether a session has a lease of the run that has not expired."""
        lease = self._leases.get(identifier)
        return lease is not None and not lease.store._has_expired()

    def release(self, lease: _Lease) -> None:
        """Let others have the run. Idempotent."""
        with self._lease_guard:
            for leases in (self._leases, self._held):
                if leases.get(lease.identifier) is lease:
                    del leases[lease.identifier]

    def _has_expired(self) -> bool:
        return self._cut_off_at is not None and _now() >= self._cut_off_at + self.lease

    def check(self, what: str, lease: _Lease | None) -> None:
        """Check that a lease of this machine is not lost, before something is written.

        Raises:
            RunLostError: another session has the run.
        """
        if lease is not None and self._leases.get(lease.identifier) is not lease:
            self.refused.append((what, lease.identifier))
            raise lease.lose()

    # ---- writing

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Any:
        """Begin a journal; see ``Store``. Raises RunLostError, as all methods that write do."""
        lease = self._held.get(identifier)
        with self._lease_guard:
            self.check("open", lease)
            return _LeaseAppender(self, lease, super().open(identifier, content, durable))

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document; see ``Store``."""
        with self._lease_guard:
            self.check("save", self._held.get(identifier))
            super().save(identifier, content)

    def move_journal(self, identifier: str, to: str) -> bool:
        """Move a journal; see ``Store``."""
        with self._lease_guard:
            self.check("move_journal", self._held.get(identifier))
            return super().move_journal(identifier, to)

    def remove(self, identifier: str) -> None:
        """Remove a run; see ``Store``."""
        with self._lease_guard:
            self.check("remove", self._held.get(identifier))
            super().remove(identifier)

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        """Store a large value of a run."""
        with self._lease_guard:
            self.check("put_value", self._held.get(identifier))
            super().put_value(identifier, digest, content)

    def remove_message(self, identifier: str, number: str) -> None:
        """Remove a message to a run, which it has received."""
        with self._lease_guard:
            self.check("remove_message", self._held.get(identifier))
            super().remove_message(identifier, number)


class _Lease:
    """The lease of a run.

    Attributes:
        lost: Why it is lost; None as long as that is not known.
        on_lost: Called once when it is known to be lost.
    """

    def __init__(self, store: LeaseStore, identifier: str) -> None:
        self.store = store
        self.identifier = identifier
        self.lost: RunLostError | None = None
        self.on_lost: Callable[[RunLostError], object] = bool

    def release(self) -> None:
        """Let others have the run. Idempotent."""
        self.store.release(self)

    def lose(self) -> RunLostError:
        """Note that another session has the run, and return the error that says so."""
        if self.lost is None:
            self.lost = RunLostError(
                f"this machine does not have the run {self.identifier!r} any more: it had not renewed its lease of "
                f"{self.store.lease:g} s, and another one has gone on with the run"
            )
            self.on_lost(self.lost)
        return self.lost


class _LeaseAppender:
    """An open journal, to which nothing is written any more when the lease is lost."""

    def __init__(self, store: LeaseStore, lease: _Lease | None, appender: Any) -> None:
        self._store, self._lease, self._appender = store, lease, appender

    def append(self, content: bytes) -> None:
        self._store.check("append", self._lease)
        self._appender.append(content)

    def sync(self) -> None:
        self._store.check("sync", self._lease)

    def close(self) -> None:
        self._appender.close()


def _now() -> float:
    return runtime_hooks.get().clock()
