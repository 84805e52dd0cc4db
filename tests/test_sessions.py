"""Sessions on the main road: calls, records, nesting, children, and the end."""

from __future__ import annotations

import asyncio
import gc
import weakref

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks._context_variable import current
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import SessionEndedError
from railtracks.state import Failure, Status


@rt.function_node
async def double(x):
    return 2 * x


@rt.function_node
async def nap(seconds, value=None):
    await anyio.sleep(seconds)
    return value


async def test_a_nested_call_is_recorded_below_its_caller():
    @rt.function_node
    async def outer(x):
        return await rt.call(double, x) + 1

    async with rt.Session() as session:
        assert await rt.call(outer, 3) == 7
    top, nested = session.info.records
    assert (top.name, nested.name, nested.parent, nested.run) == ("outer", "double", top.index, top.index)
    assert (top.status, top.result, nested.args) == (Status.COMPLETED, 7, (3,))


async def test_a_node_that_returns_none_is_completed():
    @rt.function_node
    async def nothing():
        pass

    async with rt.Session() as session:
        await rt.call(nothing)
    assert session.info.records[0].status is Status.COMPLETED


async def test_constructing_a_session_touches_nothing(tmp_path):
    rt.Session(name="x", log_file="logs/x.log", context={"a": 1})
    assert list(tmp_path.iterdir()) == []
    assert current.get() is None


async def test_context_mapping_of_the_caller_is_not_changed():
    given = {"a": 1}

    @rt.function_node
    async def change():
        rt.context.put("a", 2)
        rt.context.update({"b": 3})
        rt.context.delete("b")
        return sorted(rt.context.keys()), rt.context.get("b", None), rt.context.get("a")

    async with rt.Session(given) as session:
        assert await rt.call(change) == (["a"], None, 2)
        with pytest.raises(KeyError):
            rt.context.get("b")
    assert given == {"a": 1}
    assert session.context == {"a": 2}


async def test_a_call_without_a_session_opens_one_around_itself(tmp_path):
    @rt.function_node
    async def outer():
        return rt.session_id(), await rt.call(double, 2)

    identifier, result = await rt.call(outer)
    assert result == 4
    assert (tmp_path / ".railtracks" / f"{identifier}.json").exists()
    assert rt.session_id() is None
    assert await rt.call_batch(double, [1, 2]) == [2, 4]


async def test_a_call_without_a_session_opens_one_and_closes_it():
    assert await rt.call(double, 1) == 2
    assert await rt.call_batch(double, [1, 2]) == [2, 4]
    assert rt.session_id() is None


async def test_coroutine_in_place_of_a_node_says_what_to_write():
    with pytest.raises(rt.exceptions.NodeCreationError, match=r"write `rt.call\(double, \.\.\.\)`"):
        await rt.call(double(1))  # type: ignore[call-overload]


async def test_nested_sessions_nest():
    async with rt.Session({"where": "outer"}) as outer:
        async with rt.Session({"where": "inner"}) as inner:
            assert rt.session_id() == inner.identifier
            assert rt.context.get("where") == "inner"
            await rt.call(double, 1)
        assert rt.session_id() == outer.identifier
        assert rt.context.get("where") == "outer"
        await rt.call(double, 2)
    assert (outer.info.answer, inner.info.answer) == (4, 2)


async def test_sessions_side_by_side_do_not_see_each_other():
    async def one(number):
        async with rt.Session({"number": number}, timeout=number) as session:
            try:
                await rt.call(nap, 3.5)
            except rt.exceptions.GlobalTimeOutError:
                return "timeout", rt.context.get("number"), len(session.info.records)
            return "done", rt.context.get("number"), len(session.info.records)

    results = {}

    async def keep(number):
        results[number] = await one(number)

    async with anyio.create_task_group() as group:
        for number in range(1, 6):
            group.start_soon(keep, number)
    assert results == {n: ("timeout" if n < 3.5 else "done", n, 1) for n in range(1, 6)}


async def test_the_session_joins_its_children():
    done = []

    @rt.function_node
    async def child(n):
        await anyio.sleep(n)
        done.append(n)

    async with rt.Session() as session:
        for n in (3, 1, 2):
            session.start_soon(child, n)
    assert done == [1, 2, 3]
    assert len(session.info.insertion_requests) == 3


async def test_a_child_started_in_a_node_is_a_top_level_call():
    async with rt.Session() as session:

        @rt.function_node
        async def starter():
            session.start_soon(nap, 5)

        await rt.call(starter)
    assert [record.parent for record in session.info.records] == [None, None]
    assert session.info.records[1].status is Status.COMPLETED


async def test_the_first_error_of_a_child_leaves_the_session_as_itself():
    error = ValueError("child")
    ended = []

    @rt.function_node
    async def bad():
        await anyio.sleep(1)
        raise error

    @rt.function_node
    async def slow():
        await anyio.sleep(2)
        ended.append(1)

    with pytest.raises(ValueError, match="child") as caught:
        async with rt.Session() as session:
            session.start_soon(bad)
            session.start_soon(slow)
    assert caught.value is error
    assert ended == [1], "without end_on_error the others go on"


