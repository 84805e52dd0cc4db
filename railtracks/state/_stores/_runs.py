"""The runs in a store: listing, loading and pruning them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import attrs

from railtracks._wording import MAX_NAMES
from railtracks.exceptions import ConfigError, StateError
from railtracks.state._document._checksums import RUNS_BEGIN
from railtracks.state._info import ExecutionInfo, with_large_values
from railtracks.state._journal._reader import has_torn_header, is_torn
from railtracks.state._records import Reason, Status
from railtracks.state._serialization._large_values import checked
from railtracks.state._stores._headers import (
    begins_as_document,
    read_document_header,
    read_journal_header,
)
from railtracks.state._stores._protocols import Listed, Store
from railtracks.state._stores._settings import check_identifier, no_such_run, resolve_store
from railtracks.state._stores._values import ValueStore, find_value_store

if TYPE_CHECKING:
    from datetime import datetime


_LOG = logging.getLogger("RT")


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
    interrupted: bool = False
    """Whether Ctrl-C or SIGTERM ended a run that has ended. ``rt.recover`` goes on with it."""


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
        StateError: The store is a file, where a folder was expected.
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
    damaged: list[Listed] = []
    listed = store.list()
    all_locked: Callable[[], Collection[str]] | None = getattr(store, "all_locked", None)
    # In the network, asking for each run would take long. A run that is released meanwhile is found again below.
    locked = None if all_locked is None else all_locked()
    runs = [summarize(store, run, damaged, locked=locked) for run in listed if is_run(run)]
    if damaged:
        places = [f"{'the journal beside ' * run.has_journal}{store.where(run.identifier)}" for run in damaged]
        it = "it" if len(damaged) == 1 else "each of them"
        _LOG.warning(
            "%s damaged at the beginning, so it is not known of which flow %s is, and rt.recover leaves %s: %s; "
            "rt.state.load_run(%r) says what is left",
            "1 run is" if len(damaged) == 1 else f"{len(damaged)} runs are", it, it, some_of(places),
            damaged[0].identifier,
        )  # fmt: skip
    return [
        run
        for run in runs
        if (not unfinished or run.state != "ended" or run.status is not Status.COMPLETED)
        and (flow_name is None or run.flow_name == flow_name)
        and (begin is None or (run.start_time is not None and run.start_time >= begin))
    ]


def shown_state(run: RunSummary) -> str:
    """Return the status of a run with its cause, in the words that its calls have: ``Open (process_died)``."""
    if run.state != "ended":
        return f"{Status.OPEN.value} ({'running' if run.state == 'running' else Reason.PROCESS_DIED.value})"
    status = "Ended" if run.status is None else run.status.value
    return f"{status} (interrupted)" if run.interrupted else status


_STATUSES: dict[str, Status] = {status.value: status for status in Status}


def is_run(run: Listed) -> bool:
    """Return whether this is a run, whole or not. A folder may hold other files, which are not."""
    return run.has_journal or begins_as_document(run.head) or RUNS_BEGIN in run.head


def find_held_run(identifier: str, store: Store) -> RunSummary | None:
    """Return a run of which the caller holds the lock, as ``list_runs`` would without it; None if there is none."""
    find: Callable[[str], Listed | None] | None = getattr(store, "find", None)
    if find is not None:  # a store of the library, which need not read all of it
        run = find(identifier)
    else:
        run = next((each for each in store.list() if each.identifier == identifier), None)
    return None if run is None else summarize(store, run, [], is_held=True)


def summarize(
    store: Store, run: Listed, damaged: list[Listed], is_held: bool = False, locked: Collection[str] | None = None
) -> RunSummary:
    """Return what is known of a run. If that is nothing, add its identifier to those that are ``damaged``.

    Args:
        store: The store.
        run: The run.
        damaged: Gets the run if its beginning is damaged.
        is_held: Whether the caller holds its lock, so that no session is writing it.
        locked: The runs that are locked; None: the store is asked.
    """
    document = read_document_header(run.head)
    state: Literal["ended", "running", "died"]
    is_running = not is_held and (store.is_locked(run.identifier) if locked is None else run.identifier in locked)
    state = "running" if is_running else "died" if run.has_journal else "ended"
    if state == "died" and not is_held:  # unless it has ended since it was listed
        head = _head_of_ended(store, run.identifier)
        if head is not None:
            document, state = read_document_header(head), "ended"
    facts = document or read_journal_header(run.head)
    if not facts and state != "running" and not (run.has_journal and has_torn_header(run.head)):
        damaged.append(run)
    status = document.get("status") if state == "ended" else None
    return RunSummary(
        identifier=run.identifier,
        state=state,
        status=_STATUSES.get(status) if isinstance(status, str) else None,
        calls=document.get("calls") if state == "ended" else None,
        modified=run.modified,
        size=run.size,
        interrupted=state == "ended" and document.get("interrupted") is True,
        **{name: facts.get(name) for name in ("flow_name", "session_name", "start_time", "end_time")},
    )


def _head_of_ended(store: Store, identifier: str) -> bytes | None:
    """Return the beginning of the document of a run that has no journal any more; None if it has one, or is gone."""
    find: Callable[[str], Listed | None] | None = getattr(store, "find", None)
    if find is not None:  # a store of the library, which need not read all of the journal for that
        now = find(identifier)
        return None if now is None or now.has_journal else now.head
    stored = store.read(identifier)
    return None if stored is None or stored.journal is not None else stored.document


def _with_values(info: ExecutionInfo, identifier: str, store: Store) -> ExecutionInfo:
    """Return a snapshot that reads its large values from the store when they are asked for."""
    values = find_value_store(store)
    try:
        if values is None or not values.list_values(identifier):
            return info
    except OSError:  # placeholders stand in their place
        return info
    return with_large_values(info, partial(_find_value, values, identifier))


def _find_value(values: ValueStore, identifier: str, digest: str) -> bytes:
    try:
        return checked(values.read_value(identifier, digest), digest)
    except OSError as exc:
        raise ValueError(f"has a large value that cannot be read ({exc})") from exc


def read_run(run_identifier: str, store: Store, is_locked_here: bool = False) -> ExecutionInfo:
    """Read a run. Blocks. ``load_run`` says what is raised.

    Args:
        run_identifier: The identifier of the run.
        store: The store.
        is_locked_here: Whether the caller holds the lock of the run, so that no session is writing it.
    """
    return _with_values(_read(run_identifier, store, is_locked_here), run_identifier, store)


def _read(run_identifier: str, store: Store, is_locked_here: bool) -> ExecutionInfo:
    running = not is_locked_here and store.is_locked(run_identifier)
    stored = store.read(run_identifier)
    running = running or (not is_locked_here and store.is_locked(run_identifier))  # it may have started meanwhile
    if stored is None:
        raise no_such_run(run_identifier, store)
    place = store.where(run_identifier)
    try:
        if stored.journal is not None:
            try:
                info = ExecutionInfo.from_journal(stored.journal, running)
                is_usual = (running or is_locked_here) and is_torn(stored.journal, info.damage)
                return attrs.evolve(info, damage=None) if is_usual else info
            except StateError:
                if stored.document is None and has_torn_header(stored.journal):
                    return ExecutionInfo(run_identifier)  # the process died before the run had begun
                if stored.document is None:
                    place = f"the journal beside {place}"
                    raise
        assert stored.document is not None
        return ExecutionInfo.from_document(stored.document)
    except StateError as exc:
        raise StateError(f"the run {run_identifier!r} at {place}: {exc}") from exc


def run_exists(run_identifier: str, store: Store | str | None = None) -> bool:
    """Return whether there is a run, whatever became of it. Blocks.

    Args:
        run_identifier: The identifier of the run.
        store: As for :func:`load_run`.

    Raises:
        ConfigError: ``run_identifier`` cannot be the identifier of a run.
        StateError: The store is a file, where a folder was expected.
        OSError: The store cannot be read.
    """
    check_identifier(run_identifier)
    return resolve_store(store).modified(run_identifier) is not None


def some_of(names: list[str]) -> str:
    """Return the first of some names, for a warning, and how many more there are."""
    return ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
