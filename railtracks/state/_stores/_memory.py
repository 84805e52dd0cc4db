"""MemoryStore: runs in memory, for tests."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterable, Sequence

from railtracks._concurrency._after_fork import after_fork
from railtracks.exceptions import RunInUseError
from railtracks.state._stores._cached_results import MemoryCache
from railtracks.state._stores._headers import HEADER_BYTES
from railtracks.state._stores._mailboxes import MemoryMailbox
from railtracks.state._stores._protocols import Appender, Listed, Lock, Stored
from railtracks.state._stores._values import MemoryValues

_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


class _Blob:
    """The bytes of a document or a journal, and when they were last written to."""

    def __init__(self, content: bytearray, modified: float) -> None:
        self.content = content
        self.modified = modified


class MemoryStore(MemoryMailbox, MemoryValues, MemoryCache):
    """Runs in memory, for tests: they are gone with the process, and no other process sees them."""

    blocks = False

    def __init__(self) -> None:
        MemoryMailbox.__init__(self)
        MemoryValues.__init__(self)
        MemoryCache.__init__(self)
        self._guard = threading.RLock()
        self._documents: dict[str, _Blob] = {}
        self._journals: dict[str, _Blob] = {}
        self._locks: dict[str, Lock] = {}
        _stores.add(self)

    def reset(self) -> None:
        """Forget who holds locks, as is right in a forked child: all are its parent's."""
        self._guard = threading.RLock()
        self._mailbox_guard = threading.Lock()
        self._values_guard = threading.Lock()
        self._cached_guard = threading.Lock()
        self._locks.clear()

    def lock(self, identifier: str) -> Lock:
        """Acquire the lock of the run.

        Raises:
            RunInUseError: Another session holds it.
        """
        with self._guard:
            if identifier in self._locks:
                raise RunInUseError(
                    f"the run {identifier!r} is open in another session; "
                    f"wait for it to end, or use another run_identifier"
                )
            self._locks[identifier] = lock = _MemoryLock(self._locks, identifier)
        return lock

    def is_locked(self, identifier: str) -> bool:
        """Return whether a session holds the lock of the run."""
        return identifier in self._locks

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        """Begin a journal with ``content``, in place of one that exists."""
        journal = _Blob(bytearray(content), time.time())
        with self._guard:
            self._journals[identifier] = journal
        return _MemoryAppender(journal)

    def move_journal(self, identifier: str, to: str) -> bool:
        """Move the journal to another identifier, which has no run yet. Return whether there was a journal."""
        with self._guard:
            journal = self._journals.pop(identifier, None)
            if journal is not None:
                self._journals[to] = journal
        return journal is not None

    def exists(self, identifier: str) -> bool:
        """Return whether there is a document."""
        return identifier in self._documents

    def modified(self, identifier: str) -> float | None:
        """Return when the run was last written to, in seconds since the epoch; None if there is no such run."""
        with self._guard:
            there = identifier in self._documents or identifier in self._journals
            return self._listed(identifier).modified if there else None

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document, in place of one that exists, and remove the journal."""
        document = _Blob(bytearray().join(content), time.time())
        with self._guard:
            self._documents[identifier] = document
            self._journals.pop(identifier, None)

    def read(self, identifier: str) -> Stored | None:
        """Return what is stored of the run; None if there is no such run."""
        with self._guard:
            document, journal = self._documents.get(identifier), self._journals.get(identifier)
            if document is journal is None:
                return None
            return Stored(*(None if kept is None else bytes(kept.content) for kept in (document, journal)))

    def list(self) -> Sequence[Listed]:
        """Return all runs, the one that was written to least recently first."""
        with self._guard:
            found = [self._listed(identifier) for identifier in {*self._documents, *self._journals}]
        return sorted(found, key=lambda run: run.modified)

    def find(self, identifier: str) -> Listed | None:
        """Return a run as ``list`` does; None if there is no such run."""
        with self._guard:
            return self._listed(identifier) if identifier in {*self._documents, *self._journals} else None

    def sweep(self) -> None:
        """Do nothing: killed processes leave nothing behind."""

    def _listed(self, identifier: str) -> Listed:
        there = [kept[identifier] for kept in (self._documents, self._journals) if identifier in kept]
        return Listed(
            identifier,
            modified=max(kept.modified for kept in there),
            size=sum(len(kept.content) for kept in there) + self._size_of_values(identifier),
            has_journal=identifier in self._journals,
            head=bytes(there[0].content[:HEADER_BYTES]),
        )

    def remove(self, identifier: str) -> None:
        """Remove document, journal, large values and messages of the run. Idempotent."""
        with self._guard:
            self._documents.pop(identifier, None)
            self._journals.pop(identifier, None)
        self.remove_values(identifier, self.list_values(identifier))
        self._remove_mailbox(identifier)

    def where(self, identifier: str) -> str:
        """Return a description of the location, for people."""
        return f"memory, as {identifier}"


@after_fork
def _reset_all() -> None:
    for store in _stores:
        store.reset()


class _MemoryLock:
    def __init__(self, locks: dict[str, Lock], identifier: str) -> None:
        self._locks, self._identifier = locks, identifier

    def release(self) -> None:
        if self._locks.get(self._identifier) is self:
            del self._locks[self._identifier]


class _MemoryAppender:
    def __init__(self, journal: _Blob) -> None:
        self._journal: _Blob | None = journal

    def append(self, content: bytes) -> None:
        journal = self._journal
        if journal is not None:
            journal.content.extend(content)
            journal.modified = time.time()

    def sync(self) -> None:
        pass

    def close(self) -> None:
        self._journal = None
