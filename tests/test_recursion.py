"""Nodes that call each other without end: Python raises RecursionError, at any line, also in the library's own code."""

from __future__ import annotations

import contextlib
import sys

import anyio

import railtracks as rt
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._headroom import HEADROOM
from railtracks.state import Reason, Status


@rt.function_node
async def call_itself():
    return await rt.call(call_itself)


@rt.function_node
async def wait():
    await anyio.sleep(100)


def depth():
    count = 1
    frame = sys._getframe().f_back
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count


@contextlib.contextmanager
def stack_of(frames):
    """Allow only so many frames more than there are here."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth() + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


async def test_a_recursion_without_end_ends_the_session_as_a_failure():
    for frames in range(120, 150):
        with contextlib.suppress(RecursionError):
            async with rt.Session(save_state=False, logging_setting="NONE", end_on_error=True) as session:
                session.subscribe(lambda event: None)
                session.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                with stack_of(frames):
                    await rt.call(call_itself)
        waiting, *others = session.info.records
        assert (waiting.status, waiting.reason) == (Status.CANCELLED, Reason.END_ON_ERROR)
        assert {(record.status, type(record.exception)) for record in others} == {(Status.FAILED, RecursionError)}


async def test_who_waits_is_woken_although_the_stack_was_full_once():
    """asyncio and trio lose a task that is woken where the stack is full: it never runs again."""

    def notify(frames):
        with stack_of(frames):
            changed.notify_all()

    refused = 0
    for frames in range(6, HEADROOM + 20):
        changed, has_ended = Condition(), False

        async def waiter():
            nonlocal has_ended
            await changed.wait_while(lambda: not is_over)  # noqa: B023
            has_ended = True

        async with anyio.create_task_group() as group:
            is_over = False
            group.start_soon(waiter)
            await anyio.wait_all_tasks_blocked()
            is_over = True
            try:
                notify(frames)
            except RecursionError:
                refused += 1
                changed.notify_all()
            await anyio.wait_all_tasks_blocked()
            assert has_ended, f"lost with {frames} frames left"
    assert 0 < refused < HEADROOM + 14
