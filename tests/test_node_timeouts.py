"""``timeout`` of a node: everything below the call ends, and its caller gets ``NodeTimeOutError``."""

from __future__ import annotations

import math

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, GlobalTimeOutError, NodeTimeOutError
from railtracks.state import Reason, Status


@rt.function_node
async def leaf(seconds=50):
    await anyio.sleep(seconds)
    return "done"


@rt.function_node(timeout=2)
async def limited(seconds=50):
    return await rt.call(leaf, seconds)


def ends(session):
    return [(record.name, record.status, record.reason) for record in session.info.records]


TIMED_OUT = [("limited", Status.FAILED, Reason.NODE_TIMEOUT), ("leaf", Status.CANCELLED, Reason.NODE_TIMEOUT)]


async def test_a_call_that_takes_too_long_fails():
    start = anyio.current_time()
    async with rt.Session() as session:
        with pytest.raises(NodeTimeOutError, match=r"^limited exceeded its timeout of 2 s; ") as caught:
            await rt.call(limited)
    assert anyio.current_time() - start == 2
    assert caught.value.timeout == 2
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.waiting[0].startswith("leaf, line ")
    assert ends(session) == TIMED_OUT
    assert session.info.records[0].timeout == 2
    assert session.info.records[0].exception is caught.value


async def test_a_call_that_is_quick_enough_returns():
    async with rt.Session() as session:
        assert await rt.call(limited, 1) == "done"
    assert {record.status for record in session.info.records} == {Status.COMPLETED}


async def test_the_caller_may_handle_it_and_go_on():
    @rt.function_node
    async def top():
        try:
            await rt.call(limited)
        except TimeoutError:
            return await rt.call(leaf, 1)

    async with rt.Session() as session:
        assert await rt.call(top) == "done"
    assert ends(session)[1:3] == TIMED_OUT
    assert session.info.records[0].status is Status.COMPLETED


async def test_the_tightest_of_nested_deadlines_wins():
    """The error says which one it was."""

    @rt.function_node(timeout=3)
    async def outer(inner):
        return await rt.call(inner)

    async with rt.Session(timeout=4):
        with pytest.raises(NodeTimeOutError, match=r"^limited exceeded its timeout of 2 s;"):
            await rt.call(outer, limited)
        with pytest.raises(NodeTimeOutError, match=r"^outer exceeded its timeout of 3 s;"):
            await rt.call(outer, limited.options(timeout=9))
        with pytest.raises(GlobalTimeOutError):
            await rt.call(outer.options(timeout=math.inf), limited.options(timeout=math.inf))


async def test_a_timeout_of_user_code_stays_its_own():
    @rt.function_node(timeout=5)
    async def own():
        with anyio.fail_after(1):
            await rt.call(leaf)

    async with rt.Session() as session:
        with pytest.raises(TimeoutError) as caught:
            await rt.call(own)
    assert type(caught.value) is TimeoutError
    assert ends(session) == [("own", Status.FAILED, None), ("leaf", Status.CANCELLED, Reason.OUTSIDE)]


async def test_the_sessions_timeout_is_told_apart():
    async with rt.Session(timeout=1) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(limited)
    assert {reason for _, _, reason in ends(session)} == {Reason.TIMEOUT}


async def test_calls_in_tasks_below_it_end_too():
    ended = []

    @rt.function_node
    async def child(i):
        try:
            await anyio.sleep(50)
        finally:
            ended.append(i)

    @rt.function_node(timeout=2)
    async def top():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, child, 1)
            await rt.call_batch(child, [2, 3])

    async with rt.Session() as session:
        with pytest.raises(NodeTimeOutError) as caught:
            await rt.call(top)
        assert sorted(ended) == [1, 2, 3]
    assert ends(session)[0] == ("top", Status.FAILED, Reason.NODE_TIMEOUT)
    assert {end[1:] for end in ends(session)[1:]} == {(Status.CANCELLED, Reason.NODE_TIMEOUT)}
    assert len(caught.value.waiting) == 3


