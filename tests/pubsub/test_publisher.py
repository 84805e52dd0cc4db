"""Subscribers: what they are given, when, and that they can harm nobody."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, SessionEndedError
from railtracks.state import Broadcast, CallCancelled, CallCreated, CallEvent, CallFailed, CallSucceeded


@rt.function_node
async def leaf(x=1):
    return x


@rt.function_node
async def say(*items):
    for item in items:
        await rt.broadcast(item)


async def test_sync_and_async_callbacks_get_broadcasts_in_order():
    got = []

    async def slowly(item):
        await anyio.sleep(1)
        got.append(item)

    for callback in (got.append, slowly):
        got.clear()
        async with rt.Session(broadcast_callback=callback):
            await rt.call(say, 1, "two", {"three": 3})
        assert got == [1, "two", {"three": 3}]


async def test_a_broadcast_waits_only_for_room_in_the_channel():
    """It does not wait for the delivery."""
    times, delivered = [], []

    async def slowly(event):
        await anyio.sleep(1)
        delivered.append(event.item)

    @rt.function_node
    async def producer():
        for i in range(20):
            await rt.broadcast(i)
            times.append(anyio.current_time())

    async with rt.Session() as session:
        session.subscribe(slowly, kinds=(Broadcast,), capacity=5, policy="wait")
        await rt.call(producer)
    assert delivered == list(range(20))
    assert times[:5] == [0] * 5, "there was room"
    assert times[-1] == 14, "the rest waited until there was"


async def test_subscribers_see_all_events_of_calls_in_order():
    events = []
    error = ValueError("x")

    @rt.function_node
    async def bad():
        raise error

    @rt.function_node
    async def top():
        await rt.call(leaf, 5)
        with anyio.move_on_after(1):
            await rt.call(rt.function_node(anyio.sleep), 50)
        await rt.call(bad)

    async with rt.Session() as session:
        session.subscribe(events.append, kinds=(CallEvent,))
        with pytest.raises(ValueError, match="x"):
            await rt.call(top)
    kinds = [type(event) for event in events]
    assert kinds == [
        CallCreated, CallCreated, CallSucceeded, CallCreated, CallCancelled, CallCreated, CallFailed, CallFailed,
    ]  # fmt: skip
    assert [event.step for event in events] == list(range(8))
    assert (events[1].args, events[1].name, events[1].parent_id) == ((5,), "leaf", events[0].node_id)
    assert events[2].result == 5
    assert events[4].reason == "outside"
    assert events[6].exception is error
    assert {event.session_id for event in events} == {session.identifier}
    assert {event.run_id for event in events} == {events[0].run_id}


@pytest.mark.parametrize(("policy", "expected"), [("drop_oldest", [0, 7, 8, 9]), ("drop_newest", [0, 1, 2, 3])])
async def test_a_full_channel_drops_as_its_policy_says(policy, expected):
    got, begun, released = [], anyio.Event(), anyio.Event()

    async def stuck(event):
        begun.set()
        await released.wait()
        got.append(event.item)

    async with rt.Session() as session:
        subscription = session.subscribe(stuck, kinds=(Broadcast,), capacity=3, policy=policy)
        await rt.broadcast(0)
        await begun.wait()
        for i in range(1, 10):
            await rt.broadcast(i)
        released.set()
    assert got == expected
    assert subscription.dropped == 6


async def test_a_subscriber_that_must_miss_nothing_is_removed_if_so(caplog):
    got, released = [], anyio.Event()

    async def stuck(event):
        await released.wait()
        got.append(event.item)

    async with rt.Session() as session:
        subscription = session.subscribe(stuck, name="ledger", kinds=(Broadcast,), capacity=2, policy="fail")
        for i in range(5):
            await rt.broadcast(i)
        assert subscription.closed
        released.set()
    assert got == [0, 1]
    assert ["ledger" in record.message for record in caplog.records] == [True]


async def test_new_calls_wait_for_a_subscriber_and_ends_never_do():
    """The subscriber asks for that."""
    seen = 0

    async def slowly(event):
        nonlocal seen
        await anyio.sleep(1)
        seen += 1

    async with rt.Session() as session:
        session.subscribe(slowly, kinds=(CallEvent,), capacity=1, policy="wait")
        start = anyio.current_time()
        await rt.call(leaf)
        assert anyio.current_time() == start, "its end did not wait"
        await rt.call(leaf)
        assert anyio.current_time() > start
    assert seen == 4
    first, second = session.info.records
    assert second.started > first.ended, "it began when it had waited"  # type: ignore[operator]


async def test_a_call_that_waits_for_a_subscriber_can_be_cancelled():
    async def stuck(event):
        await anyio.sleep(5)

    async with rt.Session() as session:
        session.subscribe(stuck, kinds=(CallEvent,), capacity=1, policy="wait")
        await rt.call(leaf)
        with anyio.move_on_after(1) as scope:
            await rt.call(leaf)
            await rt.call(leaf)
        assert scope.cancelled_caught


async def test_a_callback_does_not_wait_for_its_own_channel():
    """It calls nodes, whose events go to the same channel."""
    depth = []

    async def react(event):
        if len(depth) < 50:
            depth.append(1)
            await rt.call(leaf)

    async with rt.Session() as session:
        session.subscribe(react, kinds=(CallCreated,), capacity=1, policy="wait")
        await rt.call(leaf)
    assert len(session.info.records) == 51


async def test_a_call_made_by_the_last_delivery_is_still_welcome():
    async def react(item):
        if item != "from the callback":
            await rt.call(say, "from the callback")

    async with rt.Session(broadcast_callback=react) as session:
        await rt.call(say, "at the very end")
    assert [record.name for record in session.info.records] == ["say", "say"]


async def test_a_subscriber_that_raises_is_logged_and_does_no_harm(caplog):
    """The log message names it."""
    got = []

    def broken(item):
        raise ValueError(item)

    async with rt.Session(broadcast_callback=got.append) as session:
        kept = session.subscribe(broken, name="the broken one")
        gone = session.subscribe(broken, name="the gone one", on_error="remove")
        assert await rt.call(leaf, 3) == 3
        await rt.call(say, *range(5))
    assert got == list(range(5))
    assert kept.errors == 9
    assert gone.errors == 1
    assert gone.closed
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {record.name for record in errors} == {"RT.Publisher"}
    assert sum("the broken one" in record.message for record in errors) == 4, "the 1st, 2nd, 4th and 8th time"
    assert sum("the gone one" in record.message for record in errors) == 1


async def test_a_cancelled_session_delivers_all_accepted_events():
    got = []

    async def slowly(item):
        await anyio.sleep(1)
        got.append(item)

    with anyio.move_on_after(2.5):
        async with rt.Session(broadcast_callback=slowly):
            await rt.call(say, *range(6))
            await anyio.sleep(50)
    assert got == list(range(6))


async def test_events_not_taken_in_time_are_dropped_and_logged(caplog):
    """They are counted."""

    async def stuck(event):
        await anyio.sleep(1000)

    start = anyio.current_time()
    async with rt.Session() as session:
        subscription = session.subscribe(stuck, name="stuck", kinds=(Broadcast,))
        await rt.call(say, 1, 2, 3)
    assert anyio.current_time() - start == 10
    assert subscription.dropped == 3
    dropped = "stuck did not take all events before the session had ended; it missed 3 events"
    assert [dropped in record.message for record in caplog.records] == [True]


async def test_an_event_after_close_is_not_taken():
    got = []
    async with rt.Session() as session:
        subscription = session.subscribe(got.append, kinds=(Broadcast,))
        await rt.broadcast(1)
        subscription.close()
        await rt.broadcast(2)
    assert [event.item for event in got] == [1]


@pytest.mark.parametrize(
    "arguments",
    [{"callback": 3}, {"capacity": 0}, {"capacity": True}, {"policy": "block"}, {"on_error": "ignore"}],
    ids=str,
)
def test_a_wrong_argument_is_named(arguments):
    with pytest.raises(ConfigError, match="subscribe"):
        rt.Session().subscribe(**{"callback": print, **arguments})


async def test_subscribing_after_the_end_is_refused():
    async with rt.Session() as session:
        pass
    with pytest.raises(SessionEndedError, match="subscribe"):
        session.subscribe(print)


async def test_a_stray_cancellation_in_a_callback_does_no_harm(caplog):
    def broken(item):
        raise asyncio.CancelledError  # as a client library may, for a future of its own

    async with rt.Session(broadcast_callback=broken) as session:
        await rt.call(say, 1, 2)
        await anyio.sleep(1)
        assert await rt.call(leaf, 3) == 3
    assert [record.status.value for record in session.info.records] == ["Completed", "Completed"]
    assert len(caplog.records) == 2
