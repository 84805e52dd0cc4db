"""Store and what belongs to it: the contract between sessions and the places where their runs are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from inspect import isfunction
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Lock(Protocol):
    """The exclusive right to write a run, held until it is released or its process ends, however it ends.

    A lock that may be lost before may also have an attribute ``on_lost``. The session sets it to a function, which the
    lock calls once when it is lost, in any thread, with a ``RunLostError``. From then on nothing may write the run by
    that lock: what is written raises that error.
    """

    def release(self) -> None:
        """Release the lock. Idempotent."""


class Appender(Protocol):
    """A journal that one session is writing.

    Its methods may be called from any thread, and at the same time.

    An appender may also have a method ``sync_soon(on_done)``, which does not block: everything appended so far is put
    on disk, and then ``on_done`` is called, in any thread, with None or with the exception. So a store can put on disk
    together what many sessions have appended, without a thread for each. Then it also has a method ``settle()``, which
    blocks until what ``sync_soon`` has begun is done; what it has not begun is left out.
    """

    def append(self, content: bytes) -> None:
        """Add ``content`` at the end. Called on the event loop, so it must be quick.

        Raises:
            OSError: It cannot be written. What was appended before is still whole.
        """

    def sync(self) -> None:
        """Put everything appended so far on disk. Blocks.

        Raises:
            OSError: That is not possible.
        """

    def close(self) -> None:
        """Close the journal. What was appended stays; appending and syncing do nothing any more. Idempotent."""


class Stored(NamedTuple):
    """What a store has of one run: the content of its document and of its journal, each None if there is none."""

    document: bytes | None
    journal: bytes | None


class Listed(NamedTuple):
    """What a store knows of one run without reading all of it."""

    identifier: str
    modified: float
    """Seconds since the epoch."""
    size: int
    """Bytes, of document and journal together."""
    has_journal: bool
    head: bytes
    """The beginning of the document or, without one, of the journal: up to 64 KiB."""


@runtime_checkable
class Store(Protocol):
    """A place where runs are kept: for each identifier at most one document and one journal, as opaque bytes.

    Any object with these methods is a store. All of them may be called from any thread. Only the session that holds
    the lock of a run writes to it.

    A store may also have an attribute ``blocks``. Unless it is False, the methods are taken to block and are called in
    worker threads, except for ``lock``, ``is_locked``, ``where`` and ``open``, which are called on the event loop and
    must be quick. If it is False, all are called on the event loop, and the journal is synced only with
    ``durability="sync"``.

    If a store also has an attribute ``lock_blocks`` that is True, as one in the network may have, ``lock`` and
    ``is_locked`` block as well: a session that is entered by ``async with`` calls them in worker threads.

    A store may also have the methods ``listen(run_identifier, callback)`` and ``watch(run_identifier, callback)``. They
    return a function that undoes them, and have ``callback`` called, in any thread, when a message for the run may have
    come, and when it may have been written to or released. It is then read much less often where nothing was announced.

    If a copy of the store that is made by pickling it finds the same in another process, the store may say so by an
    attribute ``reach``: "network" if it does on any machine, or "machine" if it does where the folder is that its
    attribute ``reach_folder`` names. Then limits and cached results that it keeps hold for calls in workers, too.

    Raises: OSError where something cannot be read or written. Nothing that was stored before may be lost then.
    """

    def lock(self, identifier: str) -> Lock:
        """Acquire the lock of the run.

        Raises:
            RunInUseError: Another session holds it.
        """

    def is_locked(self, identifier: str) -> bool:
        """Return whether a session holds the lock of the run. The answer may be out of date at once."""

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Appender:
        """Begin a journal with ``content``, in place of one that exists.

        Args:
            identifier: The run.
            content: Whole entries. An existing journal must not be lost before they are on disk.
            durable: True if ``content`` must be stored as a whole or not at all, since it has all that is known of a
                run that is resumed.
        """

    def move_journal(self, identifier: str, to: str) -> bool:
        """Move the journal to another identifier, which has no run yet. Return whether there was a journal."""

    def exists(self, identifier: str) -> bool:
        """Return whether there is a document."""

    def modified(self, identifier: str) -> float | None:
        """Return when the run was last written to, in seconds since the epoch; None if there is no such run."""

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        """Store a document, in place of one that exists, and then remove the journal.

        The document is on disk when this returns. At whatever moment the process ends, the document or the journal
        is there.
        """

    def read(self, identifier: str) -> Stored | None:
        """Return what is stored of the run; None if there is no such run."""

    def list(self) -> Sequence[Listed]:
        """Return all runs, the one that was written to least recently first."""

    def remove(self, identifier: str) -> None:
        """Remove document and journal of the run. Idempotent."""

    def sweep(self) -> None:
        """Remove what killed processes left behind besides runs, such as lock files and temporary files."""

    def where(self, identifier: str) -> str:
        """Return the location of the document, whether or not it exists yet, for people."""


STORE_METHODS = tuple(name for name, member in vars(Store).items() if isfunction(member) and name[0] != "_")
"""The names of the methods that an object must have to be a store."""


def is_store(value: Any) -> bool:
    """Return whether an object has all methods of a store."""
    if isinstance(value, type):
        return False
    kind: Any = type(value)
    try:
        return _makes_stores(kind) or _has_methods(value)
    except TypeError:  # its metaclass has no __hash__, so the cache cannot hold it
        return _has_methods(value)


@lru_cache(maxsize=64)
def _makes_stores(kind: type) -> bool:
    return _has_methods(kind)  # once for each class, as every session that saves asks


def _has_methods(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in STORE_METHODS)
