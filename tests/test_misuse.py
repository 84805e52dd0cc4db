"""Misuse is told, not suffered: the message names the thing, what was wrong, and what to write instead."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading

import anyio
import pytest

import railtracks as rt
from railtracks import _threads
from railtracks.exceptions import ConfigError, ContextError, SessionEndedError, SessionError
from railtracks.state import Broadcast
from tests.virtual import hold_clock, run


async def double(x):
    await anyio.sleep(0)
    return 2 * x


async def later(gate, func, *args):
    """``func`` in a task of the user's own, once the gate is open; its outcome as a value."""
    await gate.wait()
    try:
        return await func(*args)
    except Exception as exc:
        return exc


def errors(caplog, logger):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR and r.name == logger]


# ---- entering


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
    with pytest.raises(ConfigError, match=r"log_file: 'file/run.log' cannot be opened.*give a file"), session:
        raise AssertionError("never reached")
    assert rt.session_id() is None
    (tmp_path / "file").unlink()
    with session:
        pass
    assert (tmp_path / "file/run.log").exists()


# ---- leaving


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


async def test_leaving_in_another_task_is_refused():
    """Leaving in another task is refused, and the session stays open."""
    session, told = rt.Session(), []

    async def leave():
        with pytest.raises(SessionError, match=r"left in another task.*leave it where you entered it"):
            await session.__aexit__(None, None, None)
        told.append(True)

    async with session:
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
        assert await rt.call(double, 1) == 2
    assert told == [True]


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


# ---- before and after


@pytest.mark.parametrize("form", ["not entered yet", "over"])
async def test_start_soon_without_an_open_session_is_refused(form):
    """Without an open session, start_soon raises an error that names the node and the state of the session."""
    session = rt.Session()
    if form == "over":
        async with session:
            pass
    with pytest.raises(SessionError, match=rf"start_soon\(double\).*{form}"):
        session.start_soon(double, 1)
    assert session.info.answer is None


async def test_start_soon_refuses_what_is_not_a_node_at_once():
    async with rt.Session() as session:
        with pytest.raises(rt.exceptions.NodeCreationError, match="5 is no node"):
            session.start_soon(5)


async def test_subscribing_after_the_end_is_refused():
    async with rt.Session() as session:
        pass
    with pytest.raises(SessionEndedError, match=r"subscribe.*after the session had ended.*before"):
        session.subscribe(print)


async def test_a_call_without_a_session_opens_one_and_closes_it():
    assert await rt.call(double, 1) == 2
    assert await rt.call_batch(double, [1, 2]) == [2, 4]
    assert rt.session_id() is None


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


async def after_the_end(func, *args):
    """The outcome of ``func`` in a task that was made in a session and goes on after its end."""
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
        with pytest.raises(SessionError, match=r"double came in another event loop.*`rt.call_sync\(double"):
            await rt.call(double, 1)

    async with rt.Session() as session:
        with hold_clock():
            for other in ("asyncio", "trio"):
                await anyio.to_thread.run_sync(lambda name=other: anyio.run(elsewhere, backend=name))
    assert session.info.records == ()


async def test_call_in_the_event_loop_of_a_sync_node_is_refused():
    """A call in an event loop that a sync node runs is refused with what to write."""

    async def elsewhere():
        return await rt.call(double, 1)

    def node():
        return asyncio.run(elsewhere())

    async with rt.Session():
        with pytest.raises(SessionError, match="another event loop"):
            await rt.call(node)


# ---- batches


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True])
async def test_wrong_limit_is_refused_with_what_to_use(limit):
    async with rt.Session() as session:
        with pytest.raises(ValueError, match=r"limit is .*at least 1, or None"):
            await rt.call_batch(double, [1], limit=limit)
    assert session.info.records == ()


async def test_a_batch_without_iterables_says_what_to_write():
    with pytest.raises(TypeError, match=r"needs an iterable for each argument.*`rt.call_batch\(node, items\)`"):
        await rt.call_batch(double)


async def test_batch_over_what_cannot_be_iterated_raises_type_error():
    with pytest.raises(TypeError, match="int"):
        await rt.call_batch(double, 5)


# ---- callbacks, the file, and results


async def test_payload_callback_that_raises_is_logged(caplog):
    """A payload callback that raises is logged, and the session is not harmed."""
    error = ValueError("mine")

    def report(payload):
        raise error

    async with rt.Session(payload_callback=report):
        assert await rt.call(double, 1) == 2
    assert errors(caplog, "RT.Session") == [f"payload_callback raised {error!r}"]
    assert caplog.records[-1].exc_info[1] is error


async def _report(payload):
    raise AssertionError("never called")


