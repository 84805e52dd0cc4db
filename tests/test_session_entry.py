"""Entering and leaving sessions: twice, in the wrong order, in another task, form or context."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import anyio
import pytest
import trio

import railtracks as rt
from railtracks.exceptions import ConfigError, SessionError
from railtracks.state import Reason
from tests.virtual import run


async def double(x):
    await anyio.sleep(0)
    return 2 * x


@pytest.mark.parametrize("form", ["async with", "with"])
async def test_entering_an_open_session_again_is_refused(form):
    async with rt.Session() as session:
        with pytest.raises(SessionError, match=rf"{session.identifier} was entered before and is open.*new rt.Session"):
            if form == "async with":
                await session.__aenter__()
            else:
                session.__enter__()
        assert await rt.call(double, 1) == 2


async def test_entering_a_session_that_is_over_is_refused():
    session = rt.Session()
    async with session:
        pass
    with pytest.raises(SessionError, match=rf"{session.identifier} was entered before and is over.*rt.Flow"):
        async with session:
            raise AssertionError("never reached")
    assert rt.session_id() is None


def test_entering_a_plain_session_twice_is_refused():
    session = rt.Session()
    with session:
        with pytest.raises(SessionError, match="is open"), session:
            raise AssertionError("never reached")
        assert rt.session_id() == session.identifier
    with pytest.raises(SessionError, match="is over"), session:
        raise AssertionError("never reached")


def test_session_without_its_log_file_may_be_entered_later(tmp_path):
    """A log file that cannot be opened is refused at entry, and the session may be entered later."""
    (tmp_path / "file").write_text("")
    session = rt.Session(log_file="file/run.log")
    with pytest.raises(ConfigError, match=r"log_file: 'file/run.log' cannot be opened.*use a file"), session:
        raise AssertionError("never reached")
    assert rt.session_id() is None
    (tmp_path / "file").unlink()
    with session:
        pass
    assert (tmp_path / "file/run.log").exists()


async def test_leaving_the_outer_session_first_is_refused():
    """Leaving the outer session first is refused, and both can still be left in the right order."""
    outer, inner = rt.Session(), rt.Session()
    await outer.__aenter__()
    await inner.__aenter__()
    with pytest.raises(
        SessionError, match=rf"{outer.identifier} is left before the session {inner.identifier}.*nested"
    ):
        await outer.__aexit__(None, None, None)
    assert await rt.call(double, 1) == 2
    await inner.__aexit__(None, None, None)
    await outer.__aexit__(None, None, None)
    assert (inner.info.answer, outer.info.answer) == (2, None)
    assert rt.session_id() is None


def test_leaving_the_outer_plain_session_first_is_refused(backend):
    """Leaving the outer plain session first is refused, and both can still be left in the right order."""
    outer, inner = rt.Session(backend=backend), rt.Session(backend=backend)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(SessionError, match="leave the inner one first"):
        outer.__exit__(None, None, None)
    assert rt.call_sync(double, 1) == 2
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    assert rt.session_id() is None


def test_leaving_in_another_task_ends_the_session_and_is_told(backend):
    """Leaving in another task ends and saves the session like any other, and then raises an error."""
    session, told = rt.Session(run_identifier="run"), []

    async def leave():
        with pytest.raises(SessionError, match=r"left in another task.*leave it in the task that entered it.*plain"):
            await session.__aexit__(None, None, None)
        told.append(True)

    async def hang():
        await anyio.sleep_forever()

    async def main():
        await session.__aenter__()
        session.start_soon(hang)
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as group:
            group.start_soon(leave)

    # On trio the nursery stays open, as only its task can close it, and trio tells that too.
    with contextlib.nullcontext() if backend == "asyncio" else pytest.raises(BaseException, match="corrupted"):
        anyio.run(main, backend=backend)  # not in virtual time: the harness has a scope of its own around it
    assert told == [True]
    for info in (session.info, rt.state.load_run("run")):
        assert [record.reason for record in info.records] == [Reason.SESSION_ENDED]
    assert rt.session_id() is None
    with rt.Session(run_identifier="run"):
        assert rt.call_sync(double, 1) == 2


def test_a_generator_closed_in_another_task_leaves_no_task(backend):
    async def generator(session):
        async with session:
            session.subscribe(lambda event: None)
            await rt.call(double, 1)
            yield

    async def close(items):
        with pytest.raises(SessionError, match="left in another task"):
            await items.aclose()

    async def main():
        before = count_tasks(backend)
        items = generator(rt.Session())
        await anext(items)
        async with anyio.create_task_group() as group:
            group.start_soon(close, items)
        await anyio.wait_all_tasks_blocked()
        left.append(count_tasks(backend) - before)

    left = []
    with contextlib.nullcontext() if backend == "asyncio" else pytest.raises(BaseException, match="corrupted"):
        anyio.run(main, backend=backend)
    assert left == [0]


def count_tasks(backend):
    return len(asyncio.all_tasks()) if backend == "asyncio" else trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("where", ["call", "callback"])
async def test_leaving_in_a_call_of_its_own_is_refused(where):
    """The end of a session waits for its calls and callbacks, so one that left it would wait for itself."""

    async def leave(event=None):
        with pytest.raises(SessionError, match=r"in one of its own calls or callbacks.*in the block that entered it"):
            await session.__aexit__(None, None, None)
        refused.append(where)

    refused = []
    async with rt.Session(broadcast_callback=leave if where == "callback" else None) as session:
        if where == "call":
            await rt.call(leave)
        else:
            await rt.broadcast("leave")
            await anyio.wait_all_tasks_blocked()
        assert await rt.call(double, 1) == 2
    assert refused == [where]
    assert rt.session_id() is None


def test_leaving_a_plain_session_in_a_call_of_its_own_is_refused(backend):
    async def leave():
        with pytest.raises(SessionError, match="in one of its own calls"):
            session.__exit__(None, None, None)

    with rt.Session(backend=backend) as session:
        rt.call_sync(leave)
        assert rt.call_sync(double, 1) == 2


async def test_leaving_twice_or_without_entering_is_refused():
    session = rt.Session()
    with pytest.raises(SessionError, match="is left, but it is not entered yet"):
        await session.__aexit__(None, None, None)
    async with session:
        pass
    with pytest.raises(SessionError, match="is left, but it is over"):
        await session.__aexit__(None, None, None)
    with pytest.raises(SessionError, match="is left, but it is over"):
        session.__exit__(None, None, None)


async def test_leaving_in_another_form_than_entering_is_refused():
    """Leaving in another form than entering is refused, and the session stays open."""
    async with rt.Session() as session:
        with pytest.raises(SessionError, match="async with"):
            session.__exit__(None, None, None)
        assert await rt.call(double, 1) == 2


async def test_leaving_a_plain_session_with_async_exit_is_refused():
    """Leaving a plain session with an async exit is refused, and the session stays open."""
    with rt.Session() as session:
        with pytest.raises(SessionError, match="`with"):
            await session.__aexit__(None, None, None)
        assert await rt.call(double, 1) == 2


def test_leaving_in_another_context_variable_context_is_allowed(backend):
    """A session may be left in another context (of context variables) than it was entered in."""

    async def main():
        session = rt.Session()
        context = contextvars.copy_context()
        context.run(session.__enter__)
        session.__exit__(None, None, None)
        assert rt.session_id() is None

    run(backend, main)
