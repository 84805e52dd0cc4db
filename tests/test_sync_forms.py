"""The synchronous forms: ``with`` and ``rt.call_sync`` in plain code; ``with`` and ``await rt.call`` in async code."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ContextError, GlobalTimeOutError, SessionEndedError, SessionError
from railtracks.execution import running_library
from railtracks.state import Reason, Status
from tests.virtual import hold_clock, run

MINUTE = 60


async def double(x):
    await anyio.sleep(0)
    return 2 * x


async def for_ever():
    await anyio.sleep_forever()


async def library():
    return running_library()


def outcome(func, *args):
    """What ``func`` returns or raises, as a value."""
    try:
        return func(*args)
    except BaseException as exc:
        return exc


def in_user_thread(func, *args):
    """The outcome of ``func`` in a thread of the test's own, without any context."""
    out = []
    with hold_clock():
        thread = threading.Thread(target=lambda: out.append(outcome(func, *args)))
        thread.start()
        thread.join()
    return out[0]


def loop_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("railtracks-session")]


def by_name(session):
    return {record.name: record for record in session.info.records}


# ---- `with` in plain code


def test_call_sync_returns_what_the_node_returns(backend):
    with rt.Session(backend=backend):
        assert [rt.call_sync(double, x) for x in range(5)] == [0, 2, 4, 6, 8]


def test_call_sync_runs_on_the_configured_backend(backend):
    with rt.Session(backend=backend):
        assert rt.call_sync(library) == backend


def test_call_sync_takes_keyword_arguments_and_sync_nodes(backend):
    def join(a, *, b):
        return a + b

    with rt.Session(backend=backend):
        assert rt.call_sync(join, "a", b="b") == "ab"


def test_session_goes_on_after_the_exception_of_a_call_sync(backend):
    """A call_sync raises the node's own exception, and the session goes on."""
    error = ValueError("mine")

    async def fail():
        raise error

    with rt.Session(backend=backend) as session:
        assert outcome(rt.call_sync, fail) is error
        assert rt.call_sync(double, 1) == 2
    assert [record.status for record in session.info.records] == [Status.FAILED, Status.COMPLETED]


def test_an_exception_of_a_call_leaves_the_with_block_as_itself(backend):
    error = ValueError("mine")

    async def fail():
        raise error

    with pytest.raises(ValueError) as caught, rt.Session(backend=backend):
        rt.call_sync(fail)
    assert caught.value is error


def test_exception_of_the_body_leaves_the_with_block_as_itself(backend):
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, rt.Session(backend=backend):
        rt.call_sync(double, 1)
        raise error
    assert caught.value is error
    assert caught.value.__context__ is None


def test_an_exception_group_of_the_body_stays_the_same_object(backend):
    error = ExceptionGroup("mine", [ValueError(1)])
    with pytest.raises(ExceptionGroup) as caught, rt.Session(backend=backend):
        rt.call_sync(double, 1)
        raise error
    assert caught.value is error


def test_synchronous_call_that_takes_too_long_times_out(backend):
    # Real time: the loop of the session runs in its own thread, on its own clock.
    with rt.Session(timeout=0.01, backend=backend) as session:
        error = outcome(rt.call_sync, for_ever)
    assert isinstance(error, GlobalTimeOutError)
    assert error.timeout == 0.01
    assert "for_ever" in str(error)
    assert session.info.records[0].reason is Reason.TIMEOUT


def test_end_on_error_ends_later_synchronous_calls(backend):
    error = ValueError("first")

    async def fail():
        raise error

    with rt.Session(end_on_error=True, backend=backend):
        assert outcome(rt.call_sync, fail) is error
        late = outcome(rt.call_sync, double, 1)
    assert isinstance(late, SessionEndedError)
    assert late.__cause__ is error


def test_loop_thread_lives_from_the_first_call_to_the_end(backend):
    """The loop thread starts with the first call and ends with the session."""
    before = threading.active_count()
    with rt.Session(backend=backend):
        assert loop_threads() == []
        rt.call_sync(double, 1)
        first = loop_threads()
        rt.call_sync(double, 2)
        assert loop_threads() == first
        assert len(first) == 1
    assert loop_threads() == []
    assert threading.active_count() <= before + 1  # a worker of trio's cache may idle for some seconds


