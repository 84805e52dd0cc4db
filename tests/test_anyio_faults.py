"""Faults of anyio that the library works around, each in a form that can be reported.

They use anyio alone. If one of these tests fails, anyio has changed, and what works around the fault can go.
"""

from __future__ import annotations

import asyncio

import anyio

ROUNDS = 3


def test_a_task_group_loses_a_native_cancellation():
    """A task group in a task that is cancelled natively may end as if nothing had happened.

    ``asyncio.gather`` cancels its tasks natively when its own task is cancelled, here by the deadline of the outer
    scope. The two workers have scopes with the same deadline. One of them cancels a scope of its own while it handles
    that. The host of the group then leaves the group without an exception, and ``cancelling()`` is 0: the code after
    the group goes on, although its task was cancelled. ``call_batch`` works around it (``CallWorkers.run``).
    """
    gone_on = []

    async def worker(deadline):
        with anyio.CancelScope(deadline=deadline), anyio.CancelScope() as scope:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                scope.cancel()
                await asyncio.sleep(0)
                raise

    async def host(deadline):
        async with anyio.create_task_group() as group:
            group.start_soon(worker, deadline)
        task = asyncio.current_task()
        assert task is not None
        gone_on.append(task.cancelling())

    async def main():
        deadline = anyio.current_time() + 0.05
        with anyio.CancelScope(deadline=deadline):
            await asyncio.gather(host(deadline), asyncio.sleep(1))
        await asyncio.sleep(0.01)

    for _ in range(ROUNDS):  # in real time: the order of two timers that are due at once is what matters
        asyncio.run(main())
    assert gone_on == [0] * ROUNDS


def test_a_task_that_never_began_is_pending_for_ever():
    """The handle of a task that was cancelled natively before its first step says that it has not ended.

    ``handle.status`` stays PENDING, awaiting the handle never returns, and Python warns that the coroutine was never
    awaited. ``start_tracked`` works around it.
    """

    async def never():
        raise AssertionError("it does not begin")

    async def main():
        async with anyio.create_task_group() as group:
            handle = group.start_soon(never)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        return handle

    handle = asyncio.run(main())
    assert handle.status.name == "PENDING"
    handle.coro.close()