class _Report:
    async def __call__(self, payload):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    "callback", [_report, functools.partial(_report), _Report()], ids=["function", "partial", "object"]
)
@pytest.mark.parametrize("make", [rt.Session, rt.session, functools.partial(rt.Flow, "F", double)])
def test_an_async_payload_callback_is_refused_at_construction(make, callback):
    with pytest.raises(ConfigError, match=r"payload_callback.*not an async one"):
        make(payload_callback=callback)


@pytest.mark.parametrize("form", ["async with", "with"])
async def test_folder_that_cannot_be_written_is_logged(tmp_path, caplog, form):
    """A folder that cannot be written is logged, and nothing is lost."""
    (tmp_path / ".railtracks").write_text("a file where the folder should be")
    payloads = []
    session = rt.Session(run_identifier="unsaved", payload_callback=payloads.append)
    if form == "async with":
        async with session:
            assert await rt.call(double, 1) == 2
    else:
        with session:
            assert await rt.call(double, 1) == 2
    [message] = errors(caplog, "RT.Session")
    assert ".railtracks/unsaved.json" in message
    assert session.info.answer == 2
    assert payloads == [session.payload()]
    assert (tmp_path / ".railtracks").read_text() == "a file where the folder should be"
    assert _threads.running() == 0


async def test_a_failure_to_save_does_not_replace_the_exception(tmp_path, caplog):
    (tmp_path / ".railtracks").write_text("")
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with rt.Session():
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert len(errors(caplog, "RT.Session")) == 1


async def test_a_failure_to_save_leaves_the_file_that_was_there_whole(tmp_path, caplog):
    folder = tmp_path / ".railtracks"
    (folder / "busy.json").mkdir(parents=True)  # a folder where the file should be
    async with rt.Session(run_identifier="busy"):
        assert await rt.call(double, 1) == 2
    assert len(errors(caplog, "RT.Session")) == 1
    assert {path.name for path in folder.iterdir()} == {"busy.json", "busy.journal"}  # and no temporary file


class Unreadable:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __getattribute__(self, name):
        if name == "__class__":
            return super().__getattribute__(name)
        raise RuntimeError("no attributes")


def _cycle():
    cycle = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize("make", [Unreadable, threading.Lock, _cycle, lambda: (x for x in ()), lambda: "\ud800"])
async def test_result_that_cannot_be_serialised_is_returned(make, tmp_path, caplog):
    """A result that cannot be serialised is still returned, and the state is saved."""
    value = make()

    async def give():
        return value

    async with rt.Session(run_identifier="odd"):
        assert await rt.call(give) is value
        assert await rt.call(double, 1) == 2
    assert caplog.records == []
    assert rt.ExecutionInfo.load(tmp_path / ".railtracks/odd.json").records[1].result == 2


@pytest.mark.parametrize("form", ["async with", "with"])
async def test_existing_identifier_is_overwritten_with_a_warning(form, tmp_path, caplog):
    """A run whose identifier exists already is overwritten with the documented warning."""
    for answer in (2, 4):
        session = rt.Session(run_identifier="my-unique-run")
        if form == "async with":
            async with session:
                await rt.call(double, answer // 2)
        else:
            with session:
                await rt.call(double, answer // 2)
        assert rt.ExecutionInfo.load(tmp_path / ".railtracks/my-unique-run.json").answer == answer
    [record] = caplog.records
    assert record.getMessage() == "File .railtracks/my-unique-run.json already exists, overwriting..."
    assert (record.name, record.levelname) == ("RT.Session", "WARNING")
    assert record.session_id == "my-unique-run"


def test_synchronous_form_warns_of_overwriting_too(backend, caplog):
    for _ in range(2):
        with rt.Session(run_identifier="my-unique-run", backend=backend):
            rt.call_sync(double, 1)
    [record] = caplog.records
    assert record.getMessage() == "File .railtracks/my-unique-run.json already exists, overwriting..."


# ---- the ecosystem's own traps


async def test_coroutine_in_place_of_a_node_says_what_to_write():
    with pytest.raises(rt.exceptions.NodeCreationError, match=r"write `rt.call\(double, \.\.\.\)`"):
        await rt.call(double(1))


def test_leaving_in_another_context_variable_context_is_allowed(backend):
    """A session may be left in another context (of context variables) than it was entered in."""

    async def main():
        session = rt.Session()
        context = contextvars.copy_context()
        context.run(session.__enter__)
        session.__exit__(None, None, None)
        assert rt.session_id() is None

    run(backend, main)


async def test_set_config_in_a_session_warns_and_leaves_it_alone():
    """Inside an open session, set_config warns and does not change that session."""
    async with rt.Session() as session:
        with pytest.warns(RuntimeWarning, match="before the session is constructed"):
            rt.set_config(timeout=1)
    assert session.executor_config.timeout == 150
    assert rt.Session().executor_config.timeout == 1