def test_a_session_without_a_call_starts_no_thread_and_is_saved(tmp_path):
    before = threading.active_count()
    with rt.Session(run_identifier="empty"):
        pass
    assert threading.active_count() == before
    assert rt.ExecutionInfo.load(tmp_path / ".railtracks/empty.json").answer is None


def test_the_context_is_shared_between_the_body_and_the_nodes(backend):
    async def add():
        rt.context.put("count", rt.context.get("count") + 1)

    given = {"count": 1}
    with rt.Session(given, backend=backend) as session:
        rt.call_sync(add)
        assert rt.context.get("count") == 2
        rt.context.put("from body", True)
    assert session.context == {"count": 2, "from body": True}
    assert given == {"count": 1}


def test_context_variables_of_the_caller_are_seen_by_the_node(backend):
    variable = contextvars.ContextVar("variable", default="unset")

    async def read():
        return variable.get()

    with rt.Session(backend=backend):
        assert rt.call_sync(read) == "unset"
        token = variable.set("set later")
        assert rt.call_sync(read) == "set later"
        variable.reset(token)


def test_info_payload_and_file_are_equal_after_the_end(backend, tmp_path):
    with rt.Session(run_identifier="plain", backend=backend) as session:
        rt.call_sync(double, 1)
        rt.call_sync(double, 2)
    assert session.info.answer == [2, 4]
    assert [item["status"] for item in session.payload()["runs"]] == ["Completed", "Completed"]
    assert rt.ExecutionInfo.load(tmp_path / ".railtracks/plain.json") == session.info


def test_after_the_with_block_no_session_is_active(backend):
    with rt.Session(backend=backend) as session:
        assert rt.session_id() == session.identifier
        rt.call_sync(double, 1)
    assert rt.session_id() is None
    with pytest.raises(ContextError):
        rt.context.get("key")


def test_nested_with_blocks_share_nothing(backend):
    """Nested with blocks each have their own loop, context and records."""
    with rt.Session({"who": "outer"}, backend=backend) as outer:
        rt.call_sync(double, 1)
        with rt.Session({"who": "inner"}, backend=backend) as inner:
            assert rt.call_sync(double, 2) == 4
            assert rt.context.get("who") == "inner"
            assert len(loop_threads()) == 2
        assert rt.context.get("who") == "outer"
        assert rt.call_sync(double, 3) == 6
    assert outer.info.answer == [2, 6]
    assert inner.info.answer == 4


def test_broadcasts_are_delivered_before_the_with_block_ends(backend):
    heard = []

    async def speak():
        for i in range(3):
            await rt.broadcast(i)

    with rt.Session(broadcast_callback=heard.append, backend=backend):
        rt.call_sync(speak)
    assert heard == [0, 1, 2]


def test_two_threads_may_make_the_first_call_at_once(backend):
    def first(barrier):
        barrier.wait()
        return rt.call_sync(double, 1)

    with rt.Session(backend=backend) as session:
        barrier = threading.Barrier(2)
        context = contextvars.copy_context()
        results = []
        other = threading.Thread(target=lambda: results.append(context.run(first, barrier)))
        other.start()
        results.append(first(barrier))
        other.join()
        assert len(loop_threads()) == 1
    assert results == [2, 2]
    assert session.info.answer == [2, 2]


def test_a_body_that_raises_cancels_the_call_of_another_thread(backend):
    started, ended, out = threading.Event(), [], []

    async def slow():
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    error = KeyError("body")
    with pytest.raises(KeyError) as caught, rt.Session(backend=backend) as session:
        context = contextvars.copy_context()
        other = threading.Thread(target=lambda: out.append(outcome(context.run, rt.call_sync, slow)))
        other.start()
        started.wait(10)
        raise error
    other.join(10)
    assert caught.value is error
    assert ended == [True]
    assert isinstance(out[0], SessionEndedError)
    assert session.info.records[0].status is Status.CANCELLED


def test_start_soon_in_a_plain_with_says_to_write_async_with(backend):
    with rt.Session(backend=backend) as session:
        with pytest.raises(SessionError, match=r"double.*`async with rt.Session"):
            session.start_soon(double, 1)
        rt.call_sync(double, 1)
        with pytest.raises(SessionError, match=r"double.*`async with rt.Session"):
            session.start_soon(double, 1)


