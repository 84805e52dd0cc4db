"""Calls before, after and outside the session they belong to, or in another event loop, are refused."""

from __future__ import annotations

import asyncio
import contextvars
import functools

import anyio
import pytest
import trio

import railtracks as rt
from railtracks.exceptions import ContextError, SessionEndedError, SessionError
from railtracks.state import Broadcast
from tests.virtual import hold_clock


async def double(x):
    await anyio.sleep(0)
    return 2 * x


async def later(gate, func, *args):
    """Run ``func`` in a task of the caller's own, once the gate is open; return its outcome as a value."""
    await gate.wait()
    try:
        return await func(*args)
    except Exception as exc:
        return exc


@pytest.mark.parametrize("form", ["before the session was entered", "after the session had ended"])
async def test_start_soon_without_an_open_session_is_refused(form):
    """Without an open session, start_soon raises an error that names the node and says when it came."""
    session = rt.Session()
    if "ended" in form:
        async with session:
            pass
    with pytest.raises(SessionError, match=rf"start_soon\(double\) came {form}; call it inside"):
        session.start_soon(double, 1)
    assert session.info.answer is None


async def test_start_soon_refuses_what_is_not_a_node_at_once():
    async with rt.Session() as session:
        with pytest.raises(rt.exceptions.NodeCreationError, match="5 is not a node"):
            session.start_soon(5)  # type: ignore[arg-type]


async def test_subscribing_after_the_end_is_refused():
    async with rt.Session() as session:
        pass
    with pytest.raises(SessionEndedError, match=r"subscribe.*after the session had ended.*before"):
        session.subscribe(print)


async def after_the_end(func, *args):
    """Run ``func`` in a task that was made in a session and goes on after its end.

    Returns:
        The outcome of ``func``, and the session.
    """
    gate, out = anyio.Event(), []

    async def stray():
        out.append(await later(gate, func, *args))

    async with anyio.create_task_group() as group:
        async with rt.Session() as session:
            session.subscribe(lambda event: out.append(event.item), kinds=(Broadcast,))
            group.start_soon(stray)
        gate.set()
    return out[0], session


async def test_call_in_a_task_of_an_ended_session_is_refused():
    """A call in a task of an ended session is refused with the name of its node."""
    error, session = await after_the_end(rt.call, double, 1)
    assert isinstance(error, SessionEndedError)
    assert "double came after its session had ended; wait for the task" in str(error)
    assert session.info.records == ()


async def test_batch_in_a_task_of_an_ended_session_is_refused():
    error, session = await after_the_end(functools.partial(rt.call_batch, double, [1], return_exceptions=False))
    assert isinstance(error, SessionEndedError)
    assert session.info.records == ()


async def test_broadcast_in_a_task_of_an_ended_session_is_refused():
    error, _ = await after_the_end(rt.broadcast, 1)
    assert isinstance(error, SessionEndedError)


def test_call_sync_in_an_ended_session_is_refused(backend):
    """In the context of an ended session, call_sync is refused with the name of its node."""
    with rt.Session(backend=backend):
        rt.call_sync(double, 1)
        context = contextvars.copy_context()
    with pytest.raises(SessionEndedError, match=r"double.*after its session had ended"):
        context.run(rt.call_sync, double, 1)


async def test_call_in_a_task_of_an_ended_call_is_refused():
    """A call in a task of an ended top-level call is refused with the name of its node."""
    gate, out = anyio.Event(), []

    async def stray():
        out.append(await later(gate, rt.call, double, 1))

    async with anyio.create_task_group() as group, rt.Session() as session:

        async def node():
            group.start_soon(stray)

        await rt.call(node)
        await anyio.sleep(1)
        gate.set()
        await anyio.sleep(1)
    assert isinstance(out[0], SessionEndedError)
    assert "double came after the call it belongs to had ended" in str(out[0])
    assert [record.name for record in session.info.records] == ["node"]


async def test_call_in_another_event_loop_is_refused():
    """A call in another event loop than that of its session is refused with what to write."""

    async def elsewhere():
        with pytest.raises(SessionError, match=r"double came in another event loop.*rt.call_sync, double"):
            await rt.call(double, 1)

    async with rt.Session() as session:
        with hold_clock():
            for other in ("asyncio", "trio"):
                await anyio.to_thread.run_sync(lambda name=other: anyio.run(elsewhere, backend=name))  # type: ignore[misc]
    assert session.info.records == ()


@pytest.mark.parametrize("place", ["body", "node"])
async def test_batch_in_another_event_loop_is_refused(place):
    """A batch in another event loop than that of its session is refused, as a call there is."""

    async def elsewhere():
        with pytest.raises(SessionError, match=r"double came in another event loop.*rt.call_sync, double"):
            await rt.call_batch(double, [1, 2])

    @rt.function_node
    async def node():
        with hold_clock():
            for other in ("asyncio", "trio"):
                await anyio.to_thread.run_sync(lambda name=other: anyio.run(elsewhere, backend=name))  # type: ignore[misc]

    async with rt.Session() as session:
        await (rt.call(node) if place == "node" else node())
    assert [record.name for record in session.info.records] == ["node"] * (place == "node")


@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_batch_of_an_ended_call_is_refused_in_another_event_loop(other, backend):
    contexts = []

    @rt.function_node
    async def node():
        contexts.append(contextvars.copy_context())

    async def batch():
        return await rt.call_batch(double, [1, 2])

    run = {"asyncio": lambda: asyncio.run(batch()), "trio": lambda: trio.run(batch)}[other]
    with rt.Session(save_state=False):
        asyncio.run(rt.call(node))  # in this order, so that anyio takes no loop for that of the copied context
        anyio.run(rt.call, double, 1, backend=backend)
        refused = contexts[0].run(run)
    assert [type(each) for each in refused] == [SessionEndedError, SessionEndedError]


async def test_call_in_the_event_loop_of_a_sync_node_is_refused():
    """A call in an event loop that a sync node runs is refused with what to write."""

    async def elsewhere():
        return await rt.call(double, 1)

    def node():
        return asyncio.run(elsewhere())

    async with rt.Session():
        with pytest.raises(SessionError, match="another event loop"):
            await rt.call(node)


async def test_broadcast_outside_a_session_says_what_to_write():
    with pytest.raises(ContextError, match=r"rt.broadcast\(\) was called outside a session.*`async with rt.Session"):
        await rt.broadcast(1)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        ("get", ("key",)),
        ("get", ("key", None)),
        ("put", ("key", 1)),
        ("update", ({},)),
        ("delete", ("key",)),
        ("keys", ()),
    ],
)
def test_the_context_outside_a_session_says_what_to_write(function, args):
    with pytest.raises(ContextError, match=rf"rt.context.{function}\(\) was called outside a session.*rt.Session"):
        getattr(rt.context, function)(*args)
