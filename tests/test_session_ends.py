"""A session ends whatever is done to it: nothing runs on, and the end is not torn apart.

On asyncio the event loop itself may cancel everything, also the tasks that the session ends with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import Any

import anyio
import pytest
import trio

import railtracks as rt
from railtracks._context_variable import current
from railtracks._session import _nursery
from railtracks.exceptions import SessionEndedError, SessionError
from railtracks.state import Broadcast, Reason, Status
from tests import virtual


async def work(seconds=1):
    await anyio.sleep(seconds)


async def tidy():
    """Hang, and clean up in steps, each of which a native cancellation may end."""
    try:
        await asyncio.sleep(100)
    finally:
        with anyio.CancelScope(shield=True):
            for _ in range(5):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)


# ---- who comes late


async def test_a_subscriber_that_comes_after_the_body_is_served():
    received = []
    async with rt.Session(save_state=False) as session:

        async def late():
            await anyio.sleep(1)
            session.subscribe(received.append)

        session.start_soon(late)
    assert [type(event).__name__ for event in received] == ["CallSucceeded"]


async def test_a_subscriber_that_comes_after_the_deliveries_is_refused():
    """The first one that nothing could deliver to any more is refused."""
    async with anyio.create_task_group() as group, rt.Session(save_state=False) as session:

        async def subscribe_until_refused():
            with pytest.raises(SessionEndedError, match=r"subscribe\(\) came after .*subscribe before it ends"):
                while True:
                    session.subscribe(print)
                    await anyio.lowlevel.checkpoint()

        group.start_soon(subscribe_until_refused)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("ticks", range(12))
def test_a_call_at_the_very_end_is_delivered_or_refused(ticks):
    async def main():
        received = []

        async def late():
            for _ in range(ticks):
                await asyncio.sleep(0)
            with contextlib.suppress(SessionEndedError):
                await rt.call(work, 0)

        async with rt.Session(save_state=False) as session:
            subscription = session.subscribe(received.append)
            task = asyncio.create_task(late())
        await task
        assert len(received) + subscription.dropped == 2 * len(session.info.records)

    asyncio.run(main())


@pytest.mark.parametrize("ticks", range(12))
def test_a_broadcast_at_the_very_end_is_delivered_or_refused(ticks):
    async def main():
        received, sent = [], []

        async def late():
            for _ in range(ticks):
                await asyncio.sleep(0)
            with contextlib.suppress(SessionEndedError):
                await rt.broadcast("late")
                sent.append("late")

        async with rt.Session(save_state=False) as session:
            subscription = session.subscribe(received.append, kinds=(Broadcast,))
            task = asyncio.create_task(late())
        await task
        assert len(received) + subscription.dropped == len(sent)

    asyncio.run(main())


# ---- the end of asyncio.run


async def with_a_subscriber(session):
    session.subscribe(lambda event: None)
    async with session:
        await rt.call(work)


async def with_a_child(session):
    async with session:
        session.start_soon(work)
        await asyncio.sleep(1)


async def with_a_batch(session):
    async with session:
        await rt.call_batch(work, [1, 2, 3])


async def with_cleanup(session):
    async with session:
        session.start_soon(tidy)
        await rt.call(work, 0)
        raise KeyError("body")


async def with_slow_deliveries(session):
    async def slow(event):
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    session.subscribe(slow, policy="wait", capacity=1)
    async with session:
        await rt.call_batch(work, [0, 0])


async def in_a_plain_with(session):
    session.subscribe(lambda event: asyncio.sleep(0), policy="wait")
    with session:
        await rt.call_batch(work, [0, 1])


async def with_streams(session):
    async with session:
        async with rt.astream(work) as stream:
            async for _ in stream:
                break
        async for _ in rt.astream(work, 0):
            pass


BODIES = [
    with_a_subscriber,
    with_a_child,
    with_a_batch,
    with_cleanup,
    with_slow_deliveries,
    in_a_plain_with,
    with_streams,
]


@pytest.mark.parametrize("body", BODIES)
def test_asyncio_run_may_end_at_any_tick(body):
    """Asyncio cancels all tasks then, once, also those with which the session ends: pumps, children, batches."""

    async def main(tick, sessions):
        session = rt.Session(store=rt.state.MemoryStore(), name="run")
        sessions.append(session)
        task = asyncio.create_task(body(session))
        for _ in range(tick):
            await asyncio.sleep(0)
        return task

    for tick in range(30):
        sessions: list[rt.Session] = []
        task = virtual.run("asyncio", main, tick, sessions)
        assert task.done()
        [session] = sessions
        assert current.get() is None
        assert all(record.status is not Status.OPEN for record in session.info.records)
        if session.payload()["start_time"] is not None:
            with pytest.raises(SessionError, match="is over"):
                session.__enter__()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("body", BODIES)
def test_all_tasks_may_be_cancelled_at_any_tick(body, times):
    async def main(tick):
        session = rt.Session(store=rt.state.MemoryStore(), name="run")
        task = asyncio.create_task(body(session))
        for _ in range(times):
            for _ in range(tick):
                await asyncio.sleep(0)
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
        with contextlib.suppress(asyncio.CancelledError, KeyError):
            await task
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert all(record.status is not Status.OPEN for record in session.info.records)

    for tick in range(30):
        virtual.run("asyncio", main, tick)


def test_asyncio_run_that_ends_during_cleanup_waits_for_it():
    """The session is closing because a call has failed, and all tasks are cancelled while a node cleans up."""
    store = rt.state.MemoryStore()
    running, reported, left = set(), [], []

    async def tidies():
        running.add("tidies")
        try:
            await asyncio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                for _ in range(5):
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(1)
            running.discard("tidies")

    async def fails():
        await asyncio.sleep(1)
        raise KeyError("one of two")

    async def job():
        try:
            async with rt.Session(
                run_identifier="run", store=store, payload_callback=lambda _: reported.append(set(running))
            ):
                await asyncio.gather(rt.call(tidies), rt.call(fails))
        finally:
            left.append(set(running))

    async def main():
        task = asyncio.create_task(job())
        await asyncio.sleep(2)
        assert running == {"tidies"}
        return task

    assert virtual.run("asyncio", main).done()
    assert (reported, left) == ([set()], [set()])
    assert {record.name: record.status for record in rt.state.load_run("run", store).records} == {
        "tidies": Status.CANCELLED,
        "fails": Status.FAILED,
    }


# ---- batches and plain sessions that are cancelled


def test_a_batch_in_a_natively_cancelled_task_is_cancelled():
    """anyio may count the native cancellation of a worker as that of its own task group, and lose it."""
    gone_on = []

    async def part():
        gone_on.append(await rt.call_batch(work, [1, 2], return_exceptions=False))

    async def top():
        await asyncio.gather(part(), asyncio.sleep(1))

    async def main():
        async with rt.Session(save_state=False, timeout=0.5) as session:
            with pytest.raises(rt.exceptions.GlobalTimeOutError):
                await rt.call(top)
        return session

    session = virtual.run("asyncio", main)
    assert gone_on == []
    assert {record.reason for record in session.info.records} == {Reason.TIMEOUT}


def test_a_call_in_a_plain_with_keeps_its_cancellation():
    async def top():
        return await rt.call_batch(work, [1])

    async def hear(event):
        await asyncio.sleep(0.2)

    async def job(given):
        with rt.Session(save_state=False) as session:
            session.subscribe(hear, policy="wait")
            given.append(await rt.call(top))

    async def main():
        given: list[object] = []
        task = asyncio.create_task(job(given))
        for _ in range(6):
            await asyncio.sleep(0)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert given == []

    virtual.run("asyncio", main)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_call_in_a_plain_with_passes_ctrl_c_on(backend, is_cancelled):
    """It comes while the events of a call that failed, or was cancelled, are delivered.

    On asyncio the first Ctrl-C is a cancellation.
    """

    async def main():
        heard, scope = anyio.Event(), anyio.CancelScope()

        async def end():
            if is_cancelled:
                scope.cancel()
                await anyio.sleep(1)
            raise KeyError("node")

        async def hear(event):
            heard.set()
            await anyio.sleep(1)

        async def press_ctrl_c():
            await heard.wait()
            signal.raise_signal(signal.SIGINT)  # in a system task trio holds it back for the main task

        if backend == "trio":
            trio.lowlevel.spawn_system_task(press_ctrl_c)
        else:
            task = asyncio.current_task()
            asyncio.create_task(heard.wait()).add_done_callback(lambda _: task.cancel())
        with rt.Session(save_state=False) as session:
            session.subscribe(hear)
            with scope:
                await rt.call(end)

    with pytest.raises(KeyboardInterrupt if backend == "trio" else asyncio.CancelledError):
        virtual.run(backend, main)


def test_a_call_in_a_plain_with_keeps_an_error_when_cancelled(backend):
    """As trio's nurseries raise them, for example with Ctrl-C as the error."""

    async def end():
        try:
            await anyio.sleep(10)
        except anyio.get_cancelled_exc_class() as exc:
            raise BaseExceptionGroup("both", [KeyError("node"), exc]) from None

    async def main():
        with rt.Session(save_state=False), anyio.move_on_after(1):
            await rt.call(end)

    with pytest.raises(BaseExceptionGroup) as info:
        virtual.run(backend, main)
    assert isinstance(info.value.exceptions[0], KeyError)


