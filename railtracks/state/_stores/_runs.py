"""The runs that a store has: listing, loading, pruning."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import attrs

from railtracks._config import resolve_config, validate_options
from railtracks._identifiers import explain_invalid_identifier
from railtracks.exceptions import ConfigError, RunInUseError, StateError
from railtracks.state._info import ExecutionInfo
from railtracks.state._journal._journal import BREAKS_OFF
from railtracks.state._records import Status
from railtracks.state._stores._files import FileStore, Listed, Store
from railtracks.state._stores._headers import DOCUMENT_BEGINS, HEAD, read_document_head, read_journal_head
from railtracks.state._stores._sqlite import SQLiteStore

if TYPE_CHECKING:
    from datetime import timedelta


@lru_cache(maxsize=16)
def _sqlite_store(path: str) -> SQLiteStore:
    return SQLiteStore(path)  # one for all sessions of this process: opening it takes longer than writing a run


def as_store(setting: Store | str | None) -> Store:
    """The store that the option ``store`` stands for; None: the one that is configured. ConfigError if it is none."""
    given = validate_options({"store": setting}, "argument").get("store") or resolve_config({}).store or FileStore()
    if not isinstance(given, str):
        return cast("Store", given)
    kind, _, path = given.partition(":")
    return FileStore(path) if kind == "file" else _sqlite_store(os.path.abspath(path))


MANY = 1_000
"""Runs in a folder from which on a session that saves to it warns, once per process."""


class RunSummary(NamedTuple):
    """A run, as ``list_runs`` tells of it. Times are in seconds since the epoch."""

    identifier: str
    state: Literal["ended", "running", "died"]
    """"ended"; "running"; or "died": its process ended before it did. A run that died can be resumed."""
    status: Status | None
    """What became of the calls of a run that ended; None if it has not, or an earlier release wrote it."""
    flow_name: str | None
    session_name: str | None
    start_time: float | None
    end_time: float | None
    calls: int | None
    """How many there were, if the run ended."""
    modified: float
    """When it was last written to."""
    size: int
    """Bytes."""


def list_runs(store: Store | str | None = None) -> list[RunSummary]:
    """The runs of a store, the oldest first. Blocks; reads the beginning of each file only, and leaves out other files.

    Args:
        store: As the option of that name; None: the configured one, or else files in ``RAILTRACKS_HOME`` or
            ``.railtracks``.

    Raises:
        OSError: the store cannot be read.
    """
    store = as_store(store)
    return [_summary(store, run) for run in store.list() if _is_run(run)]


def _is_run(run: Listed) -> bool:
    """Is it one of ours, whole or not? A folder may hold other files."""
    return run.has_journal or DOCUMENT_BEGINS.startswith(run.head[: len(DOCUMENT_BEGINS)])


def _summary(store: Store, run: Listed) -> RunSummary:
    document = read_document_head(run.head)
    state: Literal["ended", "running", "died"]
    state = "running" if store.is_locked(run.identifier) else "died" if run.has_journal else "ended"
    if state == "died":  # or has it ended since it was listed?
        stored = store.read(run.identifier)
        if stored is not None and stored.journal is None and stored.document is not None:
            document, state = read_document_head(stored.document[:HEAD]), "ended"
    facts = document or read_journal_head(run.head)
    status = document.get("status") if state == "ended" else None
    return RunSummary(
        identifier=run.identifier,
        state=state,
        status=Status(status) if status in set(Status) else None,
        calls=document.get("calls") if state == "ended" else None,
        modified=run.modified,
        size=run.size,
        **{name: facts.get(name) for name in ("flow_name", "session_name", "start_time", "end_time")},
    )


def load_run(run_identifier: str, store: Store | str | None = None) -> ExecutionInfo:
    """What is known of a run: from its state, or from its journal, if it runs or its process died. Blocks.

    Args:
        run_identifier: Its identifier.
        store: As the option of that name; None: the configured one, or else files in ``RAILTRACKS_HOME`` or
            ``.railtracks``.

    Returns:
        The view. ``info.damage`` says if a part of a journal was lost; calls that were running when the process
        died are ``Open``, with the reason ``Reason.PROCESS_DIED``.

    Raises:
        ConfigError: that is no identifier.
        StateError: there is no such run, or nothing of it can be read; the text says why.
        OSError: the store cannot be read.
    """
    store = as_store(store)
    check_identifier(run_identifier)
    running = store.is_locked(run_identifier)
    stored = store.read(run_identifier)
    running = running or store.is_locked(run_identifier)  # it may have begun meanwhile
    if stored is None:
        known = [run.identifier for run in store.list()]
        others = f"the latest are {', '.join(known[-3:])}" if known else "there are none"
        raise StateError(f"there is no run {run_identifier!r} at {store.where(run_identifier)}; {others}")
    try:
        if stored.journal is not None:
            try:
                info = ExecutionInfo.from_journal(stored.journal, running)
                writing = running and info.damage is not None and info.damage.startswith(BREAKS_OFF)
                return attrs.evolve(info, damage=None) if writing else info
            except StateError:
                if stored.document is None:
                    raise
        assert stored.document is not None
        return ExecutionInfo.from_document(stored.document)
    except StateError as exc:
        raise StateError(f"the run {run_identifier!r} at {store.where(run_identifier)}: {exc}") from exc


def prune(
    *, older_than: float | timedelta | None = None, keep: int | None = None, store: Store | str | None = None
) -> list[str]:
    """Remove runs. Those that are running stay; those that died go like any other. Blocks.

    Args:
        older_than: Remove only runs that were last written to so many seconds ago, or more.
        keep: Keep this many, the latest, whatever their age.
        store: As the option of that name; None: the configured one, or else files in ``RAILTRACKS_HOME`` or
            ``.railtracks``.

    Returns:
        The identifiers of the runs that were removed, the oldest first.

    Raises:
        ConfigError: neither is given, or a value is not allowed; nothing is removed.
        OSError: a run cannot be removed; those before it are.
    """
    span: Any = older_than
    seconds = span.total_seconds() if hasattr(span, "total_seconds") else span  # a timedelta, whose module is slow
    _check_number("older_than", seconds, (int, float), "a number of seconds, or a timedelta, of at least 0")
    _check_number("keep", keep, (int,), "a whole number of at least 0")
    if seconds is None and keep is None:
        raise ConfigError("prune() without a limit would remove all runs; give older_than=, keep=, or both")
    store = as_store(store)
    runs = store.list()
    limit: float = math.inf if seconds is None else time.time() - seconds
    old = [run for run in runs[: max(0, len(runs) - (keep or 0))] if run.modified <= limit and _is_run(run)]
    store.sweep()
    return [run.identifier for run in old if _remove(store, run)]


def _remove(store: Store, run: Listed) -> bool:
    """Remove it, unless somebody has it open, or has written to it since it was listed. Was it removed?"""
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
        raise ConfigError(f"prune: {value!r} is not allowed for {label}; give {allowed}")


def check_identifier(identifier: object) -> None:
    """ConfigError unless it is text that names a run, and no place outside the store."""
    problem = explain_invalid_identifier(identifier) if isinstance(identifier, str) else "it is no text"
    if problem is not None:
        raise ConfigError(
            f"{identifier!r} is no identifier of a run: {problem}; give letters, digits, '.', '_' and '-', "
            f"such as 'my-unique-run'"
        )


_warned: set[Path] = set()


def warn_of_many(store: Store, warn: Callable[[str], None]) -> None:
    """Call ``warn`` with a text if a folder holds very many runs; once per process and folder."""
    if isinstance(store, FileStore) and store.folder not in _warned and (count := store.count()) >= MANY:
        _warned.add(store.folder)
        warn(
            f"there are {count} runs in {store.folder}, and none is ever removed by itself; "
            f"remove old ones with rt.state.prune(keep=...) or rt.state.prune(older_than=...)"
        )