async def test_the_error_of_the_body_wins_over_those_of_children():
    @rt.function_node
    async def bad():
        raise ValueError

    body = KeyError("body")
    with pytest.raises(KeyError) as caught:
        async with rt.Session() as session:
            session.start_soon(bad)
            await anyio.sleep(1)
            raise body
    assert caught.value is body
    assert body.__context__ is None


async def test_error_of_the_body_cancels_what_runs():
    """An error of the body cancels what runs and comes out as itself."""
    cleaned = []

    @rt.function_node
    async def slow():
        try:
            await anyio.sleep(50)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            cleaned.append(1)

    error = ValueError("body")
    start = anyio.current_time()
    with pytest.raises(ValueError, match="body") as caught:
        async with rt.Session() as session:
            session.start_soon(slow)
            await anyio.sleep(1)
            raise error
    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert cleaned == [1]
    assert anyio.current_time() - start == 4
    assert session.info.records[0].status is Status.CANCELLED


async def test_a_group_that_the_body_raises_stays_the_same_object():
    group = ExceptionGroup("mine", [ValueError(1)])
    with pytest.raises(ExceptionGroup) as caught:
        async with rt.Session():
            raise group
    assert caught.value is group


async def test_a_task_that_was_made_but_has_not_begun_is_joined(backend):
    if backend == "trio":
        pytest.skip("asyncio.create_task")
    async with rt.Session() as session:
        task = asyncio.create_task(rt.call(nap, 2, "v"))
    assert task.done()
    assert await task == "v"
    assert session.info.records[0].status is Status.COMPLETED


async def test_a_call_after_the_end_gets_a_clear_error():
    released = anyio.Event()
    errors = []

    async def late():
        await released.wait()
        try:
            await rt.call(double, 1)
        except SessionEndedError as exc:
            errors.append(str(exc))

    async with anyio.create_task_group() as outside:
        async with rt.Session():
            outside.start_soon(late)
            await anyio.sleep(1)
        released.set()
    assert len(errors) == 1
    assert "double" in errors[0]
    assert "ended" in errors[0]


async def test_attributes_of_a_session_stay_readable():
    async with rt.Session({"k": 1}, name="n", timeout=7) as session:
        await rt.call(double, 4)
        assert session.info.records[0].status is Status.COMPLETED
    assert session.name == "n"
    assert session.identifier == session._identifier == "n"
    assert session.executor_config.timeout == 7
    assert session.info.answer == 8
    assert session.payload()["session_name"] == "n"
    assert session.payload()["end_time"] >= session.payload()["start_time"]


async def test_info_never_lags_behind_the_calls():
    seen = []

    @rt.function_node
    async def look():
        seen.append([record.status.value for record in session.info.records])

    async with rt.Session() as session:
        await rt.call(double, 1)
        await rt.call(look)
    assert seen == [["Completed", "Open"]]


async def test_answer_holds_failures():
    error = ValueError("x")

    @rt.function_node
    async def bad():
        raise error

    async with rt.Session() as session:
        with pytest.raises(ValueError, match="x"):
            await rt.call(bad)
        await rt.call(double, 1)
    assert session.info.answer == [Failure(error), 2]


async def test_an_ended_session_is_freed_without_the_garbage_collector():
    async def one():
        runtime_hooks.set(
            attrs.evolve(runtime_hooks.get(), observer=None)
        )  # the pytest plugin keeps the latest sessions
        async with rt.Session(save_state=False) as session:
            await rt.call(double, 1)
        return weakref.ref(session._coordinator)

    gc.collect()
    gc.disable()
    try:
        reference = await one()
        assert reference() is None
    finally:
        gc.enable()


async def test_errors_of_children_that_cannot_be_raised_are_logged(caplog):
    @rt.function_node
    async def bad(text):
        raise ValueError(text)

    with pytest.raises(ValueError, match="first"):
        async with rt.Session() as session:
            session.start_soon(bad, "first")
            await anyio.sleep(1)
            session.start_soon(bad, "second")
    assert [text for text in caplog.messages if "FAILED" not in text] == [
        "a call made by start_soon raised ValueError('second'), but the session raises something else"
    ]

    caplog.clear()
    with pytest.raises(KeyError):
        async with rt.Session() as session:
            session.start_soon(bad, "third")
            await anyio.sleep(1)
            raise KeyError
    assert [text for text in caplog.messages if "FAILED" not in text] == [
        "a call made by start_soon raised ValueError('third'), but the session raises something else"
    ]


def test_session_that_cannot_be_entered_closes_its_log_file(tmp_path):
    session = rt.Session(log_file=tmp_path / "x.log")
    entering = session.__aenter__()
    with pytest.raises(anyio.NoEventLoopError):
        entering.send(None)  # no event loop is running
    assert session._log._file is None
    with pytest.raises(rt.exceptions.SessionError, match="over"):
        session.__enter__()


async def test_broadcast_between_calls_of_a_plain_with_is_delivered():
    got = []
    with rt.Session(broadcast_callback=got.append):
        await rt.broadcast("before")
        await rt.call(double, 1)
        await rt.broadcast("after")
    assert got == ["before", "after"]


async def test_the_coordinator_has_slots():
    """With 30 attributes or more in a dictionary, a session takes a tenth longer to open."""
    async with rt.Session() as session:
        assert not hasattr(session._coordinator, "__dict__")