def test_a_callback_that_is_cut_off_in_a_with_may_broadcast(backend):
    """Nothing delivers that. It waited for its own callback, for another ten seconds."""

    async def hear(event):
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await rt.broadcast("late")

    async def main():
        began = anyio.current_time()
        with rt.Session(save_state=False) as session:
            subscription = session.subscribe(hear)
            await rt.call(work, 0)
        assert anyio.current_time() - began == pytest.approx(10, abs=1)
        assert subscription.dropped == 3

    virtual.run(backend, main)


def test_a_plain_with_reports_after_its_last_delivery():
    running, seen = set(), []

    async def hear(event):
        running.add("callback")
        await asyncio.sleep(0.3)
        running.discard("callback")

    async def fail():
        await asyncio.sleep(0.1)
        raise KeyError("body")

    async def main():
        session = rt.Session(save_state=False, payload_callback=lambda payload: seen.append(set(running)))
        with pytest.raises(KeyError), session:
            session.subscribe(hear)
            await asyncio.gather(rt.call(work, 0), fail())
        await asyncio.sleep(5)

    virtual.run("asyncio", main)
    assert seen == [set()]


def test_a_stream_while_the_task_group_closes_is_refused():
    """Nothing could run its call any more. It was a RuntimeError of the task group."""

    async def main():
        refused = []

        async def late():
            with pytest.raises(SessionEndedError, match=r"astream\(work, ...\) came after .* waited for its children"):
                await anext(rt.astream(work))
            refused.append(True)

        async def inside():
            await rt.call(late)

        async with rt.Session(save_state=False):
            task = asyncio.create_task(inside())
        await task
        assert refused == [True]

    asyncio.run(main())


