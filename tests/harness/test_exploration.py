"""``explore`` leaves out runs that cannot differ from others: it finds what all runs would find, in far fewer."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import explore
from railtracks.testing._exploration import Search
from railtracks.testing._simulation._simulate import simulate_with

MAX_RUNS = 3_000
"""Flows for which more runs are needed without the reduction are not compared."""


def observed(outcome):
    """Return what can be seen of a run, without the turns of the event loop."""
    events = [(e.time, e.session, e.call, e.name, e.what, e.detail, e.place) for e in outcome.trace]
    return repr((outcome.result, outcome.exception, outcome.order, outcome.unseen, outcome.left_running, events))


def explored(flow, backend, reduces, **options):
    """Return what was seen in all runs, and how many there were; None if that takes too long."""
    search, seen = Search(reduces), set()
    while search.has_next:
        if search.runs == MAX_RUNS:
            return None, search.runs
        seen.add(observed(simulate_with(search.decisions(), flow, (), {"backend": backend, **options})))
        search.advance()
        assert not search.changed
    return seen, search.runs


# ---- drawn flows


class Shared:
    """What the calls of a drawn flow share."""

    def __init__(self):
        self.log = []
        self.total = 0
        self.lock = anyio.Lock()
        self.event = anyio.Event()
        self.scope = anyio.CancelScope()


async def nothing():
    pass


@rt.function_node
async def nested():
    await anyio.sleep(0)


async def add(shared):
    before = shared.total
    await anyio.sleep(0)
    shared.total = before + 1


async def locked(shared):
    async with shared.lock:
        await anyio.sleep(0)
        shared.total *= 2


async def wait_briefly(shared):
    with anyio.move_on_after(1):
        await shared.event.wait()
        shared.log.append("set")


async def time_out(shared):
    with anyio.move_on_after(0):
        await anyio.sleep(0)
        shared.log.append("in time")


async def fail(shared):
    raise ValueError("failed")


async def put(shared):
    rt.context.put("key", rt.context.get("key", 0) + 1)


STEPS = {
    "wait": lambda shared: anyio.sleep(0),
    "sleep": lambda shared: anyio.sleep(1),
    "add": add,
    "locked": locked,
    "put": put,
    "call": lambda shared: rt.call(nested),
    "set": lambda shared: _run(shared.event.set),
    "wait_briefly": wait_briefly,
    "time_out": time_out,
    "cancel": lambda shared: _run(shared.scope.cancel),
    "fail": fail,
}


async def _run(function):
    function()


@rt.function_node
async def work(number, names, shared):
    for name in names:
        await STEPS[name](shared)
        shared.log.append((number, name))
    return shared.total


async def in_batch(programs, shared, limit):
    return await rt.call_batch(
        work, range(len(programs)), programs, [shared] * len(programs), return_exceptions=True, limit=limit
    )


async def in_group(programs, shared, limit):
    async with anyio.create_task_group() as group:
        for number, program in enumerate(programs):
            group.start_soon(rt.call, work, number, program, shared)


async def as_given(programs, shared, limit):
    return await rt.call_batch(
        work, range(len(programs)), (each for each in programs), [shared] * len(programs), limit=limit
    )


def flow_of(make, programs, limit):
    """Return a flow whose calls take the steps of their programs, at the same time."""

    async def main():
        shared = Shared()
        result = None
        with shared.scope:
            result = await make(programs, shared, limit)
        return result, shared.log, shared.total

    return main


PROGRAMS = st.lists(st.lists(st.sampled_from([*STEPS]), max_size=2), min_size=1, max_size=2)
FLOWS = st.builds(flow_of, st.sampled_from([in_batch, in_group, as_given]), PROGRAMS, st.sampled_from([None, 1, 2]))


def compare(flow, backend):
    everything, needed = explored(flow, backend, reduces=False)
    assume(everything is not None)
    found, runs = explored(flow, backend, reduces=True)
    assert found == everything
    assert runs <= needed
