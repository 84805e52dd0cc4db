"""Call scopes: their causes as a table, and the registry that the session waits on."""

from __future__ import annotations

import math

import anyio
import pytest

from railtracks.execution._call_scopes import CallScope, CallScopes, RootCall
from railtracks.state import CallRecord, Reason

CAUSES = [reason for reason in Reason if reason is not Reason.PROCESS_DIED]


def record(index: int = 0) -> CallRecord:
    return CallRecord(index, None, index, "node", "Tool", (), {}, 0, 0.0)


def root(timeout: float = math.inf) -> RootCall:
    return RootCall(timeout, anyio.current_time())


@pytest.mark.parametrize("first", CAUSES)
@pytest.mark.parametrize("second", CAUSES)
async def test_the_first_cause_of_a_cancellation_counts(first, second):
    scope = CallScope(math.inf, None)
    scope.cancel(first)
    scope.cancel(second)
    assert scope.cause is first
    assert scope.cancel_scope.cancel_called
    assert not scope.timed_out


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_deadline_that_came_first_stays_the_cause(cause):
    scope = CallScope(anyio.current_time() + 1, None)
    with scope.cancel_scope:
        await anyio.sleep(2)
    scope.cancel(cause)
    assert scope.timed_out
    assert scope.cause is None


async def test_a_scope_that_was_not_cancelled_did_not_time_out():
    scope = CallScope(anyio.current_time() + 1, None)
    with scope.cancel_scope:
        await anyio.sleep(0.5)
    assert not scope.timed_out


async def test_all_scopes_below_a_top_level_call_share_its_deadline():
    scopes, top = CallScopes(), root(timeout=5)
    made = [scopes.add(top, caller) for caller in (None, record(1), record(2))]
    assert [scope.cancel_scope.deadline for scope in made] == [anyio.current_time() + 5] * 3
    assert list(top.scopes) == made


@pytest.mark.parametrize(("pending", "entered", "idle"), [(0, 0, True), (1, 0, False), (0, 1, False), (2, 3, False)])
async def test_a_session_is_idle_without_calls_and_pending_children(pending, entered, idle):
    scopes, top = CallScopes(), root()
    for _ in range(pending):
        scopes.hold()
    made = [scopes.add(top, None) for _ in range(entered)]
    assert scopes.is_idle is idle
    assert bool(scopes) is bool(entered)
    for _ in range(pending):
        scopes.release()
    for scope in made:
        scopes.remove(top, scope)
    assert scopes.is_idle
    assert not top.scopes


async def test_when_idle_is_called_once_when_the_last_call_has_ended():
    called = []
    scopes, top = CallScopes(), root()
    first, second = scopes.add(top, None), scopes.add(top, record(1))
    scopes.when_idle = lambda: called.append("idle")
    scopes.remove(top, first)
    assert called == []
    scopes.remove(top, second)
    scopes.remove(top, scopes.add(top, None))
    assert called == ["idle"]


async def test_cancelling_all_reaches_every_top_level_call():
    scopes, tops = CallScopes(), [root(), root()]
    made = [scopes.add(top, None) for top in tops]
    scopes.cancel_all(Reason.END_ON_ERROR)
    assert [scope.cause for scope in made] == [Reason.END_ON_ERROR] * 2


async def test_finishing_a_root_call_cancels_what_is_left_and_waits():
    scopes, top, other = CallScopes(), root(), root()
    left, elsewhere = scopes.add(top, record(1)), scopes.add(other, None)
    ended = []

    async def call():
        with left.cancel_scope:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)
                ended.append(anyio.current_time())
        scopes.remove(top, left)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(1)
        await scopes.finish(top)
        assert ended == [anyio.current_time()]
    assert left.cause is Reason.RUN_ENDED
    assert elsewhere.cause is None


async def test_finishing_a_root_call_alone_waits_for_nothing():
    scopes = CallScopes()
    start = anyio.current_time()
    await scopes.finish(root())
    assert anyio.current_time() == start


async def test_only_the_calls_of_the_given_caller_are_cancelled():
    scopes, top = CallScopes(), root()
    caller = record(1)
    own, other = scopes.add(top, caller), scopes.add(top, record(2))

    async def leave():
        await anyio.sleep(1)
        scopes.remove(top, own)

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        await scopes.cancel_calls_of(lambda each: each is caller, Reason.TIMEOUT)
    assert own.cause is Reason.TIMEOUT
    assert other.cause is None


async def test_waiting_until_idle_ends_with_the_last_child():
    scopes = CallScopes()
    scopes.hold()

    async def finish():
        await anyio.sleep(2)
        scopes.release()

    async with anyio.create_task_group() as group:
        group.start_soon(finish)
        start = anyio.current_time()
        await scopes.wait_idle()
        assert anyio.current_time() == start + 2