def test_call_sync_with_what_is_not_a_node_says_what_to_write(backend):
    with rt.Session(backend=backend), pytest.raises(rt.exceptions.NodeCreationError, match=r"rt.function_node"):
        rt.call_sync(3)  # type: ignore[call-overload]
    assert loop_threads() == []


# ---- call_sync without a session, and where it cannot work


def test_call_sync_without_a_session_opens_one(backend, tmp_path):
    """Without a session, call_sync opens one on the configured backend."""
    rt.set_config(backend=backend, run_identifier="alone")
    assert rt.call_sync(library) == backend
    assert rt.ExecutionInfo.load(tmp_path / ".railtracks/alone.json").answer == backend


def test_call_sync_without_a_session_raises_the_node_exception(backend):
    error = ValueError("mine")

    async def fail():
        raise error

    rt.set_config(backend=backend)
    assert outcome(rt.call_sync, fail) is error


async def test_call_sync_in_a_running_loop_shows_the_await_to_write(backend):
    """In a running loop, call_sync raises an error that names the loop and the await to write."""
    with pytest.raises(SessionError, match=rf"running {backend} event loop.*`await rt.call\(double"):
        rt.call_sync(double, 1)
    async with rt.Session():
        with pytest.raises(SessionError, match=rf"running {backend} event loop.*`await rt.call\(double"):
            rt.call_sync(double, 1)


async def test_call_sync_in_an_async_node_raises_at_once():
    async def wrong():
        rt.call_sync(double, 1)

    async with rt.Session() as session:
        with pytest.raises(SessionError, match=r"await rt.call"):
            await rt.call(wrong)
    assert len(session.info.records) == 1


def test_a_user_thread_without_context_is_outside_the_session(backend):
    """Its call_sync opens a session of its own; the session of the main thread does not see it."""
    rt.set_config(backend=backend)
    with rt.Session() as session:
        assert in_user_thread(rt.session_id) is None
        assert isinstance(in_user_thread(rt.context.get, "key"), ContextError)
        with pytest.warns(RuntimeWarning, match="opens a session of its own"):
            assert in_user_thread(rt.call_sync, double, 4) == 8
    assert session.info.answer is None


# ---- call_sync in threads of an async session


@pytest.mark.parametrize("depth", [1, 3])
async def test_call_sync_in_nested_nodes_records_the_right_parents(depth):
    def level(n):
        return rt.call_sync(level, n - 1) + 1 if n else rt.call_sync(double, 0)

    async with rt.Session() as session:
        assert await rt.call(level, depth) == depth
    assert [record.parent for record in session.info.records] == [None, *range(depth + 1)]
    assert {record.run for record in session.info.records} == {0}


def test_call_sync_of_a_plain_session_records_the_right_parents(backend):
    """In nested sync nodes of a synchronous session, call_sync records the right parents."""

    def outer(x):
        return rt.call_sync(inner, x) + 1

    def inner(x):
        return rt.call_sync(double, x) + 1

    with rt.Session(backend=backend) as session:
        assert rt.call_sync(outer, 5) == 12
    assert [(r.name, r.parent) for r in session.info.records] == [("outer", None), ("inner", 0), ("double", 1)]


async def test_call_sync_in_a_sync_node_raises_the_child_exception():
    error = ValueError("mine")

    async def fail():
        raise error

    def catch():
        return outcome(rt.call_sync, fail)

    async with rt.Session():
        assert await rt.call(catch) is error


async def test_a_sync_node_may_open_a_synchronous_session_of_its_own(backend):
    def host():
        with rt.Session(backend=backend) as inner:
            return rt.call_sync(double, 2), inner.info.answer, rt.session_id() == inner.identifier

    async with rt.Session() as outer:
        assert await rt.call(host) == (4, 4, True)
        assert rt.session_id() == outer.identifier
    assert [record.name for record in outer.info.records] == ["host", "session"]


def test_call_sync_from_asyncio_to_thread_has_the_right_parent():
    async def outer():
        return await asyncio.to_thread(rt.call_sync, double, 3)

    async def main():
        async with rt.Session() as session:
            assert await rt.call(outer) == 6
            assert await asyncio.to_thread(rt.call_sync, double, 4) == 8
        assert [(r.name, r.parent) for r in session.info.records] == [("outer", None), ("double", 0), ("double", None)]

    anyio.run(
        main
    )  # in real time: asyncio gives its executor's threads 300 seconds to end, which virtual time would skip


