"""Calls by way of a session, wherever the code stands that makes them; handles; threads without a context."""

import contextvars
import decimal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import pytest

import railtracks as rt
from railtracks._session import _calling
from railtracks.exceptions import SessionEndedError, SessionError
from railtracks.state import Reason, Status


@rt.function_node
async def leaf(value=1, seconds=0.0):
    await anyio.sleep(seconds)
    return value


@rt.function_node
async def broken():
    raise KeyError("broken")


def statuses(*handles):
    return [handle.status for handle in handles]


def names(session):
    return [record.name for record in session.info.records]


async def in_pool(func):
    """Return what ``func`` returns in a thread of a pool, which has no context."""
    with ThreadPoolExecutor(1) as pool:
        return await anyio.to_thread.run_sync(lambda: pool.submit(func).result())


# ---- start_soon, and its handles


async def test_a_sync_node_starts_calls():
    handles = []
    async with rt.Session() as session:

        @rt.function_node
        def node():
            handles.append(session.start_soon(leaf, 2, seconds=5))
            return session.start_soon(leaf, 3).name

        assert await rt.call(node) == "leaf"
        assert statuses(*handles) == [Status.OPEN]
    assert statuses(*handles) == [Status.COMPLETED]
    assert {(record.result, record.parent) for record in session.info.records[1:]} == {(2, None), (3, None)}


def test_a_node_of_a_session_in_synchronous_code_starts_calls(backend):
    rt.set_config(backend=backend)
    with rt.Session() as session:

        @rt.function_node
        def node():
            return session.start_soon(leaf, 2)

        handle = rt.call_sync(node)
        with pytest.raises(SessionError, match="async with"):
            session.start_soon(leaf)
    assert handle.status is Status.COMPLETED
    assert names(session) == ["node", "leaf"]


async def test_a_handle_says_how_the_call_ended():
    with pytest.raises(KeyError):
        async with rt.Session() as session:
            done, failed = session.start_soon(leaf, 7), session.start_soon(broken)
            assert statuses(done, failed) == [Status.OPEN, Status.OPEN]
            assert await done.wait() is Status.COMPLETED
            assert await failed.wait() is Status.FAILED
            assert await failed.wait() is failed.status
            assert repr(failed) == "<call of broken: Failed>"


async def test_a_cancelled_call_is_recorded_as_such_and_raises_nothing():
    async with rt.Session() as session:
        handle, other = session.start_soon(leaf, 1, seconds=1_000), session.start_soon(leaf, 2, seconds=1)
        await anyio.sleep(0.5)
        handle.cancel()
        handle.cancel()
        assert await handle.wait() is Status.CANCELLED
        assert statuses(other) == [Status.OPEN]
    assert statuses(other) == [Status.COMPLETED]
    assert {record.args[0]: record.reason for record in session.info.records} == {1: Reason.HANDLE, 2: None}
    handle.cancel()


async def test_a_call_is_cancelled_before_it_begins():
    async with rt.Session() as session:
        handle = session.start_soon(leaf)
        handle.cancel()
    assert handle.status is Status.CANCELLED
    assert names(session) == []


async def test_a_call_is_cancelled_from_a_thread_with_all_below_it():
    async with rt.Session() as session:

        @rt.function_node
        async def outer():
            await rt.call_batch(leaf, range(3), [1_000] * 3)

        handle = session.start_soon(outer)
        await anyio.sleep(1)
        await in_pool(handle.cancel)
        assert await handle.wait() is Status.CANCELLED
    assert {record.status for record in session.info.records} == {Status.CANCELLED}


async def test_a_node_that_goes_on_when_cancelled_has_completed():
    async with rt.Session() as session:

        @rt.function_node
        async def stubborn():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            return 5

        handle = session.start_soon(stubborn)
        await anyio.sleep(1)
        handle.cancel()
        await handle.wait()
    assert session.info.records[0].status is handle.status