# ---- async generators


class Generator:
    """An async generator with a session, in which a call runs beside its items."""

    def __init__(self, **options):
        self.session = rt.Session(**options)
        self.left: BaseException | None = None

    async def __call__(self):
        try:
            async with self.session:
                self.session.start_soon(work, 100)
                for number in range(3):
                    await rt.broadcast(number)
                    yield await rt.call(abs, number)
        except BaseException as exc:
            self.left = exc
            raise


async def test_an_async_generator_that_is_closed_ends_its_session():
    sent = []
    generator = Generator(run_identifier="run", broadcast_callback=sent.append)
    async with contextlib.aclosing(generator()) as items:
        async for item in items:
            if item == 1:
                break
    assert type(generator.left) is GeneratorExit
    assert sent == [0, 1]
    for info in (generator.session.info, rt.state.load_run("run")):
        assert [record.status for record in info.records] == [
            Status.COMPLETED if record.name == "abs" else Status.CANCELLED for record in info.records
        ]
        assert [record.name for record in info.records].count("abs") == 2


async def test_an_async_generator_that_is_closed_late_is_cancelled():
    """The code that closes it is cancelled while its session ends."""
    generator = Generator(save_state=False, broadcast_callback=lambda _: anyio.sleep(10))
    with anyio.move_on_after(5) as scope:
        async with contextlib.aclosing(generator()) as items:
            async for _ in items:
                break
        await anyio.sleep(1_000)
    assert scope.cancelled_caught
    assert isinstance(generator.left, (asyncio.CancelledError, GeneratorExit))  # trio raises it at the sleep
    assert generator.session.info.end_time is not None


async def test_a_generator_exit_of_the_body_comes_out_as_it_is():
    error = GeneratorExit()
    with pytest.raises(GeneratorExit) as caught:
        async with rt.Session(save_state=False):
            raise error
    assert caught.value is error


# ---- calls that do not end


@pytest.fixture
def warnings_of_end(monkeypatch):
    """The warnings of sessions whose ends wait, after an instant in place of seconds, and what each of them sets."""
    monkeypatch.setattr(_nursery, "LONG_WAIT", 0.001)
    found, events = [], []
    handler = logging.Handler(logging.WARNING)

    def emit(record):
        found.append(record.getMessage())
        for event in events:
            event.set()

    handler.emit = emit  # type: ignore[method-assign]
    logging.getLogger("RT").addHandler(handler)
    yield found, events
    logging.getLogger("RT").removeHandler(handler)


@pytest.mark.parametrize("raises", [False, True])
def test_an_end_that_waits_for_calls_names_them_once(raises, backend, warnings_of_end):
    found, events = warnings_of_end
    begun: Any = None

    async def stubborn():
        with anyio.CancelScope(shield=True):
            begun.set()
            await events[0].wait()

    async def main():
        nonlocal begun
        begun = anyio.Event()
        events.append(anyio.Event())
        async with rt.Session(save_state=False) as session:
            session.start_soon(stubborn)
            await begun.wait()
            if raises:
                raise KeyError

    with pytest.raises(KeyError) if raises else contextlib.nullcontext():
        anyio.run(main, backend=backend)
    advice = (
        "They were cancelled; a node that catches that ends its `except` with `raise`"
        if raises
        else "To end one that does not end by itself, write handle.cancel() before the session is left, with the "
        "handle that start_soon returned"
    )
    line = stubborn.__code__.co_firstlineno + 3
    (text,) = found
    assert text == (
        "The end of the session has waited for 5 s, and goes on waiting for these calls: "
        f"stubborn, line {line} of test_session_ends.py. {advice}"
    )


async def test_in_virtual_time_an_end_that_waits_is_quiet(warnings_of_end):
    async with rt.Session(save_state=False) as session:
        session.start_soon(work, 100)
    assert warnings_of_end[0] == []