async def test_call_sync_from_a_thread_with_the_context_has_its_parent():
    """A call_sync from a thread of the caller's own, with the node's context, has the right parent."""

    def outer():
        context, out = contextvars.copy_context(), []
        thread = threading.Thread(target=lambda: out.append(context.run(rt.call_sync, double, 3)))
        thread.start()
        thread.join()
        return out[0]

    async with rt.Session() as session:
        assert await rt.call(outer) == 6
    assert [(r.name, r.parent) for r in session.info.records] == [("outer", None), ("double", 0)]


@pytest.mark.parametrize("when", ["while the session runs", "after the session"])
async def test_late_call_sync_of_an_abandoned_thread_is_refused(when):
    started, release, done, out = anyio.Event(), threading.Event(), threading.Event(), []

    def late():
        anyio.from_thread.run_sync(started.set)
        release.wait(10)
        out.append(outcome(rt.call_sync, double, 1))
        done.set()

    async with rt.Session() as session:
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, late)
            await started.wait()
            group.cancel_scope.cancel()
        if when == "while the session runs":
            release.set()
            done.wait(10)
    release.set()
    done.wait(10)
    assert isinstance(out[0], SessionEndedError)
    assert "double" in str(out[0])
    assert [record.name for record in session.info.records] == ["late"]


# ---- `with` in async code


async def test_await_call_works_in_a_plain_with_in_async_code():
    with rt.Session() as session:
        assert await rt.call(double, 1) == 2
        assert await rt.call(double, 2) == 4
    assert session.info.answer == [2, 4]
    assert rt.session_id() is None


async def test_each_call_in_a_plain_with_waits_for_its_subscribers():
    heard = []

    async def hear(item):
        await anyio.sleep(5)
        heard.append(item)

    async def speak(item):
        await rt.broadcast(item)

    with rt.Session(broadcast_callback=hear, timeout=1):
        await rt.call(speak, 1)
        assert heard == [1]
        await rt.call(speak, 2)
        assert heard == [1, 2]


async def test_call_in_a_plain_with_returns_after_its_events():
    """Each call in a plain with has delivered its events when it returns."""
    seen = []
    with rt.Session() as session:
        session.subscribe(lambda event: seen.append(type(event).__name__))
        for expected in (2, 4):
            await rt.call(double, 1)
            assert len(seen) == expected


@pytest.mark.parametrize("count", [2, 3, 10])
async def test_concurrent_calls_in_a_plain_with_lose_no_broadcast(count):
    """They share the pumps of the subscribers: each that leaves hands them on, also when several leave at once."""

    async def speak(i):
        await gates[i].wait()
        await rt.broadcast(i)
        gates[i + 1].set()

    for _ in range(20):  # rounds, as trio's order of tasks is random
        heard, gates = [], [anyio.Event() for _ in range(count + 1)]
        with rt.Session(broadcast_callback=heard.append, save_state=False):
            async with anyio.create_task_group() as group:
                for i in range(count):
                    group.start_soon(rt.call, speak, i)
                await anyio.sleep(1)
                gates[0].set()
        assert heard == list(range(count))


async def test_a_plain_with_raises_the_node_s_own_exception():
    error = ExceptionGroup("mine", [ValueError(1)])

    async def fail():
        raise error

    with rt.Session():
        with pytest.raises(ExceptionGroup) as caught:
            await rt.call(fail)
        assert await rt.call(double, 1) == 2
    assert caught.value is error


async def test_a_plain_with_times_out():
    with rt.Session(timeout=MINUTE), pytest.raises(GlobalTimeOutError):
        await rt.call(for_ever)
    assert anyio.current_time() == pytest.approx(MINUTE)


async def test_a_plain_with_ends_on_error():
    error = ValueError("first")
    running = anyio.Event()
    out = []

    async def slow():
        running.set()
        await anyio.sleep_forever()

    async def fail():
        await running.wait()
        raise error

    async def keep(node):
        try:
            await rt.call(node)
        except Exception as exc:
            out.append(exc)

    with rt.Session(end_on_error=True) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(keep, slow)
            group.start_soon(keep, fail)
        with pytest.raises(SessionEndedError):
            await rt.call(double, 1)
    assert out[0] is error
    assert out[1] is error
    assert by_name(session)["slow"].reason is Reason.END_ON_ERROR


