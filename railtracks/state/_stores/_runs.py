"""The runs in a store: listing, loading and pruning them."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import attrs

from railtracks._concurrency._after_fork import after_fork
from railtracks._config import resolve_config, validate_options
from railtracks._identifiers import explain_invalid_identifier
from railtracks.exceptions import ConfigError, RunInUseError, RunNotFoundError, StateError
from railtracks.state._document._writer import DOCUMENT_BEGINS
from railtracks.state._info import ExecutionInfo
from railtracks.state._journal._reader import TRUNCATED, has_torn_header
from railtracks.state._records import Status
from railtracks.state._stores._files import FileStore
from railtracks.state._stores._headers import HEADER_BYTES, read_document_header, read_journal_header
from railtracks.state._stores._protocols import Listed, Store
from railtracks.state._stores._sqlite import SQLiteStore

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@lru_cache(maxsize=16)
def _sqlite_store(path: str) -> SQLiteStore:
    return SQLiteStore(path)  # one for all sessions of this process, as opening it takes longer than writing a run


def resolve_store(setting: Store | str | None) -> Store:
    """Return the store that a value of the option ``store`` stands for.

    Args:
        setting: A store, or its text, such as "sqlite:runs.db". None for the configured store or, if there is none,
            files in the default folder.

    Raises:
        ConfigError: It is not a store.
    """
    return store_of(validate_options({"store": setting}, "argument").get("store") or resolve_config({}).store)


def store_of(value: Any) -> Store:
    """Return the store that a valid value of the option ``store`` stands for; None: files in the default folder."""
    if value is None:
        return FileStore()
    if not isinstance(value, str):
        return cast("Store", value)
    kind, _, path = value.partition(":")
    return FileStore(path) if kind == "file" else _sqlite_store(os.path.abspath(path))


MANY_RUNS = 1_000
"""The number of runs in a folder from which on a session that saves to it warns, once per process."""


class _Named(Protocol):
    """A flow, as far as this module needs it."""

    name: str


class RunSummary(NamedTuple):
    """A run as ``list_runs`` returns it. Times are in seconds since the epoch."""

    identifier: str
    state: Literal["ended", "running", "died"]
    """"died" if the process ended before the session did. Such a run can be resumed."""
    status: Status | None
    """The status of all calls of a run that has ended; None if it has not, or if an earlier release wrote it."""
    flow_name: str | None
    session_name: str | None
    start_time: float | None
    end_time: float | None
    calls: int | None
    """The number of calls of a run that has ended."""
    modified: float
    """The time at which the run was last written to."""
    size: int
    """Bytes, of document and journal together."""


def list_runs(
    store: Store | str | None = None,
    *,
    unfinished: bool = False,
    flow: _Named | str | None = None,
    since: float | datetime | None = None,
) -> list[RunSummary]:
    """Return the runs in a store, the oldest first. Blocks.

    Reads the beginning of each file only, and leaves out files that are not of runs.

    Args:
        store: A store, as in the option ``store``. None for the configured one or, if there is none, files in
            ``RAILTRACKS_HOME`` or ``.railtracks``.
        unfinished: Return only runs that have not completed: those that are running, whose process died, or that ended
            with an error or a cancellation.
        flow: Return only runs of this flow: a flow, or its name.
        since: Return only runs that began at this time or later: seconds since the epoch, or a datetime.

    Raises:
        ConfigError: An argument is not allowed.
        OSError: The store cannot be read.
    """
    flow_name = flow if flow is None or isinstance(flow, str) else getattr(flow, "name", flow)
    if flow_name is not None and not isinstance(flow_name, str):
        raise ConfigError(f"list_runs: {flow!r} is not allowed for flow; use a flow, or its name")
    moment: Any = since
    begin = moment.timestamp() if hasattr(moment, "timestamp") else moment
    if begin is not None and (not isinstance(begin, (int, float)) or isinstance(begin, bool)):
        raise ConfigError(f"list_runs: {since!r} is not allowed for since; use seconds since the epoch, or a datetime")
    store = resolve_store(store)
    runs = [_summary(store, run) for run in store.list() if _is_run(run)]
    return [
        run
        for run in runs
        if (not unfinished or run.state != "ended" or run.status is not Status.COMPLETED)
        and (flow_name is None or run.flow_name == flow_name)
        and (begin is None or (run.start_time is not None and run.start_time >= begin))
    ]


def _is_run(run: Listed) -> bool:
    """Return whether this is a run, whole or not. A folder may hold other files, which are not."""
    return run.has_journal or DOCUMENT_BEGINS.startswith(run.head[: len(DOCUMENT_BEGINS)])


def _summary(store: Store, run: Listed) -> RunSummary:
    document = read_document_header(run.head)
    state: Literal["ended", "running", "died"]
    state = "running" if store.is_locked(run.identifier) else "died" if run.has_journal else "ended"
    if state == "died":  # unless it has ended since it was listed
        stored = store.read(run.identifier)
        if stored is not None and stored.journal is None and stored.document is not None:
            document, state = read_document_header(stored.document[:HEADER_BYTES]), "ended"
    facts = document or read_journal_header(run.head)
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
    """Load a run from its state file or, if it is running or its process died, from its journal. Blocks.

    Args:
        run_identifier: The identifier of the run.
        store: A store, as in the option ``store``. None for the configured one or, if there is none, files in
            ``RAILTRACKS_HOME`` or ``.railtracks``.

    Returns:
        The snapshot. ``info.damage`` says whether a part of a journal was lost. Calls that were running when the
        process died are ``Open``, with the reason ``Reason.PROCESS_DIED``. A run whose process died while the journal
        was begun has no calls.

    Raises:
        ConfigError: ``run_identifier`` cannot be the identifier of a run.
        RunNotFoundError: There is no such run.
        StateError: Nothing of it can be read. The message says why.
        OSError: The store cannot be read.
    """
    store = resolve_store(store)
    check_identifier(run_identifier)
    running = store.is_locked(run_identifier)
    stored = store.read(run_identifier)
    running = running or store.is_locked(run_identifier)  # it may have started meanwhile
    if stored is None:
        known = [run.identifier for run in store.list()]
        others = f"the latest are {', '.join(known[-3:])}" if known else "there are none"
        raise RunNotFoundError(f"there is no run {run_identifier!r} at {store.where(run_identifier)}; {others}")
    try:
        if stored.journal is not None:
            try:
                info = ExecutionInfo.from_journal(stored.journal, running)
                writing = running and info.damage is not None and info.damage.startswith(TRUNCATED)
                return attrs.evolve(info, damage=None) if writing else info
            except StateError:
                if stored.document is None and has_torn_header(stored.journal):
                    return ExecutionInfo(run_identifier)  # the process died before the run had begun
                if stored.document is None:
                    raise
        assert stored.document is not None
        return ExecutionInfo.from_document(stored.document)
    except StateError as exc:
        raise StateError(f"the run {run_identifier!r} at {store.where(run_identifier)}: {exc}") from exc


def run_exists(run_identifier: str, store: Store | str | None = None) -> bool:
    """Return whether there is a run, whatever became of it. Blocks.

    Args:
        run_identifier: The identifier of the run.
        store: As for :func:`load_run`.

    Raises:
        ConfigError: ``run_identifier`` cannot be the identifier of a run.
        OSError: The store cannot be read.
    """
    check_identifier(run_identifier)
    return resolve_store(store).modified(run_identifier) is not None


def prune(
    *, older_than: float | timedelta | None = None, keep: int | None = None, store: Store | str | None = None
) -> list[str]:
    """Remove runs. Those that are running are kept; those that died are removed like any other. Blocks.

    Args:
        older_than: Remove only runs that were last written to at least this many seconds ago.
        keep: Keep this many of the latest runs, whatever their age.
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
    old = [run for run in runs[: max(0, len(runs) - (keep or 0))] if run.modified <= limit and _is_run(run)]
    store.sweep()
    return [run.identifier for run in old if _remove(store, run)]


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