async def test_a_node_that_swallows_the_cancellation_fails_too():
    @rt.function_node(timeout=2)
    async def stubborn():
        try:
            await anyio.sleep(50)
        except anyio.get_cancelled_exc_class():
            return "nevertheless"

    async with rt.Session() as session:
        with pytest.raises(NodeTimeOutError):
            await rt.call(stubborn)
    assert ends(session) == [("stubborn", Status.FAILED, Reason.NODE_TIMEOUT)]


async def test_an_error_during_its_cleanup_is_the_cause():
    @rt.function_node(timeout=2)
    async def failing():
        try:
            await anyio.sleep(50)
        finally:
            raise ValueError("in cleanup")

    async with rt.Session():
        with pytest.raises(NodeTimeOutError) as caught:
            await rt.call(failing)
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_cancellation_from_outside_goes_on_as_it_is():
    async with rt.Session() as session:
        with anyio.move_on_after(1) as scope:
            await rt.call(limited)
        assert scope.cancelled_caught
    assert {reason for _, _, reason in ends(session)} == {Reason.OUTSIDE}


async def test_it_ends_the_session_under_end_on_error():
    async with rt.Session(end_on_error=True) as session:
        with pytest.raises(NodeTimeOutError):
            await rt.call_batch(limited, [50, 60], return_exceptions=False)
        assert isinstance(session._coordinator.failure, NodeTimeOutError)


@pytest.mark.parametrize("declared", [None, 9])
async def test_the_default_of_the_session_holds_where_none_is_declared(declared):
    node = leaf.options(timeout=declared)
    async with rt.Session(node_timeout=3):
        start = anyio.current_time()
        with pytest.raises(NodeTimeOutError):
            await rt.call(node)
        assert anyio.current_time() - start == (declared or 3)
        assert await rt.call(node.options(timeout=math.inf)) == "done"


async def test_it_is_on_record_and_loaded_again():
    async with rt.Session(run_identifier="late") as session:
        with pytest.raises(NodeTimeOutError):
            await rt.call(limited)
    top, below = rt.ExecutionInfo.load(".railtracks/late.json").records
    assert (top.status, top.reason, top.timeout) == (Status.FAILED, Reason.NODE_TIMEOUT, 2)
    assert (below.status, below.reason) == (Status.CANCELLED, Reason.NODE_TIMEOUT)
    assert "Failed (node_timeout)" in session.info.tree()


async def test_a_resumed_run_sees_a_handled_timeout_again():
    @rt.function_node
    async def top(fails):
        try:
            await rt.call(limited.options(timeout=9) if not fails else limited)
        except NodeTimeOutError as exc:
            handled.append(exc.timeout)
        if fails:
            raise ValueError("later")

    handled: list[float] = []
    for fails in (True, False):
        async with rt.Session(run_identifier="again", if_exists="resume"):
            if fails:
                with pytest.raises(ValueError, match="later"):
                    await rt.call(top.options(), True)
            else:
                with pytest.raises(ValueError, match="later"):
                    await rt.call(top, True)
    assert handled == [2, 2]


def test_the_sync_form_has_it_too(backend):
    with rt.Session(backend=backend), pytest.raises(NodeTimeOutError):
        rt.call_sync(limited.options(timeout=0.01))


@pytest.mark.parametrize("wrong", [0, -1, "5", True, math.nan])
def test_what_is_not_allowed_is_named(wrong):
    with pytest.raises(ConfigError, match=r"^rt\.function_node: .* is not allowed for timeout; expected a number of"):
        rt.function_node(timeout=wrong)(leaf.func)
    with pytest.raises(ConfigError, match=r"^leaf\.options: .* is not allowed for timeout; expected a number of"):
        leaf.options(timeout=wrong)


async def test_no_deadline_is_left_behind():
    async with rt.Session():

        @rt.function_node
        async def top():
            for _ in range(3):
                with pytest.raises(NodeTimeOutError):
                    await rt.call(limited)
            return rt.current_call() and len(_root().node_deadlines)

        assert await rt.call(top) == 0


def _root():
    from railtracks._context_variable import current

    return current.get().run
