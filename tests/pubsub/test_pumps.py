"""Deliveries that go wrong do not hold up others: those who wait for room go on, calls return, and the session ends."""

from __future__ import annotations

import random

import anyio
import pytest
from anyio.lowlevel import checkpoint

import railtracks as rt
from railtracks.exceptions import SessionEndedError
from railtracks.execution._lifecycle import Phase
from railtracks.state import Broadcast, Status
from tests import virtual


@rt.function_node
async def say(item):
    await rt.broadcast(item)
    return item


def waited_for(session, callback, **options):
    return session.subscribe(callback, kinds=(Broadcast,), capacity=1, policy="wait", **options)


async def test_a_session_that_saves_takes_no_broadcast():
    """While it does, its task group closes, which gives other tasks a turn."""

    async def broadcasts_on_and_on(session):
        with pytest.raises(SessionEndedError):
            while True:
                phase = session._coordinator.lifecycle.phase
                await rt.broadcast("late")
                assert phase < Phase.SAVING
                await checkpoint()

    async with anyio.create_task_group() as group:
        with pytest.raises(ValueError, match="the body fails"):
            async with rt.Session(save_state=False) as session:
                group.start_soon(broadcasts_on_and_on, session)
                raise ValueError("the body fails")


# ---- those who wait for room


async def test_a_subscriber_that_is_removed_releases_who_waits_for_it():
    """All broadcasts but the first wait for room when the callback raises, and its subscription is removed."""

    async def broken(event):
        await anyio.sleep(1)
        raise ValueError("the subscriber is broken")

    async with rt.Session(timeout=60) as session:
        subscription = waited_for(session, broken, on_error="remove")
        assert await rt.call_batch(say, range(6)) == list(range(6))
    assert subscription.closed
    assert subscription.errors == 1


async def test_one_who_gives_up_waiting_keeps_nobody_from_its_turn():
    """There is room with the quick subscriber when the first one who waits for both is cancelled."""
    sent = []

    async def quick(event):
        await anyio.sleep(1)

    async def slow(event):
        await anyio.sleep(10)

    async def gives_up():
        with anyio.move_on_after(4):
            await rt.broadcast("given up")
            sent.append("given up")

    async def goes_on():
        await rt.broadcast("late")
        sent.append("late")

    async with rt.Session() as session:
        for callback in (quick, slow):
            waited_for(session, callback)
        await rt.broadcast("both are busy")
        await anyio.lowlevel.checkpoint()
        await rt.broadcast("both buffers are full")
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(gives_up)
                await anyio.sleep(0.1)
                group.start_soon(goes_on)
    assert sent == ["late"]


# ---- a plain `with` in async code, which has no nursery between its calls


async def calls_that_begin_while_others_end(seed):
    dice = random.Random(seed)
    received: list[list[object]] = [[], []]

    async def node():
        await anyio.sleep(dice.choice([0, 0, 1, 2]))

    def subscriber(events):
        async def hear(event):
            await anyio.sleep(dice.choice([0, 1, 3, 5]))
            events.append(event)

        return hear

    async def two_calls():
        for _ in range(2):
            await rt.call(node)
            await anyio.sleep(dice.choice([0, 0, 1, 2]))

    with rt.Session(save_state=False) as session:
        subscriptions = [session.subscribe(subscriber(events), capacity=2) for events in received]
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(two_calls)
    assert [record.status for record in session.info.records] == 6 * [Status.COMPLETED]
    for events, subscription in zip(received, subscriptions, strict=True):
        assert len(events) + subscription.dropped == 2 * 6


def test_calls_that_begin_while_others_end_return(backend):
    """Pumps end with the last call, and begin with the next one: none begins twice, and none is missing."""
    for seed in range(60):
        virtual.run(backend, calls_that_begin_while_others_end, seed)


# ---- callbacks that end the program, or never return


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("waiting", [1, 5], ids=["the last event", "more events wait"])
def test_a_callback_that_ends_the_program_ends_it_plainly(backend, kind, waiting):
    """SystemExit, or Ctrl-C, in a callback comes out of the session, whatever there is still to be delivered."""
    error = kind("mine")
    called = []

    def callback(item):
        called.append(item)
        raise error

    @rt.function_node
    async def work():
        for item in range(waiting):
            await rt.broadcast(item)
        await anyio.sleep(1)

    with pytest.raises(kind) as caught:
        virtual.run(backend, rt.Flow("F", work, broadcast_callback=callback, save_state=False).ainvoke)
    assert caught.value is error
    assert called == [0]


async def test_subscribers_that_never_return_share_one_deadline():
    ends = anyio.current_time() + 10  # the seconds that all deliveries have together
    body_error = KeyError("body")

    async def never(event):
        await anyio.sleep_forever()

    with pytest.raises(KeyError) as caught:
        async with rt.Session(save_state=False) as session:
            subscriptions = [session.subscribe(never) for _ in range(3)]
            await rt.call(say, 1)
            raise body_error
    assert caught.value is body_error
    assert anyio.current_time() == ends
    assert [subscription.dropped for subscription in subscriptions] == [3, 3, 3]
