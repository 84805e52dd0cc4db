"""The store of a session, for its calls in workers: limits and cached results that it keeps hold there, too.

A worker in the process of the session uses the same object. Another one gets a copy of the store, if that finds what
the session's finds: of a PostgresStore everywhere, of a store of files where its folder is. No run is written by it.
"""

from __future__ import annotations

import os
import weakref
from functools import lru_cache
from itertools import count
from typing import Any

import attrs

from railtracks.exceptions import TransferError
from railtracks.executors._pickling import dumps, loads
from railtracks.executors._worker import host, interpreter
from railtracks.state import Store
from railtracks.state._stores._cached_results import CACHE_METHODS
from railtracks.state._stores._limits import LIMIT_METHODS

_numbers = count()


@attrs.frozen
class StoreReference:
    """How a worker finds the store of the session that its work comes from."""

    number: int
    """By which the process of the session finds it."""
    content: bytes | None
    """The store, pickled; None if another process can do nothing with it."""
    problem: str
    """Why there is no content; "" if there is."""
    place: tuple[str, str, int, int] | None
    """Of a store that one machine has: the machine, the folder, and what identifies the folder there."""
    shown: str
    """The store, for people."""


class SentStore:
    """The store of a session whose calls go to workers, which find it as long as this object exists.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        reach = getattr(store, "reach", None)
        place = _place_of(store.reach_folder) if reach == "machine" else None  # type: ignore[attr-defined]
        content, problem = None, f"{store!r} is of use in its own process only"
        if reach == "network" or place is not None:
            try:
                content, problem = dumps(store, f"the store {store!r}"), ""
            except TransferError as exc:  # calls run in workers all the same; a warning says so where it matters
                problem = str(exc)
        self.reference = StoreReference(next(_numbers), content, problem, place, repr(store))
        _sent[self.reference.number] = self


_sent: weakref.WeakValueDictionary[int, SentStore] = weakref.WeakValueDictionary()


class WorkerStore:
    """What calls in a worker use of the store of their session: its limits, and its cached results.

    Equal cached calls wait for each other where their stores have one location. One in a worker must not wait for one
    of the session: that may wait for the worker. So this location is another one.

    Args:
        store: The store of the session, or a copy of it.
    """

    cache_location: str

    def __init__(self, store: Any) -> None:
        self.blocks = getattr(store, "blocks", True)
        self.limit_group = getattr(store, "limit_group", "")
        self.cache_location = f"{getattr(store, 'cache_location', id(store))} (in workers)"
        for name in (*LIMIT_METHODS, *CACHE_METHODS):
            if callable(method := getattr(store, name, None)):
                setattr(self, name, method)


class UnreachableStoreError(Exception):
    """The store of the session cannot be reached from this worker. The text says why."""


def find_store(found: StoreReference | Store | None, home: tuple[str, int]) -> Any:
    """Return what calls here use of the store of a session.

    Args:
        found: What an order has of it.
        home: What identifies the process of the session.

    Raises:
        UnreachableStoreError: It cannot be used here.
    """
    if found is None:
        raise UnreachableStoreError("the session saves nothing (save_state=False)")
    return WorkerStore(_found(found, home) if isinstance(found, StoreReference) else found)


def _found(reference: StoreReference, home: tuple[str, int]) -> Any:
    if home == interpreter() and (sent := _sent.get(reference.number)) is not None:
        return sent.store
    if reference.content is None:
        raise UnreachableStoreError(reference.problem)
    if reference.place is not None and reference.place != _place_of(reference.place[1]):
        raise UnreachableStoreError(f"{reference.shown} is on the machine {reference.place[0]}, and this is {host()}")
    try:
        return _unpickled(reference.content)
    except Exception as exc:  # above all, a package is missing here
        raise UnreachableStoreError(f"{reference.shown} cannot be made here: {type(exc).__name__}: {exc}") from exc


@lru_cache(maxsize=4)
def _unpickled(content: bytes) -> Any:
    """Return a store, once for all sessions here, as it may have connections."""
    return loads(content)


def _place_of(folder: str) -> tuple[str, str, int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return host(), folder, found.st_dev, found.st_ino
