"""What code in another event loop than that of its session may do, and what its errors say to write instead."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import SessionError
from railtracks.state import Broadcast, Status

pytestmark = pytest.mark.parametrize("other", ["asyncio", "trio"])
tenant: ContextVar[str] = ContextVar("tenant", default="none")


@rt.function_node
async def leaf():
    await anyio.sleep(0)
    return tenant.get()


async def elsewhere(other, func, *args):
    """Run an async function in an event loop of its own, in the thread of a sync node."""

    @rt.function_node
    def node():
        tenant.set("a")
        return anyio.run(func, *args, backend=other)

    return await rt.call(node)


async def test_start_soon_in_another_event_loop_runs_the_call(other):
    async def start():
        return session.start_soon(leaf)

    async with rt.Session() as session:
        handle = await elsewhere(other, start)
        assert await handle.wait() is Status.COMPLETED
    assert [record.result for record in session.info.records if record.name == "leaf"] == ["a"]


async def test_a_broadcast_in_another_event_loop_is_refused(other):
    """It is refused with what to write instead, which works, and later items are delivered."""
    heard = []

    async def publish():
        with pytest.raises(SessionError, match=r"broadcast\(\) came in another event loop.*`await anyio\.to_thread"):
            await rt.broadcast("lost")
        await anyio.to_thread.run_sync(rt.broadcast_sync, "in a thread")

    async with rt.Session(broadcast_callback=heard.append):
        await elsewhere(other, publish)
        await rt.broadcast("later")
    assert heard == ["in a thread", "later"]


@pytest.mark.parametrize("form", ["rt.call_sync", "session.call_sync", "rt.broadcast_sync"])
async def test_blocking_in_another_event_loop_advises_a_thread(form, other):
    """What would block that loop is refused, with a form that works there."""

    async def block():
        func = {"rt.call_sync": rt.call_sync, "session.call_sync": session.call_sync}.get(form, rt.broadcast_sync)
        with pytest.raises(SessionError, match=rf"which it would block; write `await anyio\.to_thread\.\w+\({form}, "):
            func(leaf)
        return await anyio.to_thread.run_sync(func, leaf)

    async with rt.Session() as session:
        assert await elsewhere(other, block) == (None if "broadcast" in form else "a")


async def test_every_call_in_another_event_loop_is_refused(other):
    async def refused():
        functions: list[Any] = [rt.call, rt.call_batch, rt.receive, rt.ask, rt.sleep, session.call]
        arguments: list[tuple] = [(leaf,), (lambda x: x, [1]), ("topic",), ("why?",), (1,), (leaf,)]
        for func, args in zip(functions, arguments, strict=True):
            with pytest.raises(SessionError, match=r"came in another event loop.*`await anyio\.to_thread"):
                await func(*args)
        return "refused"

    async with rt.Session(ask_callback=str) as session:
        assert await elsewhere(other, refused) == "refused"


async def test_a_subscription_from_another_event_loop_is_served(other):
    heard = []

    async def subscribe():
        session.subscribe(lambda event: heard.append(event.item), kinds=(Broadcast,))

    async with rt.Session() as session:
        await elsewhere(other, subscribe)
        await rt.broadcast(1)
    assert heard == [1]


def test_a_subscription_from_another_thread_is_served(other):
    """It is served from the body of a plain session whose loop runs already, and from a sync node."""
    heard = []

    def subscribe(name):
        session.subscribe(lambda event: heard.append((name, event.item)), kinds=(Broadcast,))

    with rt.Session(backend=other) as session:
        rt.broadcast_sync("before")
        subscribe("body")
        rt.call_sync(subscribe, "node")
        rt.broadcast_sync("after")
    assert sorted(heard) == [("body", "after"), ("node", "after")]
