"""asyncio's own ``task.cancel()``, which goes straight through shielded scopes: at any moment, once and twice.

On asyncio alone: trio has no such thing, and its cancellation at any moment is in test_promise_properties.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _threads
from railtracks._context_variable import current
from railtracks.state import Broadcast, CallEvent, Status
from tests import virtual


@rt.function_node
async def leaf(seconds=0):
    for _ in range(3):
        await anyio.sleep(seconds)
    await rt.broadcast("leaf")


@rt.function_node
async def tidy():
    try:
        await anyio.sleep(50)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)


@rt.function_node(abandon_on_cancel=False)
def in_thread():
    pass


async def react(event):
    if event.name == "leaf":
        await rt.call(rt.function_node(anyio.lowlevel.checkpoint, name="reaction"))


async def with_subscribers(session):
    session.subscribe(react, kinds=(CallEvent,), policy="wait", capacity=2)
    async with session:
        session.start_soon(leaf)
        await rt.call_batch(leaf, [0, 0], limit=1)


async def with_children_that_clean_up(session):
    async with session:
        session.start_soon(tidy)
        await rt.call(leaf)
        raise KeyError("body")


async def with_threads(session):
    async with session:
        await rt.call(in_thread)
        await rt.call(leaf)


async def in_a_plain_with(session):
    session.subscribe(react, kinds=(CallEvent,))
    with session:
        await rt.call(leaf)
        await rt.call_batch(leaf, [0, 0])


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("body", [with_subscribers, with_children_that_clean_up, with_threads, in_a_plain_with])
def test_cancelled_at_any_tick_it_ends_everything_and_saves(body, times):
    async def main(tick):
        reports = []
        session = rt.Session(name=f"tick-{tick}", payload_callback=reports.append)
        task = asyncio.create_task(body(session))
        for _ in range(times):
            for _ in range(tick):
                await asyncio.sleep(0)
            over = task.done()
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, KeyError):
            await task
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1, "something is still running"
        assert _threads.active_work_count() == 0
        assert current.get() is None
        if session.payload()["start_time"] is None:
            return over  # cancelled before it was entered
        assert all(record.status is not Status.OPEN for record in session.info.records)
        assert rt.ExecutionInfo.load(f".railtracks/tick-{tick}.json") == session.info
        assert len(reports) == 1
        return over

    ticks = itertools.takewhile(lambda tick: not virtual.run("asyncio", main, tick), range(120))
    assert sum(1 for _ in ticks) > 3


def test_a_thread_that_must_be_waited_for_is_waited_for():
    begun, release = threading.Event(), threading.Event()
    order = []

    @rt.function_node(abandon_on_cancel=False)
    def work():
        begun.set()
        release.wait(20)
        order.append("thread")

    async def go():
        async with rt.Session():
            await rt.call(work)

    async def main():
        task = asyncio.create_task(go())
        await anyio.to_thread.run_sync(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        order.append("caller")

    with virtual.hold_clock():
        virtual.run("asyncio", main)
    assert order == ["thread", "caller"]


async def test_a_callback_that_calls_nodes_ends_in_a_plain_with_too():
    called = []

    async def callback(event):
        called.append(event.item)
        if event.item == "leaf" and len(called) == 1:
            await rt.call(leaf)

    session = rt.Session()
    session.subscribe(callback, kinds=(Broadcast,))
    with session:
        await rt.call(leaf)
    assert called == ["leaf", "leaf"]
