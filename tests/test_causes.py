"""Why a call was cancelled: the reason on record is where the cancellation began, not what the clock says later."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import anyio
import pytest
import trio

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError, SessionEndedError
from railtracks.state import CallCancelled, Reason, Status
from tests import virtual


async def hang():
    await anyio.sleep_forever()


async def tidy(seconds):
    """Hang, and take ``seconds`` for the cleanup."""
    try:
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(seconds)


async def tidy_in_steps(steps):
    """Hang, and begin the cleanup again each time that it is cancelled."""
    try:
        await anyio.sleep_forever()
    finally:
        for _ in range(steps):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            await anyio.lowlevel.checkpoint()


async def fail(after):
    await anyio.sleep(after)
    raise KeyError("mine")


def reasons(session, name=None):
    return [record.reason for record in session.info.records if name in (None, record.name)]


async def test_a_timeout_is_a_timeout_below_the_call_too():
    async def outer():
        await rt.call(hang)

    async with rt.Session(timeout=1) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(outer)
    assert reasons(session) == [Reason.TIMEOUT, Reason.TIMEOUT]


@pytest.mark.parametrize("cleanup", [tidy, tidy_in_steps])
async def test_a_scope_of_user_code_counts_despite_a_later_timeout(cleanup):
    async def outer():
        with anyio.move_on_after(1):
            await rt.call(cleanup, 3)

    async with rt.Session(timeout=2) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(outer)
    assert reasons(session, cleanup.__name__) == [Reason.OUTSIDE]


async def test_a_scope_around_the_call_counts_despite_a_later_timeout():
    async with rt.Session(timeout=2) as session:
        with anyio.move_on_after(1) as scope:
            await rt.call(tidy, 3)
        assert scope.cancelled_caught
    assert reasons(session) == [Reason.OUTSIDE]


async def test_a_timeout_counts_despite_a_later_scope_of_user_code():
    async def outer():
        with anyio.move_on_after(2):
            await rt.call(tidy, 3)

    async with rt.Session(timeout=1) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(outer)
    assert reasons(session) == [Reason.TIMEOUT, Reason.TIMEOUT]


async def test_a_scope_of_user_code_counts_despite_a_later_failure():
    async def outer():
        with anyio.move_on_after(1):
            await rt.call(tidy, 3)

    async with rt.Session(end_on_error=True) as session, anyio.create_task_group() as group:

        async def run(node, *args):
            with contextlib.suppress(KeyError):
                await rt.call(node, *args)

        group.start_soon(run, outer)
        group.start_soon(run, fail, 2)
    assert reasons(session, "tidy") == [Reason.OUTSIDE]


async def of_batch(seconds):
    """Hang, or fail after some seconds."""
    await (rt.call(tidy_in_steps, 2) if seconds is None else rt.call(fail, seconds))


@pytest.mark.parametrize("keep_records", ["all", "failures"])
@pytest.mark.parametrize("limit", [None, 3])
async def test_the_failure_of_another_call_of_a_batch_is_batch(limit, keep_records):
    async def outer():
        with contextlib.suppress(KeyError):
            await rt.call_batch(
                of_batch, [None, 1, None], return_exceptions=False, limit=limit, keep_records=keep_records
            )
        with anyio.move_on_after(1):
            await rt.call(hang)

    async with rt.Session() as session:
        await rt.call(outer)
        with pytest.raises(KeyError):
            await rt.call_batch(of_batch, [1, None], return_exceptions=False)
        assert session._coordinator.scopes.failed_batches == set()
    assert sorted(map(str, reasons(session, "of_batch"))) == ["None", "None", "batch", "batch", "batch"]
    assert reasons(session, "tidy_in_steps") == [Reason.BATCH] * 3
    assert reasons(session, "hang") == [Reason.OUTSIDE]
    assert "Cancelled (batch)" in session.info.tree()


async def test_the_failure_of_another_item_of_a_stream_is_batch():
    async with rt.Session() as session:
        with pytest.raises(KeyError):
            async with rt.call_stream(of_batch, [None, 1, None]) as results:
                async for _ in results:
                    pass
    assert reasons(session, "of_batch") == [Reason.BATCH, None, Reason.BATCH]


async def test_a_scope_around_a_batch_counts_as_outside():
    async with rt.Session() as session:
        with anyio.move_on_after(1):
            await rt.call_batch(of_batch, [None, None], return_exceptions=False)
    assert reasons(session) == [Reason.OUTSIDE] * 4


async def test_a_timeout_counts_before_a_later_failure_in_a_batch():
    async def outer():
        await rt.call_batch(tidy, [3, 3], return_exceptions=False)

    async with rt.Session(timeout=1) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(outer)
    assert reasons(session) == [Reason.TIMEOUT] * 3


async def test_the_failure_of_another_call_is_end_on_error():
    async with rt.Session(end_on_error=True) as session:
        with pytest.raises(KeyError):
            await rt.call_batch(lambda node: rt.call(node), [hang, lambda: fail(1)], return_exceptions=False)
    assert set(reasons(session, "hang")) == {Reason.END_ON_ERROR}


async def test_a_body_that_raises_is_session_ended():
    session = rt.Session()
    with pytest.raises(KeyError):
        async with session:
            session.start_soon(hang)
            await anyio.sleep(1)
            raise KeyError("body")
    assert reasons(session) == [Reason.SESSION_ENDED]


async def test_a_body_that_is_cancelled_is_outside():
    session = rt.Session()
    with anyio.move_on_after(1):
        async with session:
            session.start_soon(hang)
            await anyio.sleep_forever()
    assert reasons(session) == [Reason.OUTSIDE]


async def test_what_outlives_its_top_level_call_is_run_ended():
    async def outer(group):
        group.start_soon(rt.call, hang)
        await anyio.sleep(1)
        raise KeyError("mine")

    async with rt.Session() as session, anyio.create_task_group() as group:

        async def run():
            with pytest.raises((KeyError, SessionEndedError)):
                await rt.call(outer, group)

        with contextlib.suppress(BaseExceptionGroup):
            async with anyio.create_task_group() as inner:
                inner.start_soon(run)
                group = inner
    assert Reason.RUN_ENDED in reasons(session) or reasons(session, "hang") == [Reason.OUTSIDE]


async def test_another_session_around_it_is_outside():
    """What ends an outer session comes from outside for the inner one, whatever it is called there."""
    inner = rt.Session()

    async def outer():
        async with inner:
            await rt.call(hang)

    async with rt.Session(timeout=1) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(outer)
    assert reasons(session) == [Reason.TIMEOUT, None]  # the second call says which session was opened
    assert reasons(inner) == [Reason.OUTSIDE]


async def test_a_call_made_while_a_cancellation_is_handled_has_its_own():
    async def outer():
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await rt.call(cleanup)

    async def cleanup():
        async with rt.Session(timeout=1) as inner:
            sessions.append(inner)
            with contextlib.suppress(GlobalTimeOutError):
                await rt.call(hang)

    sessions: list[rt.Session] = []
    async with rt.Session():
        with anyio.move_on_after(1):
            await rt.call(outer)
    assert reasons(sessions[0]) == [Reason.TIMEOUT]


async def test_log_line_and_event_have_the_reason(caplog):
    caplog.set_level("INFO", "RT")
    events = []
    session = rt.Session(logging_setting="REGULAR")
    session.subscribe(events.append, kinds=(CallCancelled,))
    with pytest.raises(KeyError):
        async with session:
            session.start_soon(hang)
            await anyio.sleep(1)
            raise KeyError("body")
    assert [event.reason for event in events] == [Reason.SESSION_ENDED]
    assert "hang CANCELLED (session_ended)" in caplog.text
    assert "ERROR" not in caplog.text


def test_task_cancel_is_outside_though_a_timeout_is_set():
    async def main():
        async with rt.Session(timeout=60) as session:
            task = asyncio.ensure_future(rt.call(hang))
            await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return session

    assert reasons(asyncio.run(main())) == [Reason.OUTSIDE]


def test_a_scope_of_the_user_counts_after_ctrl_c_on_trio():
    """trio notes a Ctrl-C that waits as the reason of the innermost scope. It was taken for an endless timeout."""

    @trio.lowlevel.enable_ki_protection
    def press_ctrl_c():
        signal.raise_signal(signal.SIGINT)

    async def tidy():
        try:
            press_ctrl_c()
            await anyio.lowlevel.checkpoint()
        finally:
            await anyio.sleep(10)

    async def main():
        async with rt.Session(save_state=False) as session:
            with anyio.move_on_after(1):
                await rt.call(tidy)
        return session

    session = virtual.run("trio", main)
    assert reasons(session) == [Reason.OUTSIDE]
    assert session.payload()["runs"]


@pytest.mark.parametrize("gather", ["gather", "task group"])
def test_a_timeout_reaches_tasks_of_asyncio_as_a_timeout(gather):
    async def outer():
        if gather == "gather":
            await asyncio.gather(rt.call(hang), rt.call(hang))
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(rt.call(hang))
                group.create_task(rt.call(hang))

    async def main():
        async with rt.Session(timeout=0.05) as session:
            with pytest.raises(GlobalTimeOutError):
                await rt.call(outer)
        return session

    assert reasons(asyncio.run(main())) == [Reason.TIMEOUT] * 3


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, BaseException, GeneratorExit])
def test_what_a_node_raised_is_a_failure_whatever_it_is(kind, backend):
    error = kind("mine")

    async def raising():
        await anyio.lowlevel.checkpoint()
        raise error

    session = rt.Session()

    async def main():
        async with session:
            await rt.call(raising)

    with pytest.raises(type(error)) as caught:
        anyio.run(main, backend=backend)
    assert caught.value is error
    [record] = session.info.records
    assert record.status is Status.FAILED
    assert record.exception is error