def test_gather_works_in_a_plain_with():
    async def main():
        with rt.Session() as session:
            assert await asyncio.gather(*(rt.call(double, x) for x in range(3))) == [0, 2, 4]
        return session

    assert run("asyncio", main).info.answer == [0, 2, 4]


async def test_leaving_a_plain_with_cancels_a_call_that_still_runs():
    running, ended, out = anyio.Event(), [], []

    async def slow():
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def keep():
        try:
            await rt.call(slow)
        except SessionEndedError as exc:
            out.append(exc)

    async with anyio.create_task_group() as group:
        with rt.Session() as session:
            group.start_soon(keep)
            await running.wait()
    assert ended == [True]
    assert "slow" in str(out[0])
    assert session.info.records[0].status is Status.CANCELLED


async def test_file_of_a_plain_with_has_no_open_calls(tmp_path):
    """The file of a plain with does not say "open" for a call that its end cancelled."""
    running = anyio.Event()

    async def slow():
        running.set()
        await anyio.sleep_forever()

    async def keep():
        with pytest.raises(SessionEndedError):
            await rt.call(slow)

    async with anyio.create_task_group() as group:
        with rt.Session(run_identifier="left"):
            group.start_soon(keep)
            await running.wait()
    saved = rt.ExecutionInfo.load(tmp_path / ".railtracks/left.json")
    assert saved.records[0].status is Status.CANCELLED


async def test_start_soon_in_a_plain_with_in_async_code_is_refused():
    """In a plain with in async code, start_soon says to write "async with"."""

    @rt.function_node
    async def start():
        session.start_soon(double, 1)

    with rt.Session() as session:
        with pytest.raises(SessionError, match=r"double.*`async with rt.Session.*`await rt.call\(double"):
            session.start_soon(double, 1)
        with pytest.raises(SessionError, match=r"double.*`async with rt.Session.*`await rt.call\(double"):
            await rt.call(start)


async def test_call_sync_from_a_thread_of_a_plain_with_is_refused():
    """From a thread of a plain with in async code, call_sync says to write "async with"."""
    with rt.Session(), hold_clock(), pytest.raises(SessionError, match=r"`async with rt.Session"):
        await anyio.to_thread.run_sync(rt.call_sync, double, 1)


async def test_call_sync_in_a_sync_node_works_in_a_plain_with():
    """In a plain with in async code, call_sync works in a sync node."""

    def outer():
        return rt.call_sync(double, 1)

    with rt.Session() as session:
        assert await rt.call(outer) == 2
    assert [record.parent for record in session.info.records] == [None, 0]


# ---- `with` around event loops


def test_a_plain_with_may_hold_several_event_loops(backend):
    heard = []

    async def speak(x):
        await rt.broadcast(x)
        return await rt.call(double, x)

    async def main(x):
        return await rt.call(speak, x)

    with rt.Session(broadcast_callback=heard.append) as session:
        assert [anyio.run(main, x, backend=backend) for x in (1, 2)] == [2, 4]
    assert heard == [1, 2]
    assert session.info.answer == [2, 4]
    assert [record.parent for record in session.info.records] == [None, 0, None, 2]


def test_plain_with_may_hold_event_loops_of_both_backends():
    """A plain with may hold event loops of both backends and call_sync."""

    def sync_node():
        return rt.call_sync(library)

    async def main():
        return await rt.call(sync_node)

    with rt.Session(backend="trio") as session:
        assert anyio.run(main, backend="asyncio") == "asyncio"
        assert anyio.run(main, backend="trio") == "trio"
        assert asyncio.run(main()) == "asyncio"
        assert rt.call_sync(sync_node) == "trio"
    assert len(session.info.answer) == 4


def test_two_event_loops_at_once_in_a_plain_with_are_refused():
    async def main():
        with hold_clock():
            await anyio.to_thread.run_sync(lambda: asyncio.run(other()))

    async def other():
        with pytest.raises(SessionError, match=r"double.*another event loop"):
            await rt.call(double, 1)

    async def node():
        await main()

    async def top():
        await rt.call(node)

    with rt.Session():
        asyncio.run(top())
