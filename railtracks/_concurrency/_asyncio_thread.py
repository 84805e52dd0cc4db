"""An asyncio event loop in a thread beside trio's, for libraries that support asyncio only.

Each asyncio task here runs for one trio task, which never continues before the asyncio task has ended: cancelling the
trio task cancels the asyncio task and waits for it. The items that an asyncio generator yields go through a bounded
channel, so that it cannot run ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
import trio

from railtracks._concurrency._threads import run_in_thread, start_event_loop

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")

MAX_BUFFERED = 8
"""Items of a generator that may wait to be consumed."""


class AsyncioThread:
    """The event loop and its thread. All methods are for trio tasks.

    Making one starts the thread, which takes a moment but does no I/O.
    """

    def __init__(self) -> None:
        self._running_loop = start_event_loop("asyncio")
        self._portal = self._running_loop.__enter__()

    async def run(self, func: Callable[[], Awaitable[T]]) -> T:
        """Await ``func()`` on the asyncio event loop, and return its result or raise its exception.

        Cancellation: Cancels it, and waits until it has ended.
        """
        job = _Job(self._portal, func)
        await job.run_until_ended()
        return job.result()

    async def iterate(self, make: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Yield what the generator ``make()`` yields on the asyncio event loop.

        Closing this generator closes that one, and waits until it has ended.
        """
        send, receive = trio.open_memory_channel[T](MAX_BUFFERED)
        slots = asyncio.Semaphore(MAX_BUFFERED)

        async def pump() -> None:
            async with aclosing(make()) as items:
                async for item in items:
                    await slots.acquire()
                    job.call_in_trio(send.send_nowait, item)

        job = _Job(self._portal, pump)
        job.start(on_ended=send.close)
        try:
            async for item in receive:
                job.call_in_asyncio(slots.release)
                yield item
        finally:
            await job.end()
        job.result()

    async def close(self) -> None:
        """Stop the event loop and its thread. Nothing must be running there any more."""
        await run_in_thread(lambda: self._running_loop.__exit__(None, None, None))


class _Job(Generic[T]):
    """One asyncio task, and the trio task that waits for it.

    Invariant: setting ``_ended`` is the last thing that the asyncio task causes. Only the asyncio thread uses
    ``_scope`` and ``_cancel_requested``.
    """

    def __init__(self, portal: BlockingPortal, func: Callable[[], Awaitable[T]]) -> None:
        self._portal = portal
        self._func = func
        self._trio_token = trio.lowlevel.current_trio_token()
        self._ended = trio.Event()
        self._scope: anyio.CancelScope | None = None
        self._cancel_requested = False
        self._outcome: tuple[T] | BaseException | None = None

    # ---- on trio's thread

    def start(self, on_ended: Callable[[], None] = lambda: None) -> None:
        self._on_ended = on_ended
        self._portal.start_task_soon(self._run)

    async def run_until_ended(self) -> None:
        self.start()
        try:
            await self._ended.wait()
        finally:
            await self.end()

    async def end(self) -> None:
        """Cancel the task if it still runs, and wait until it has ended."""
        if not self._ended.is_set():
            self.call_in_asyncio(self._cancel)
            with trio.CancelScope(shield=True):
                await self._ended.wait()

    def result(self) -> T:
        """Return the result of a task that ended without being cancelled, or raise its exception."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome[0]

    def call_in_asyncio(self, func: Callable[[], object]) -> None:
        """Call a function on the asyncio thread, soon."""
        self._portal.start_task_soon(func)

    def _end(self) -> None:
        self._on_ended()
        self._ended.set()

    # ---- on the asyncio thread

    def call_in_trio(self, func: Callable[..., object], *args: object) -> None:
        """Call a function on trio's thread, soon and in the order of these calls."""
        self._trio_token.run_sync_soon(func, *args)

    async def _run(self) -> None:
        # A scope, not task.cancel(): that would go through the shields in which HTTP libraries close connections.
        self._scope = anyio.CancelScope()
        try:
            with self._scope:
                if not self._cancel_requested:
                    self._outcome = (await self._func(),)
        except BaseException as exc:
            self._outcome = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            self.call_in_trio(self._end)

    def _cancel(self) -> None:
        self._cancel_requested = True
        if self._scope is not None:
            self._scope.cancel()
