"""trio as a guest of asyncio: two event loops take turns in one thread, each with sessions of its own."""

from __future__ import annotations

import asyncio

import anyio
import trio

import railtracks as rt
from railtracks._concurrency._event_loop import running_library
from railtracks.state import Status


@rt.function_node
async def leaf(seconds=0):
    await anyio.sleep(seconds)
    return running_library()


def in_thread():
    return rt.call_sync(leaf)


async def use_session():
    events = []
    async with rt.Session(save_state=False, logging_setting="NONE") as session:
        session.subscribe(events.append, policy="wait", capacity=1)
        session.start_soon(leaf)
        results = [await rt.call(leaf), *await rt.call_batch(leaf, [0, 0]), await rt.call(in_thread)]
        with anyio.move_on_after(0.01):
            await rt.call(leaf, 100)
    assert len(events) == 2 * len(session.info.records)
    assert [record.status for record in session.info.records].count(Status.CANCELLED) == 1
    return results


def test_sessions_of_the_host_and_of_the_guest():
    async def host():
        ended = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            use_session,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        own = await use_session()
        return own, (await ended).unwrap()

    assert asyncio.run(host()) == (["asyncio"] * 4, ["trio"] * 4)