async def test_the_end_of_the_session_cancels_the_call_of_a_handle():
    with pytest.raises(ValueError, match="body"):
        async with rt.Session() as session:
            handle = session.start_soon(leaf, seconds=1_000)
            await anyio.sleep(1)
            raise ValueError("body")
    assert handle.status is Status.CANCELLED
    assert await handle.wait() is Status.CANCELLED


async def test_waiting_may_be_cancelled_and_the_call_goes_on():
    async with rt.Session() as session:
        handle = session.start_soon(leaf, seconds=5)
        with anyio.move_on_after(1) as scope:
            await handle.wait()
        assert scope.cancelled_caught
    assert handle.status is Status.COMPLETED


async def test_a_handle_gives_the_result_or_the_exception():
    with pytest.raises(KeyError) as raised:
        async with rt.Session() as session:
            done, failed = session.start_soon(leaf, 7, seconds=1), session.start_soon(broken)
            with pytest.raises(SessionError, match=r"leaf has not ended; write `await handle\.wait"):
                done.result()
            await done.wait()
            assert done.result() == 7
            with pytest.raises(KeyError) as caught:
                failed.result()
    [error] = [record.exception for record in session.info.records if record.name == "broken"]
    assert raised.value is caught.value is error


async def test_a_handle_of_a_cancelled_call_has_no_result():
    async with rt.Session() as session:
        handles = [session.start_soon(leaf, seconds=100) for _ in range(2)]
        handles[0].cancel()
        await anyio.sleep(1)
        handles[1].cancel()
    for handle in handles:
        with pytest.raises(SessionEndedError, match="the call of leaf was cancelled"):
            handle.result()


async def test_a_handle_of_a_call_that_timed_out_raises_that():
    with pytest.raises(rt.exceptions.GlobalTimeOutError) as caught:
        async with rt.Session(timeout=2) as session:
            handle = session.start_soon(leaf, seconds=100)
    with pytest.raises(rt.exceptions.GlobalTimeOutError) as again:
        handle.result()
    assert again.value is caught.value


def test_a_handle_says_how_the_call_ended_after_its_event_loop(backend):
    async def main():
        with anyio.CancelScope() as scope:
            async with rt.Session() as session:
                handles = [session.start_soon(leaf, 7), session.start_soon(leaf, seconds=100)]
                await handles[0].wait()
                scope.cancel()
        return handles

    done, cancelled = anyio.run(main, backend=backend)
    assert done.result() == 7
    with pytest.raises(SessionEndedError, match="the call of leaf was cancelled"):
        cancelled.result()


async def test_a_sync_node_waits_for_a_handle():
    async with rt.Session() as session:

        @rt.function_node
        def node():
            handle = session.start_soon(leaf, 8, seconds=1)
            anyio.from_thread.run(handle.wait)
            return handle.result()

        assert await rt.call(node) == 8
    assert [record.parent for record in session.info.records] == [None, None]


class CountedList(list):
    """A list that counts the items that are read by going through it."""

    reads = 0

    def __iter__(self):
        for item in super().__iter__():
            self.reads += 1
            yield item

    def __reversed__(self):
        for item in super().__reversed__():
            self.reads += 1
            yield item


