"""Cached results as they are kept: as text, with the changes of the context that belong to them; and in a store."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from railtracks._concurrency._threads import run_in_thread
from railtracks._resume._matching import restore_change
from railtracks.nodes import FunctionNode
from railtracks.state._file_system import is_blocking
from railtracks.state._records import Change, Form
from railtracks.state._serialization._record_text import dumps, loads
from railtracks.state._serialization._structuring import restore_result
from railtracks.state._stores._cached_results import CachedContent, CacheStore

LOST = {
    Form.OPAQUE: "has no written form",
    Form.CUT: "is larger than max_value_bytes",
    Form.MASKED: "has a secret in it",
}
"""What is said of a value by its form, if it is not all on record."""
PRUNE_AFTER = 600.0
"""Seconds after which a session removes what has expired from a store, when it has stored a result."""
_pruned: dict[str, float] = {}
"""By the place of a store, when what had expired was last removed from it by this process."""


class Result(NamedTuple):
    """A cached result."""

    output: str
    """The result as the text of a record."""
    changes: tuple[Change, ...]
    """What the call, and those below it, had changed in the context, in order."""
    stored: float
    """When it was stored, in seconds since the epoch."""


class Unfit(Exception):
    """A call cannot be cached. The text says why."""


def restored(known: Result, node: FunctionNode[..., Any]) -> Any:
    """Return the value of a result, a new object each time.

    Raises:
        Unfit: It cannot be made, or the changes of the context that belong to it cannot.
    """
    try:
        for change in known.changes:
            restore_change(change)
    except ValueError as exc:
        raise Unfit(f"has changed the context, and {exc}") from None
    try:
        return restore_result(known.output, node.return_hint)
    except ValueError as exc:
        raise Unfit(f"has returned a result that {exc}") from None


class StoredResults:
    """The cached results in a store.

    Args:
        store: The store.
        warn_once: Logs a warning, unless one about the same was logged.
    """

    def __init__(self, store: CacheStore, warn_once: Callable[..., None]) -> None:
        self._store = store
        self._warn_once = warn_once

    @property
    def location(self) -> str:
        """What this store has in common with others that keep their results in the same place."""
        location = getattr(self._store, "cache_location", None)
        return location if isinstance(location, str) else f"the store at {id(self._store):#x}"

    async def read(self, key: str) -> Result | None:
        """Return the result that is stored under a key; None if there is none, or it cannot be read."""
        try:
            found = await self._in_store(partial(self._store.read_cached, key))
        except Exception as exc:  # a user's store may raise anything; the call runs then
            self._warn_once("read", "Cached results cannot be read, and calls run: %r", exc)
            return None
        return None if found is None else _decoded(found)

    async def write(self, key: str, made: Result, ttl: float | None) -> None:
        """Store a result under a key, for ``ttl`` seconds."""
        expires = math.inf if ttl is None else made.stored + ttl
        cached = CachedContent(_encoded(made), made.stored, expires)
        try:
            await self._in_store(partial(_put, self._store, self.location, key, cached))
        except Exception as exc:  # as above; the call has its result
            self._warn_once("write", "Results cannot be cached in the store: %r", exc)

    async def _in_store(self, func: Callable[[], Any]) -> Any:
        return await run_in_thread(func) if is_blocking(self._store) else func()


def _put(store: CacheStore, location: str, key: str, cached: CachedContent) -> None:
    """Store a result and, now and then, remove what has expired."""
    store.put_cached(key, cached)
    last = _pruned.get(location)
    if last is None or not 0 <= cached.stored - last < PRUNE_AFTER:
        _pruned[location] = cached.stored
        store.prune_cached(cached.stored)


def _encoded(made: Result) -> bytes:
    changes = [[change.key, change.value, change.form.value, change.types] for change in made.changes]
    return dumps({"version": 1, "output": made.output, "changes": changes}).encode("ascii")


def _decoded(cached: CachedContent) -> Result | None:
    """Return a result as it was stored; None if it is damaged, or of a later release."""
    try:
        members = loads(cached.content)
        if members["version"] != 1 or not isinstance(members["output"], str):
            return None
        changes = tuple(Change(0, key, value, Form(form), types) for key, value, form, types in members["changes"])
    except (ValueError, LookupError, TypeError):
        return None
    return Result(members["output"], changes, cached.stored)
