"""Worker threads, and calls between threads and event loops: all of the library's go through here.

anyio's thread modules are imported where they are used. They load half of the standard library's threading machinery,
which is a quarter of the time that ``import railtracks`` may take, and a program may never need them.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._asyncio_requests import answered_token
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon, is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._work_item import Outcome, WorkItem, active_work_count, serves_thread, work_of_this_thread

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from anyio.lowlevel import EventLoopToken

    from railtracks._concurrency._thread_limit import ThreadLimit

__all__ = ["UnansweredError", "active_work_count", "run_in_loop", "run_in_thread", "start_event_loop"]

T = TypeVar("T")


async def run_in_thread(
    func: Callable[[], T],
    *,
    abandon_on_cancel: bool = False,
    limit: ThreadLimit | None = None,
    name: str = "",
    on_abandon: Callable[[], Awaitable[bool]] | None = None,
) -> T:
    """Run ``func`` in a worker thread, with a copy of the caller's context variables.

    Args:
        func: The function.
        abandon_on_cancel: Whether a cancellation leaves the thread behind.
        limit: The limit on how many threads work at once; None for that of the backend.
        name: The name of the work in reports of the limit.
        on_abandon: Awaited when the thread is abandoned. If it returns True, its end is waited for all the same.

    Cancellation: with ``abandon_on_cancel`` the wait ends at once, a thread that has begun is left running, and
    ``on_abandon`` is awaited; what the thread waits for in this event loop is cancelled. Without it the wait goes on
    until the thread has finished, and the cancellation is delivered after that.
    """
    from anyio.to_thread import run_sync

    work = WorkItem(func, name, limit)
    await work.queue()
    try:
        if abandon_on_cancel:
            outcome = await run_sync(work, abandon_on_cancel=True, limiter=work.limiter())
        else:
            outcome = await _run_to_end(work)
        return outcome.unwrap()
    finally:
        if work.detach_waiter():
            must_wait = False
            try:
                if on_abandon is not None:
                    must_wait = await on_abandon()
            finally:
                await work.end_request()
            if must_wait:
                await _wait_ended(work)


async def _wait_ended(work: WorkItem[Any]) -> None:
    """Wait until the thread has ended. Cancellation: raised after that."""
    changed, token, shield = Condition(), current_token(), Shield()
    work.on_done = lambda: call_soon(token, changed.notify_all)
    await shield.wait_while(lambda: not work.has_ended, changed)
    work.outcome = None  # the traceback of an error refers to this work
    shield.check()


async def _run_to_end(work: WorkItem[T]) -> Outcome[T]:
    """Run the work in a thread, and once that has begun, wait for its end whatever comes.

    anyio shields its wait from cancel scopes, but not from ``task.cancel()`` on asyncio; then the thread goes on.

    Cancellation: if the work has not begun, it never does. Otherwise raised when it has ended; the result is lost then.
    """
    from anyio.to_thread import run_sync

    changed, token, shield = Condition(), current_token(), Shield()
    work.on_done = lambda: call_soon(token, changed.notify_all)
    try:
        return await run_sync(work, limiter=work.limiter())
    except anyio.get_cancelled_exc_class() as exc:
        if not work.is_claimed or work.has_ended:
            raise
        shield.note(exc)
    await shield.wait_while(lambda: not work.has_ended, changed)
    work.outcome = None  # the traceback of an error refers to this work
    shield.check()
    raise AssertionError("a cancellation was noted")


class UnansweredError(Exception):
    """The event loop did not finish what a thread asked of it: it has ended, or the request was cancelled."""


def run_in_loop(func: Callable[[], Coroutine[Any, Any, T]], token: EventLoopToken | None) -> T:
    """Run ``func`` on the event loop of ``token``, or on the one that this worker thread works for. Blocks.

    While it waits here, a worker thread does not count, and holds no place in the limit of its session.

    Raises:
        BaseException: whatever ``func`` raises, as the same object.
        UnansweredError: the event loop has ended, or the request was cancelled with the work of an abandoned thread.
        CancelledError, trio.Cancelled: the call that the thread works for is being cancelled.
    """
    from concurrent.futures import CancelledError

    from anyio.from_thread import run

    work = work_of_this_thread()
    request = _Request(func, work)
    try:
        outcome = run(request.run, token=None if token is None else answered_token(token))
    except anyio.RunFinishedError:
        raise UnansweredError("its event loop has ended") from None
    except CancelledError:  # on asyncio
        if work is not None and token is None and not work.is_abandoned:
            raise
        raise UnansweredError("it was cancelled") from None
    finally:
        if work is not None:
            work.wait_turn()
    if outcome is None:
        raise UnansweredError("it was cancelled")
    return outcome.unwrap()


class _Request(Generic[T]):
    """What a thread asks of an event loop.

    Args:
        func: What to run there.
        work: What the thread is running, if it is a worker thread.
    """

    def __init__(self, func: Callable[[], Coroutine[Any, Any, T]], work: WorkItem[Any] | None) -> None:
        self._func = func
        self._work = work

    async def run(self) -> Outcome[T] | None:
        """Run it, on the event loop, and return what came out; None if it was cancelled."""
        with anyio.CancelScope() as scope:
            if anyio.current_effective_deadline() == -math.inf:
                # On asyncio a cancellation that came before this began is never delivered here. anyio's checkpoints
                # see it and would wait for its delivery for ever.
                scope.cancel()
            if self._work is not None and self._work.is_waited_for_here:
                outcome = await self._run_for_work(self._work, scope)
            else:  # a sync node may have a session with a loop of its own
                outcome = await self._capture(None)
        return None if scope.cancelled_caught else outcome

    async def _run_for_work(self, work: WorkItem[Any], scope: anyio.CancelScope) -> Outcome[T] | None:
        if work.is_abandoned:
            return None
        serves_thread.set(True)
        work.suspend(scope)
        try:
            outcome = await self._capture(work)
            await work.wait_for_place()
        finally:
            work.resume()
        return outcome

    async def _capture(self, work: WorkItem[Any] | None) -> Outcome[T] | None:
        try:
            return Outcome(await self._func())
        except BaseException as exc:
            if not is_kind(exc, anyio.get_cancelled_exc_class()) or is_stray_cancellation(exc):
                return Outcome(exc=exc)
            if work is not None and not work.is_abandoned:
                raise  # it is the cancellation of the call that waits for the thread
            return None


_portals: weakref.WeakSet[BlockingPortal] = weakref.WeakSet()


@contextmanager
def start_event_loop(backend: str) -> Iterator[BlockingPortal]:
    """Run an event loop in a thread of its own while the context is entered."""
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal(backend, name="railtracks-session") as portal:
        _portals.add(portal)
        yield portal


@after_fork
def _stop_portals() -> None:
    for portal in _portals:
        # The thread of its event loop is the parent's. A portal that is stopped refuses calls, instead of waiting for
        # ever for that thread; so does the context manager, which the garbage collector may close.
        with suppress(Exception):  # waking what waits for its end fails outside the event loop
            portal.stop().send(None)