async def test_the_end_of_a_call_does_not_depend_on_the_others():
    """Neither how it ended nor what it takes to find that out, with a thousand calls that begin and end together."""
    count = 1_000

    @rt.function_node
    async def odd_fails(number):
        await anyio.sleep(1)
        if number % 2:
            raise KeyError(number)

    with pytest.raises(KeyError):
        async with rt.Session(save_state=False, logging_setting="NONE") as session:
            entries = session._coordinator.state.entries = CountedList()
            handles = [session.start_soon(odd_fails, number) for number in range(count)]
    assert statuses(*handles) == [Status.COMPLETED, Status.FAILED] * (count // 2)
    assert entries.reads < 10 * count


async def test_calls_that_are_refused_count_as_cancelled():
    with pytest.raises(KeyError):
        async with rt.Session(end_on_error=True) as session:
            handles = [session.start_soon(node) for node in (leaf, broken, leaf, leaf)]
            await anyio.sleep(1)
    assert statuses(*handles)[1] is Status.FAILED
    assert statuses(*handles)[2:] == [Status.CANCELLED] * 2


# ---- session.call, session.call_sync


async def test_a_call_in_a_given_session_is_made_there():
    async with rt.Session() as outer, rt.Session() as inner:
        assert await outer.call(leaf, 5) == 5
        assert rt.session_id() == inner.identifier
        assert await rt.call(leaf, 6) == 6
        assert await inner.call(leaf, 7) == 7
    assert [record.result for record in outer.info.records] == [5]
    assert [record.result for record in inner.info.records] == [6, 7]


async def test_in_a_node_of_the_session_it_is_a_nested_call():
    async with rt.Session() as session:

        @rt.function_node
        async def outer():
            return await session.call(leaf, 1) + await anyio.to_thread.run_sync(session.call_sync, leaf, 2)

        assert await session.call(outer) == 3
    assert [record.parent for record in session.info.records] == [None, 0, 0]


async def test_code_that_the_session_does_not_know_calls_in_it():
    ready, sessions = anyio.Event(), []

    async def open_session():  # such as the lifespan of a web application
        async with rt.Session() as session:
            sessions.append(session)
            ready.set()
            await anyio.sleep(10)

    async with anyio.create_task_group() as group:
        group.start_soon(open_session)
        await ready.wait()
        assert rt.session_id() is None
        assert await sessions[0].call(leaf, 4) == 4
        with pytest.raises(KeyError):
            await sessions[0].call(broken)
        assert rt.session_id() is None
    assert names(sessions[0]) == ["leaf", "broken"]


async def test_threads_of_a_pool_call_in_it():
    async with rt.Session() as session:
        assert await in_pool(partial(session.call_sync, leaf, 3)) == 3
    assert names(session) == ["leaf"]


def test_in_synchronous_code(backend):
    rt.set_config(backend=backend)
    with rt.Session() as outer, rt.Session() as inner:
        assert outer.call_sync(leaf, 1) == inner.call_sync(leaf, 2) - 1 == 1
    assert names(outer) == names(inner) == ["leaf"]


async def test_what_is_called_at_the_wrong_time_or_place_says_so():
    session = rt.Session()
    with pytest.raises(SessionError, match="before the session was entered"):
        await session.call(leaf)
    with pytest.raises(SessionError, match="before the session was entered; enter the session first"):
        await in_pool(partial(session.call_sync, leaf))
    async with session:
        with pytest.raises(SessionError, match=r"write `await session.call\(leaf, ...\)`"):
            session.call_sync(leaf)
    with pytest.raises(SessionEndedError, match="after its session had ended"):
        await session.call(leaf)
    with pytest.raises(SessionEndedError, match="after its session had ended"):
        await in_pool(partial(session.call_sync, leaf))


# ---- activate


async def test_an_activated_session_is_the_current_one():
    async with rt.Session({"a": 1}) as outer, rt.Session({"a": 2}) as inner:
        with outer.activate() as given:
            assert given is outer
            assert rt.session_id() == outer.identifier
            assert rt.context.get("a") == 1
            await rt.call(leaf)
        assert rt.session_id() == inner.identifier
        assert rt.context.get("a") == 2
    assert (names(outer), names(inner)) == (["leaf"], [])


async def test_an_activated_session_in_a_thread_of_a_pool():
    def work():
        with session.activate():
            return rt.call_sync(leaf, 8)

    async with rt.Session() as session:
        assert await in_pool(work) == 8
    assert names(session) == ["leaf"]


async def test_in_a_node_of_the_session_calls_stay_nested():
    async with rt.Session() as session:

        @rt.function_node
        async def outer():
            with session.activate():
                return await rt.call(leaf)

        await rt.call(outer)
    assert [record.parent for record in session.info.records] == [None, 0]


async def test_a_session_that_is_not_open_is_not_activated():
    session = rt.Session()
    for match in ("before the session was entered; enter the session first", "after the session had ended"):
        with pytest.raises(SessionError, match=match), session.activate():
            raise AssertionError
        if "before" in match:
            async with session:
                pass


# ---- threads that have lost their context


def test_a_thread_without_context_is_warned_of_once_per_place(backend):
    rt.set_config(backend=backend)

    @rt.function_node
    def fan_out():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda n: rt.call_sync(leaf, n), [1, 2, 3]))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            with rt.Session() as session:
                assert rt.call_sync(fan_out) == [1, 2, 3]
    assert names(session) == ["fan_out"]
    [warning] = caught
    assert warning.filename == __file__
    for part in ("rt.call_sync(leaf, ...)", "session.call_sync", "copy_context().run"):
        assert part in str(warning.message)


