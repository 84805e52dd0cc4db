"""``recover``: go on with the runs that dead processes have left behind."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

import anyio

from railtracks._concurrency._termination import run_event_loop
from railtracks._concurrency._threads import run_in_thread
from railtracks._config import resolve_config
from railtracks._flow import Flow
from railtracks._logging import ROOT
from railtracks.exceptions import ConfigError, RunInUseError, SessionError
from railtracks.execution import running_library
from railtracks.state._stores._runs import list_runs


class RecoveredRun(NamedTuple):
    """A run that ``rt.recover`` went on with."""

    identifier: str
    flow_name: str
    result: Any
    """What the flow returned; None if it raised."""
    exception: Exception | None
    """What the flow raised, or why the run cannot be resumed."""


def recover(flows: Iterable[Flow[..., Any]], *, limit: int = 1) -> list[RecoveredRun]:
    """Go on with the runs of these flows whose processes died, as ``flow.resume`` does. Blocks.

    Meant for the start of a program. Runs that a live process holds are left to it, so several processes may call this
    at the same time. Runs that ended, with an error too, and runs of other flows are left as they are.

    Args:
        flows: The flows, each with the options that it has in the program, such as ``store``. A run belongs to the
            flow whose name is on record.
        limit: How many runs go on at the same time.

    Returns:
        What became of each run, in the order in which they had begun. An exception of one run does not keep the others
        from going on; it is logged as an error.

    Raises:
        ConfigError: an argument is not allowed.
        SessionError: an event loop is running in this thread; write ``await rt.arecover(...)``.
        OSError: a store cannot be read.
    """
    if library := running_library():
        raise SessionError(
            f"rt.recover() was called inside a running {library} event loop, which it would block; "
            f"write `await rt.arecover(...)`"
        )
    return run_event_loop(functools.partial(arecover, flows, limit=limit), resolve_config({}).backend)


async def arecover(flows: Iterable[Flow[..., Any]], *, limit: int = 1) -> list[RecoveredRun]:
    """Do as ``recover``, in async code.

    Cancellation: the runs that go on are cancelled. What they had completed by then is on record.
    """
    by_name = _by_name(flows)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigError(f"rt.recover: limit must be a whole number above 0, not {limit!r}")
    found = []
    for name, flow in by_name.items():
        runs = await run_in_thread(functools.partial(list_runs, flow._options.get("store"), unfinished=True, flow=name))
        found += [(run.start_time or 0.0, run.identifier, flow) for run in runs if run.state == "died"]
    found.sort(key=lambda each: each[:2])
    recovered: dict[int, RecoveredRun] = {}
    waiting = iter(enumerate(found))  # shared by the tasks, each of which takes the next run when it is free

    async def go_on() -> None:
        for position, (_, identifier, flow) in waiting:
            if (run := await _resume(identifier, flow)) is not None:
                recovered[position] = run

    async with anyio.create_task_group() as group:
        for _ in range(min(limit, len(found))):
            group.start_soon(go_on)
    return [recovered[position] for position in sorted(recovered)]


def _by_name(flows: Iterable[Flow[..., Any]]) -> dict[str, Flow[..., Any]]:
    by_name: dict[str, Flow[..., Any]] = {}
    for flow in flows if isinstance(flows, Iterable) else [flows]:
        if not isinstance(flow, Flow):
            raise ConfigError(f"rt.recover: expected flows, got {flow!r}; use rt.recover(flows=[my_flow])")
        if by_name.setdefault(flow.name, flow) is not flow:
            raise ConfigError(f"rt.recover: there are two flows with the name {flow.name!r}; give each its own name")
    return by_name


async def _resume(identifier: str, flow: Flow[..., Any]) -> RecoveredRun | None:
    """Go on with a run. Return what became of it; None if another process has it."""
    try:
        return RecoveredRun(identifier, flow.name, await flow.aresume(identifier), None)
    except RunInUseError:
        return None
    except Exception as exc:
        ROOT.log(logging.ERROR, "rt.recover: the run %s of %s raised %r", identifier, flow.name, exc, exc_info=exc)
        return RecoveredRun(identifier, flow.name, None, exc)