def check_identifier(identifier: object) -> None:
    """Raise ConfigError unless an identifier may name a run, and so cannot lead out of the store's folder."""
    problem = explain_invalid_identifier(identifier) if isinstance(identifier, str) else "it is not a text"
    if problem is not None:
        raise ConfigError(
            f"{identifier!r} is not allowed as the identifier of a run: {problem}; "
            f"use letters, digits, '.', '_' and '-', such as 'my-unique-run'"
        )


SWEEP_AGE = 60.0
"""Seconds after which a session removes a temporary file that a killed process left behind. A younger one may be of a
program that saves a document there without a session."""


class _RunCounts:
    """When to warn of a folder that holds many runs: once per process.

    Listing a folder takes long if there are many runs. So a folder is not listed again before this process has saved as
    many runs to it as were missing.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as is right in a forked child."""
        self._guard = threading.Lock()
        self._has_warned = False
        self._missing: dict[Path, int] = {}  # by folder: how many runs to save before it is listed again

    def on_save(self, store: FileStore) -> int | None:
        """Return the number of runs in the folder if it is time to warn of them."""
        with self._guard:
            missing = self._missing.get(store.folder, 0)
            if self._has_warned or missing > 0:
                self._missing[store.folder] = missing - 1
                return None
            if store.folder not in self._missing:
                store.sweep_temporary(older_than=SWEEP_AGE)
            count = store.count()
            self._missing[store.folder] = MANY_RUNS - count - 1
            self._has_warned = count >= MANY_RUNS
            return count if self._has_warned else None


_run_counts = _RunCounts()
after_fork(_run_counts.reset)


def warn_if_many_runs(store: Store, warn: Callable[[str], None]) -> None:
    """Call ``warn`` with a message if the folder that a run is about to be saved to holds many, once per process."""
    if isinstance(store, FileStore) and (count := _run_counts.on_save(store)) is not None:
        warn(
            f"there are {count} runs in {store.folder}, and nothing is removed automatically; "
            f"remove old ones with rt.state.prune(keep=...) or rt.state.prune(older_than=...)"
        )
