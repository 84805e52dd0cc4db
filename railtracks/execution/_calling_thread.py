"""A thread that waits in ``rt.call_sync``, and runs nodes meanwhile whose place is the thread that calls."""

from __future__ import annotations

import queue
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._asyncio_requests import CHECK_EVERY
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._work_item import Outcome, serves_thread, work_of_this_thread
from railtracks.execution._node_errors import is_cancellation
from railtracks.execution._work_thread import calling_thread

T = TypeVar("T")


class CallingThread:
    """The current thread, which waits for a call that runs on the event loop of a session.

    A worker thread does not count while it waits, and holds no place in the limit of its session, as with
    ``run_in_loop``. It has a place again while it runs a node.

    Args:
        token: How that event loop is reached.
    """

    def __init__(self, token: EventLoopToken) -> None:
        self._token = token
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._outcome: Outcome[Any] | None = None
        self._work_item = work_of_this_thread()  # what this thread is running, if it is a worker thread of that loop
        self._request: anyio.CancelScope  # of what the thread waits for; made on the event loop
        self._turn = anyio.Lock(fast_acquire=True)  # of one node after the other that runs in the thread

    # ---- in the thread

    def wait(
        self,
        func: Callable[[], Coroutine[Any, Any, T]],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]], Callable[[], object]], object],
        is_over: Callable[[], bool],
    ) -> T:
        """Run ``func`` on the event loop, and what that sends here in this thread, until ``func`` has ended. Blocks.

        Args:
            func: What to run there.
            spawn: Starts a task there that awaits a function, and calls another one at its end.
            is_over: Returns whether nothing runs there any more.

        Raises:
            BaseException: Whatever ``func`` raises, as the same object.
            LookupError: It was cancelled, or will never end.
        """

        async def run() -> None:
            calling_thread.set(self)
            if self._work_item is not None and not self._work_item.is_waited_for_here:
                self._work_item = None  # a sync node may have a session with a loop of its own
            with anyio.CancelScope() as self._request:
                await self._run_suspended(func)

        def end() -> None:
            self._work.put(None)

        def begin() -> None:
            try:
                spawn(run, end)
            except BaseException as exc:
                self._outcome = Outcome(exc=exc)
                end()

        call_soon(self._token, begin)
        while True:
            try:
                work = self._work.get(timeout=CHECK_EVERY)
            except queue.Empty:
                if is_over():
                    break
                continue
            if work is None:
                break
            self._wait_turn()
            work()
        self._wait_turn()
        if self._outcome is None:
            raise LookupError
        return self._outcome.unwrap()  # type: ignore[no-any-return]

    def _wait_turn(self) -> None:
        if self._work_item is not None:
            self._work_item.wait_turn()

    # ---- on the event loop

    async def _run_suspended(self, func: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run ``func``, and set the outcome when the thread may go on. Without an outcome the thread is left behind."""
        work = self._work_item
        if work is None:
            self._outcome = await self._capture(func)
            return
        if work.is_abandoned:
            return
        serves_thread.set(True)
        work.suspend(self._request)
        try:
            outcome = await self._capture(func)
            await work.wait_for_place()
            self._outcome = outcome
        finally:
            work.resume()

    async def _capture(self, func: Callable[[], Coroutine[Any, Any, Any]]) -> Outcome[Any]:
        """Return the outcome of ``func``.

        Raises cancellations, and what ends the event loop; the thread gets that as well.
        """
        try:
            return Outcome(await func())
        except BaseException as exc:
            if is_kind(exc, Exception):
                return Outcome(exc=exc)
            if not is_cancellation(exc):
                self._outcome = Outcome(exc=exc)
            raise

    async def run(self, func: Callable[[], T]) -> T:
        """Run ``func`` in the thread, with the context variables of the current task, and wait for it.

        Cancellation: raised when it has ended, or if it has not begun yet.
        """
        async with self._turn:
            work = self._work_item
            if work is None:
                return await self._run_here(func)
            await work.wait_for_place()
            work.resume()
            try:
                return await self._run_here(func)
            finally:
                work.suspend(self._request)

    async def _run_here(self, func: Callable[[], T]) -> T:
        """Do as ``run``, while no other function runs there and the thread has a place."""
        context, token, changed = copy_context(), current_token(), Condition()
        context.run(calling_thread.set, None)
        outcome: list[Outcome[Any]] = []
        state = {"begun": False, "cancelled": False}

        def work() -> None:
            state["begun"] = True
            try:
                # The other thread may not see that this one has skipped the function, and wait for an outcome.
                outcome.append(Outcome(None if state["cancelled"] else context.run(func)))
            except BaseException as exc:
                outcome.append(Outcome(exc=exc))
            call_soon(token, changed.notify_all)

        self._work.put(work)
        shield = Shield()
        try:
            await changed.wait_while(lambda: not outcome)
        except anyio.get_cancelled_exc_class() as exc:
            state["cancelled"] = True
            if not state["begun"]:
                raise
            shield.note(exc)
            await shield.wait_while(lambda: not outcome, changed)
            shield.check()
        return outcome[0].unwrap()  # type: ignore[no-any-return]
