"""``recover``: go on with runs that were not to end: their process died, a signal ended them, or a message has come."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import anyio

from railtracks._concurrency._event_loop import check_no_event_loop
from railtracks._concurrency._termination import run_event_loop
from railtracks._concurrency._threads import run_in_thread
from railtracks._config import resolve_config
from railtracks._flow import Flow
from railtracks._logging import ROOT
from railtracks._wording import counted
from railtracks.exceptions import ConfigError, RunInUseError, RunSuspended
from railtracks.state import ExecutionInfo, Reason, RunSummary, Status, Store
from railtracks.state._stores._messages import has_message, reasons_of_end
from railtracks.state._stores._runs import find_held_run, list_runs
from railtracks.state._stores._settings import resolve_store


class RecoveredRun(NamedTuple):
    """A run that ``rt.recover`` went on with."""

    identifier: str
    flow_name: str
    result: Any
    """What the flow returned; None if it raised."""
    exception: Exception | None
    """What the flow raised, or why the run cannot be resumed. ``RunSuspended`` if it waits for more."""


MAX_ATTEMPTS = 20
"""How often a run is tried again whose process dies each time, unless ``max_attempts`` says otherwise."""


def recover(
    flows: Iterable[Flow[..., Any]],
    *,
    limit: int = 1,
    max_attempts: int | None = MAX_ATTEMPTS,
    cancelled: bool = False,
) -> list[RecoveredRun]:
    """Go on with the runs of these flows whose processes died, as ``flow.resume`` does. Blocks.

    So do runs that SIGTERM or Ctrl-C ended, and those that are suspended, if a message has come that they wait for.
    Meant for the start of a program. Runs that a live process holds are left to it, so several processes may call this
    at the same time: each run is continued, and returned, by one of them. Runs that failed, or were cancelled by
    ``rt.state.cancel_run``, a timeout or code of yours, and runs of other flows are left as they are.

    This returns when all of them have ended. One that waits long, as in ``rt.sleep``, holds up those that come after
    it: use a larger ``limit``, and in a service run ``arecover`` as a task beside the other work.

    Args:
        flows: The flows, each with the options that it has in the program, such as ``store``. A run belongs to the
            flow whose name is on record.
        limit: How many runs go on at the same time. If one of them kills the process, it counts as an attempt of each.
        max_attempts: How often a run is tried again if its process dies each time, counted since its session last ended
            in order. After that it is left, and each call logs an error which names it. None: without limit.
        cancelled: Whether to go on with runs, too, that were cancelled from outside, as by a web server which cancels
            its requests when it is stopped. Those that ``rt.state.cancel_run`` or a timeout has cancelled are left.

    Returns:
        What became of each run, in the order in which they had begun. An exception of one run does not keep the others
        from going on; it is logged as an error, in one line, as its traceback is that of ``exception``.

    Raises:
        ConfigError: an argument is not allowed.
        SessionError: an event loop is running in this thread; write ``await rt.arecover(...)``.
        OSError: a store cannot be read.
    """
    check_no_event_loop("rt.recover()", "await rt.arecover(...)")
    return run_event_loop(
        functools.partial(arecover, flows, limit=limit, max_attempts=max_attempts, cancelled=cancelled),
        resolve_config({}).backend,
    )


async def arecover(
    flows: Iterable[Flow[..., Any]],
    *,
    limit: int = 1,
    max_attempts: int | None = MAX_ATTEMPTS,
    cancelled: bool = False,
) -> list[RecoveredRun]:
    """Do as ``recover``, in async code.

    Cancellation: the runs that go on are cancelled. What they had completed by then is on record.
    """
    by_name = _by_name(flows)
    for name, value in (("limit", limit), ("max_attempts", 1 if max_attempts is None else max_attempts)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"rt.recover: {name} must be a whole number above 0, not {value!r}")
    if not isinstance(cancelled, bool):
        raise ConfigError(f"rt.recover: cancelled must be True or False, not {cancelled!r}")
    found = []
    for setting, flows_there in _by_store(by_name):
        runs = await run_in_thread(functools.partial(_find_runs, flows_there, setting, cancelled))
        found += [(run.start_time or 0.0, run.identifier, flows_there[run.flow_name or ""]) for run in runs]
    found.sort(key=lambda each: each[:2])
    recovered: dict[int, RecoveredRun] = {}
    waiting = iter(enumerate(found))  # shared by the tasks, each of which takes the next run when it is free

    async def go_on() -> None:
        for position, (_, identifier, flow) in waiting:
            if (run := await _resume(identifier, flow, max_attempts, cancelled)) is not None:
                recovered[position] = run

    async with anyio.create_task_group() as group:
        for _ in range(min(limit, len(found))):
            group.start_soon(go_on)
    return [recovered[position] for position in sorted(recovered)]


def _by_name(flows: Iterable[Flow[..., Any]]) -> dict[str, Flow[..., Any]]:
    by_name: dict[str, Flow[..., Any]] = {}
    several: Any = flows
    for flow in several if isinstance(several, Iterable) and not isinstance(several, str) else [several]:
        if not isinstance(flow, Flow):
            raise ConfigError(f"rt.recover: expected flows, got {flow!r}; use rt.recover(flows=[my_flow])")
        if by_name.setdefault(flow.name, flow) is not flow:
            raise ConfigError(f"rt.recover: there are two flows with the name {flow.name!r}; give each its own name")
    return by_name


def _by_store(flows: dict[str, Flow[..., Any]]) -> list[tuple[Store | str | None, dict[str, Flow[..., Any]]]]:
    """Group flows by their option ``store``, so that each store is listed, and warns of damage, once."""
    groups: dict[object, tuple[Store | str | None, dict[str, Flow[..., Any]]]] = {}
    for name, flow in flows.items():
        setting = flow._options.get("store")
        key = setting if setting is None or isinstance(setting, str) else id(setting)
        groups.setdefault(key, (setting, {}))[1][name] = flow
    return list(groups.values())


def _find_runs(flows: Collection[str], setting: Store | str | None, cancelled: bool) -> list[RunSummary]:
    """Return the runs of these flows that are to go on, or may be, which is asked again when each is resumed."""
    store = resolve_store(setting)
    runs = list_runs(store, unfinished=True)
    return [run for run in runs if run.flow_name in flows and _is_to_go_on(run, store, cancelled)]


def _is_to_go_on(run: RunSummary, store: Store, cancelled: bool, info: ExecutionInfo | None = None) -> bool:
    """Return whether to go on with a run.

    Args:
        run: The run.
        store: The store that it is in.
        cancelled: Whether to go on with it if it was cancelled from outside.
        info: What is known of it; None if it was not loaded, so that any that was cancelled counts.
    """
    if run.state != "ended":
        return run.state == "died"
    if run.status is Status.SUSPENDED:
        return has_message(run.identifier, store)
    if run.status is not Status.CANCELLED:
        return False
    is_from_outside = info is None or reasons_of_end(info) == {Reason.OUTSIDE}
    return run.interrupted or (cancelled and is_from_outside)


class _LeftError(Exception):
    """Raised in place of resuming a run that another process has gone on with since it was found."""


class _TooManyAttemptsError(Exception):
    """Raised in place of resuming a run whose processes have died too often. Its argument is how often."""


async def _resume(
    identifier: str, flow: Flow[..., Any], max_attempts: int | None, cancelled: bool
) -> RecoveredRun | None:
    """Go on with a run. Return what became of it; None if it is left."""
    is_ours = False

    def check(store: Store, info: ExecutionInfo) -> None:
        nonlocal is_ours
        run = find_held_run(identifier, store)
        if run is None or not _is_to_go_on(run, store, cancelled, info):
            raise _LeftError
        if max_attempts is not None and (info._restarts or 0) >= max_attempts:
            raise _TooManyAttemptsError(info._restarts)
        is_ours = True

    try:
        return RecoveredRun(identifier, flow.name, await flow.connect()._aresume_if(identifier, check), None)
    except RunSuspended as exc:
        return RecoveredRun(identifier, flow.name, None, exc)
    except _LeftError:
        return None
    except _TooManyAttemptsError as exc:
        ROOT.log(
            logging.ERROR,
            "rt.recover: the run %s of %s is left, as its process has died %s after it was tried again; when the "
            "cause is removed, go on with it by flow.resume(%r), or use a larger max_attempts",
            identifier, flow.name, counted(exc.args[0], "time"), identifier,
        )  # fmt: skip
        return None
    except Exception as exc:
        if isinstance(exc, RunInUseError) and not is_ours:
            return None
        ROOT.log(logging.ERROR, "rt.recover: the run %s of %s raised %r", identifier, flow.name, exc)
        return RecoveredRun(identifier, flow.name, None, exc)
