"""``prune``: remove runs that are over."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from railtracks._wording import counted
from railtracks.exceptions import ConfigError, RunInUseError
from railtracks.state._journal._reader import has_torn_header
from railtracks.state._records import Status
from railtracks.state._stores._cached_results import find_cache_store
from railtracks.state._stores._protocols import Listed, Store
from railtracks.state._stores._runs import is_run, some_of, summarize
from railtracks.state._stores._settings import resolve_store

if TYPE_CHECKING:
    from datetime import timedelta

_LOG = logging.getLogger("RT")


def prune(
    *,
    older_than: float | timedelta | None = None,
    keep: int | None = None,
    pending: bool = False,
    store: Store | str | None = None,
) -> list[str]:
    """Remove runs that are over. Blocks.

    Those that are running are kept, and unless ``pending`` is True, so are those that are to go on: they are suspended,
    their process died, or Ctrl-C or SIGTERM ended them. A warning says how many of these would have been removed.

    Results that ``rt.Cache(scope="store")`` has stored are removed, too: those that have expired, and with
    ``older_than`` those that were stored so long ago.

    Args:
        older_than: Remove only runs that were last written to at least this many seconds ago.
        keep: Keep this many of the latest runs, whatever their age.
        pending: Remove runs that are to go on, too. Answers and messages for them are lost.
        store: A store, as in the option ``store``. None for the configured one or, if there is none, files in
            ``RAILTRACKS_HOME`` or ``.railtracks``.

    Returns:
        The identifiers of the runs that were removed, the oldest first.

    Raises:
        ConfigError: Neither limit is given, or a value is not allowed. Nothing is removed.
        OSError: A run cannot be removed. The runs before it are removed.
    """
    span: Any = older_than
    seconds = span.total_seconds() if hasattr(span, "total_seconds") else span  # a timedelta, whose module is slow
    _check_number("older_than", seconds, (int, float), "a number of seconds, or a timedelta, of at least 0")
    _check_number("keep", keep, (int,), "a whole number of at least 0")
    if seconds is None and keep is None:
        raise ConfigError("prune() without a limit would remove all runs; use older_than=, keep=, or both")
    store = resolve_store(store)
    runs = store.list()
    limit: float = math.inf if seconds is None else time.time() - seconds
    old = [run for run in runs[: max(0, len(runs) - (keep or 0))] if run.modified <= limit and is_run(run)]
    if not pending:
        kept = {run.identifier for run in old if _is_pending(store, run)}
        if kept:
            _LOG.warning(
                "prune: %s that would have been removed %s to go on, and %s kept: %s; go on with %s by flow.resume, or "
                "use prune(..., pending=True)",
                counted(len(kept), "run"), *(("is", "is") if len(kept) == 1 else ("are", "are")),
                some_of([run.identifier for run in old if run.identifier in kept]), "it" if len(kept) == 1 else "them",
            )  # fmt: skip
        old = [run for run in old if run.identifier not in kept]
    store.sweep()
    if (cache := find_cache_store(store)) is not None:
        cache.prune_cached(time.time(), limit if seconds is not None else -math.inf)
    return [run.identifier for run in old if _remove(store, run)]


def _is_pending(store: Store, run: Listed) -> bool:
    """Return whether a run is to go on, and no session has it open."""
    summary = summarize(store, run, [])
    if summary.state == "died":
        return not has_torn_header(run.head)  # otherwise it died before it had begun
    return summary.state == "ended" and (summary.status is Status.SUSPENDED or summary.interrupted)


def _remove(store: Store, run: Listed) -> bool:
    """Remove a run unless it is open or was written to since it was listed. Return whether it was removed."""
    try:
        lock = store.lock(run.identifier)
    except RunInUseError:
        return False
    try:
        unchanged = store.modified(run.identifier) == run.modified
        if unchanged:
            store.remove(run.identifier)
        return unchanged
    finally:
        lock.release()


def _check_number(label: str, value: Any, kinds: tuple[type, ...], allowed: str) -> None:
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if value is not None and not (number and value >= 0):
        raise ConfigError(f"prune: {value!r} is not allowed for {label}; use {allowed}")
