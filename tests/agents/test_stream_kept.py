"""Streams that are kept or dropped: they end with the call or the session, whatever refers to them."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.exceptions import SessionEndedError
from railtracks.state import Status
from tests.agents.helpers import CANCELLED, PIECES, Left, ends, speaking


async def test_a_stream_that_is_kept_while_the_body_ends_does_not_hang():
    agent, model = speaking()
    async with rt.Session() as session:
        stream = rt.astream(agent, "x")
        assert (await anext(stream)).text == "one"
    assert model.closed == 1
    assert ends(session) == CANCELLED
    with pytest.raises(SessionEndedError):
        await anext(stream)


async def test_a_kept_stream_does_not_hang_when_the_body_raises():
    agent, model = speaking()
    with pytest.raises(Left):
        async with rt.Session() as session:
            stream = rt.astream(agent, "x")
            await anext(stream)
            raise Left
    assert model.closed == 1
    assert ends(session) == CANCELLED
    await stream.aclose()


async def test_a_kept_stream_ends_with_the_call_that_opened_it():
    """Nothing hangs."""
    agent, model = speaking()
    kept = []

    async def node():
        kept.append(rt.astream(agent, "x"))
        return (await anext(kept[0])).text

    async with rt.Session() as session:
        assert await rt.call(node) == "one"
        assert model.closed == 1
        assert ends(session) == {**CANCELLED, "node": (Status.COMPLETED, None)}


async def test_a_stream_kept_by_a_caught_error_does_not_hang():
    """The traceback of the error of a nested call keeps the stream, and the caller keeps the error."""
    agent, model = speaking()

    async def opener():
        stream = rt.astream(agent, "x")
        await anext(stream)
        raise Left(stream)

    async def node():
        try:
            await rt.call(opener)
        except Left as exc:
            return exc
        return None

    async with rt.Session() as session:
        assert type(await rt.call(node)) is Left
        assert model.closed == 1
        assert ends(session) == {**CANCELLED, "opener": (Status.FAILED, None), "node": (Status.COMPLETED, None)}


async def test_a_stream_of_a_failed_top_level_call_does_not_hang():
    """The error of the call keeps the stream."""
    agent, model = speaking()

    async def opener():
        stream = rt.astream(agent, "x")
        await anext(stream)
        raise Left(stream)

    async with rt.Session():
        with pytest.raises(Left) as caught:
            await rt.call(opener)
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
    assert caught.value.args


async def test_a_stream_may_be_handed_on_to_the_caller_while_both_run():
    """Opened by a nested call and read after its end: it ends no later than its run."""
    agent, model = speaking()

    async def opener():
        stream = rt.astream(agent, "x")
        return stream, (await anext(stream)).text

    async def node():
        stream, first = await rt.call(opener)
        return [first] + [chunk.text async for chunk in stream]

    async with rt.Session(timeout=5):
        found = await rt.call(node)
    assert found == [*PIECES, ""]
    assert model.closed == 1


async def test_a_call_that_outlasts_its_caller_reads_to_the_end():
    """The call reads a stream of its own."""
    agent, _ = speaking(between=lambda: anyio.sleep(1))
    texts = []

    async def reader():
        texts.extend([chunk.text async for chunk in rt.astream(agent, "x")])

    async def node(group):
        group.start_soon(rt.call, reader)
        await anyio.sleep(1.5)

    async with rt.Session(), anyio.create_task_group() as group:
        await rt.call(node, group)
    assert texts == [*PIECES, ""]


async def test_a_stream_collected_in_another_thread_is_cancelled():
    agent, model = speaking()
    async with rt.Session() as session:
        holder = [rt.astream(agent, "x")]
        await anext(holder[0])
        thread = threading.Thread(target=lambda: (holder.clear(), gc.collect()))  # type: ignore[func-returns-value]
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        assert ends(session) == CANCELLED


async def test_a_stream_in_a_cycle_is_cancelled_when_it_is_collected():
    agent, model = speaking()
    async with rt.Session() as session:
        cycle: list[Any] = [rt.astream(agent, "x")]
        cycle.append(cycle)
        await anext(cycle[0])
        del cycle
        gc.collect()
        await anyio.wait_all_tasks_blocked()
        assert model.closed == 1
        assert ends(session) == CANCELLED


async def test_a_stream_dropped_after_its_event_loop_is_silent(backend, recwarn):
    """The event loop has ended before, and there is no warning."""
    agent, _ = speaking()
    kept = []

    async def main():
        async with rt.Session():
            kept.append(rt.astream(agent, "x"))
            await anext(kept[0])

    thread = threading.Thread(target=lambda: anyio.run(main, backend=backend))
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    kept.clear()
    gc.collect()
    assert [warning for warning in recwarn if issubclass(warning.category, ResourceWarning | RuntimeWarning)] == []
