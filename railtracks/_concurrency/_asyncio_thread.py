"""An asyncio event loop beside trio's, for libraries that know asyncio only.

What runs over there is one task for one caller here, who never leaves before that task has ended: a cancellation here
cancels it and waits. What it gives piece by piece comes through a channel with few places, so that it cannot run ahead.
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

AHEAD = 8
"""Pieces that may wait to be taken."""


class AsyncioThread:
    """Started when it is made, which takes a moment but no I/O. All its methods are for trio's tasks."""

    def __init__(self) -> None:
        self._open = start_event_loop("asyncio")
        self._portal = self._open.__enter__()

    async def run(self, func: Callable[[], Awaitable[T]]) -> T:
        """Await ``func()`` there.

        Raises: what it raises.
        Cancellation: cancels it, and waits until it has ended.
        """
        job = _Job(self._portal, func)
        await job.run_until_ended()
        return job.result()

    async def iterate(self, make: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """What the generator ``make()`` gives there. It is closed when this one is, and has ended when this one has."""
        send, receive = trio.open_memory_channel[T](AHEAD)
        places = asyncio.Semaphore(AHEAD)

        async def pump() -> None:
            async with aclosing(make()) as pieces:
                async for piece in pieces:
                    await places.acquire()
                    job.tell(send.send_nowait, piece)

        job = _Job(self._portal, pump)
        job.start(then=send.close)
        try:
            async for piece in receive:
                job.tell_there(places.release)
                yield piece
        finally:
            await job.end()
        job.result()

    async def close(self) -> None:
        """End the event loop and its thread. Nothing may be running there any more."""
        await run_in_thread(lambda: self._open.__exit__(None, None, None))


class _Job(Generic[T]):
    """One task there, and who waits for it here.

    Invariant: ``_ended`` is set from there as the last thing that happens; the scope is known there alone.
    """

    def __init__(self, portal: BlockingPortal, func: Callable[[], Awaitable[T]]) -> None:
        self._portal = portal
        self._func = func
        self._here = trio.lowlevel.current_trio_token()
        self._ended = trio.Event()
        self._scope: anyio.CancelScope | None = None
        self._unwanted = False
        self._outcome: tuple[T] | BaseException | None = None

    def start(self, then: Callable[[], None] = lambda: None) -> None:
        self._then = then
        self._portal.start_task_soon(self._run)

    async def run_until_ended(self) -> None:
        self.start()
        try:
            await self._ended.wait()
        finally:
            await self.end()

    async def end(self) -> None:
        """Cancel it if it still runs, and wait until it has ended."""
        if not self._ended.is_set():
            self.tell_there(self._cancel)
            with trio.CancelScope(shield=True):
                await self._ended.wait()

    def result(self) -> T:
        """Of what has ended by itself."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome[0]

    def tell(self, func: Callable[..., object], *args: object) -> None:
        """From there: call it here, soon and in order."""
        self._here.run_sync_soon(func, *args)

    def tell_there(self, func: Callable[[], object]) -> None:
        """From here: call it there, soon."""
        self._portal.start_task_soon(func)

    # ---- there

    async def _run(self) -> None:
        # A scope, and not task.cancel(): that would go through the shields in which HTTP libraries close connections.
        self._scope = anyio.CancelScope()
        try:
            with self._scope:
                if not self._unwanted:
                    self._outcome = (await self._func(),)
        except BaseException as exc:
            self._outcome = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            self.tell(self._end)

    def _cancel(self) -> None:
        self._unwanted = True
        if self._scope is not None:
            self._scope.cancel()

    def _end(self) -> None:  # here again
        self._then()
        self._ended.set()