def compute_and_call():
    decimal.Decimal("1.10") * 3
    return rt.call_sync(leaf, 5)


async def call_one():
    return await rt.call(leaf, 5)


async def call_several():
    return (await rt.call_batch(leaf, [5]))[0]


LOST = {
    "call_sync": lambda _: rt.call_sync(leaf, 5),
    "after decimal": lambda _: compute_and_call(),
    "call in a loop of its own": lambda backend: anyio.run(call_one, backend=backend),
    "batch in a loop of its own": lambda backend: anyio.run(call_several, backend=backend),
}


@pytest.mark.parametrize("name", LOST)
async def test_a_thread_of_a_pool_is_warned_of_in_each_way(name, backend):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with rt.Session() as session:
            assert await in_pool(lambda: LOST[name](backend)) == 5
    assert [warning.filename for warning in caught] == [__file__]
    assert names(session) == []


async def test_an_event_loop_of_another_thread_is_not_warned_of(backend):
    """As of a server that was started in a thread."""
    async with rt.Session():
        thread = threading.Thread(target=lambda: anyio.run(call_one, backend=backend))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)


async def test_ways_that_the_warning_names_are_quiet():
    async with rt.Session() as session:
        context = contextvars.copy_context()

        def apart():
            with rt.Session():
                return rt.call_sync(leaf, 3)

        assert await in_pool(partial(context.run, rt.call_sync, leaf, 1)) == 1
        assert await in_pool(partial(session.call_sync, leaf, 2)) == 2
        assert await in_pool(apart) == 3
    assert names(session) == ["leaf", "leaf"]


def test_threads_that_each_call_for_themselves_are_quiet(backend):
    rt.set_config(backend=backend)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: rt.call_sync(leaf, n, 0.01), range(8))) == list(range(8))
    thread = threading.Thread(target=rt.call_sync, args=(leaf,))
    thread.start()
    thread.join()


@pytest.mark.parametrize("options", [{"timeout": 1}, {"end_on_error": True}], ids=["timeout", "end_on_error"])
async def test_the_status_of_a_handle_is_that_on_record(options):
    with pytest.raises((KeyError, rt.exceptions.GlobalTimeOutError)):
        async with rt.Session(**options) as session:

            @rt.function_node
            async def fail_late():
                await anyio.sleep(2)
                raise KeyError("late")

            handles = [session.start_soon(leaf, 1, seconds=100), session.start_soon(fail_late)]
            for handle in handles:
                await handle.wait()
    by_name = {record.name: record.status for record in session.info.records}
    assert [handle.status for handle in handles] == [by_name["leaf"], by_name["fail_late"]]
    assert by_name["leaf"] is Status.CANCELLED


async def test_start_soon_that_reaches_the_loop_too_late_is_refused(monkeypatch):
    """The session may end after a thread has asked for the call, and before the event loop starts it."""
    late = []
    monkeypatch.setattr(_calling, "run_quickly", lambda frame, func, name: late.append(func))
    async with rt.Session() as session:
        session.start_soon(leaf)
    with pytest.raises(SessionEndedError, match=r"start_soon\(leaf\) came after the session had ended"):
        late[0]()
    assert session.info.records == ()


async def test_an_error_of_another_session_is_a_failure():
    with pytest.raises(SessionEndedError):
        async with rt.Session() as session:

            @rt.function_node
            async def use_another():
                raise SessionEndedError("of another session")

            handle = session.start_soon(use_another)
            assert await handle.wait() is Status.FAILED
