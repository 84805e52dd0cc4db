"""Worker threads, and calls between threads and event loops: all of the library's go through here.

Work in worker threads is counted for virtual time, whose clock must not jump while a thread works.

anyio's thread modules are imported where they are used. They load half of the standard library's threading machinery,
which is a quarter of the time that ``import railtracks`` may take, and a program may never need them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import anyio

from railtracks._concurrency._cancellation import in_child_task
from railtracks._test_hooks import runtime_hooks

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from anyio.lowlevel import EventLoopToken

T = TypeVar("T")

_lock = threading.Lock()
_active = 0


def active_work_count() -> int:
    """Return how many work items are queued or running in worker threads now, abandoned ones included."""
    return _active


def _count(change: int) -> None:
    global _active
    _active += change


class _ThreadState(threading.local):
    work: _WorkItem[Any] | None = None
    """The work item that this thread is running."""


_thread_state = _ThreadState()


class _WorkItem(Generic[T]):
    """A piece of work for a worker thread, and its one waiter. It counts until both have finished with it.

    Invariant, under the lock: the state goes queued -> running -> done. The waiter may leave at any point. The one of
    the two that finishes last, thread or waiter, takes the item off the count.
    """

    def __init__(self, func: Callable[[], T]) -> None:
        self._func = func
        self._state: Literal["queued", "running", "done"] = "queued"
        self._waiter_left = False
        self._admitted = False  # a thread will begin it, even if the waiter has left
        self._scheduler = runtime_hooks.get().thread_scheduler
        self._waiter_thread = threading.get_ident()  # the thread of the event loop that waits for it
        with _lock:
            _count(+1)
        if self._scheduler is not None:
            self._scheduler.on_queued(self)

    def __call__(self) -> tuple[T]:
        self.wait_turn()
        with _lock:
            if self._waiter_left:
                self._end_turn()
                raise RuntimeError("the waiter has left")  # ends the job of the thread; no code sees it
            self._state = "running"
        _thread_state.work = self
        try:
            return (self._func(),)  # in a tuple: trio refuses a bare coroutine, which a sync node may return
        finally:
            _thread_state.work = None
            with _lock:
                self._state = "done"
                self._finish_if(self._waiter_left)

    def detach_waiter(self) -> bool:
        """Note that the waiter has left, and return whether a thread is still running the work."""
        with _lock:
            self._waiter_left = True
            if self._state == "queued" and self._admitted:
                _count(-1)  # its thread gets its turn later, and finds then that the waiter has left
            else:
                self._finish_if(self._state != "running")
            return self._state == "running"

    def _finish_if(self, is_last: bool) -> None:
        if is_last:
            _count(-1)
            self._end_turn()

    def _end_turn(self) -> None:
        if self._scheduler is not None:
            self._scheduler.on_finished(self)

    def limiter(self, given: anyio.CapacityLimiter | None) -> anyio.CapacityLimiter | None:
        """Return the limiter to use in place of the given one."""
        return given if self._scheduler is None else self._scheduler.limiter(given, self._admit)

    def _admit(self) -> None:
        self._admitted = True

    @property
    def is_waited_for_here(self) -> bool:
        """Whether this is the thread of the event loop that waits for it."""
        return self._waiter_thread == threading.get_ident()

    def suspend(self) -> None:
        """Take it off the count while it waits for that event loop."""
        with _lock:
            _count(-1)
        if self._scheduler is not None:
            self._scheduler.on_suspended(self)

    def resume(self) -> None:
        """Count it again: the event loop has finished what it waited for."""
        with _lock:
            _count(+1)
        if self._scheduler is not None:
            self._scheduler.on_queued(self)

    def wait_turn(self) -> None:
        """Block until the scheduler of worker threads, if there is one, lets it go on."""
        if self._scheduler is not None:
            self._scheduler.wait_turn(self)


async def run_in_thread(
    func: Callable[[], T],
    *,
    abandon_on_cancel: bool = False,
    limiter: anyio.CapacityLimiter | None = None,
    on_abandon: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Run ``func`` in a worker thread, with a copy of the caller's context variables.

    Cancellation: with ``abandon_on_cancel`` the wait ends at once, a thread that has begun is left running, and
    ``on_abandon`` is awaited. Without it the wait goes on until the thread has finished, and the cancellation is
    delivered after that.
    """
    from anyio.to_thread import run_sync

    work = _WorkItem(func)
    limiter = work.limiter(limiter)
    try:
        if abandon_on_cancel:
            (result,) = await run_sync(work, abandon_on_cancel=True, limiter=limiter)
        else:
            (result,) = await in_child_task(lambda: run_sync(work, limiter=limiter))
        return result
    finally:
        if work.detach_waiter() and on_abandon is not None:
            await on_abandon()


def run_in_loop(func: Callable[[], Coroutine[Any, Any, T]], token: EventLoopToken | None) -> T:
    """Run ``func`` on the event loop of ``token``, or on the one that this worker thread works for. Blocks.

    A worker thread does not count while it waits here.

    Raises:
        anyio.RunFinishedError: the event loop has ended.
        KeyboardInterrupt, SystemExit: ``func`` raised it. It is raised in this thread, because in the thread of the
            event loop it would end the loop.
    """
    from anyio.from_thread import run

    work = _thread_state.work

    async def guarded() -> tuple[T | None, BaseException | None]:
        # Only if this is the event loop that waits for the work: a sync node may have a session with a loop of its own.
        waiting = work if work is not None and work.is_waited_for_here else None
        if waiting is not None:
            waiting.suspend()
        try:
            with anyio.CancelScope() as scope:
                if anyio.current_effective_deadline() == -math.inf:
                    # On asyncio a cancellation that came before this began is never delivered here. anyio's
                    # checkpoints see it and would wait for its delivery for ever.
                    scope.cancel()
                result = await func()
            assert not scope.cancelled_caught, "a cancellation of an outer scope is raised there"
            return result, None
        except (KeyboardInterrupt, SystemExit) as exc:
            return None, exc
        finally:
            if waiting is not None:
                waiting.resume()

    try:
        result, interrupt = run(guarded, token=token)
    finally:
        if work is not None:
            work.wait_turn()
    if interrupt is not None:
        raise interrupt
    return cast(T, result)


def start_event_loop(backend: str) -> AbstractContextManager[BlockingPortal]:
    """Return a context manager that runs an event loop in a thread of its own while it is entered."""
    from anyio.from_thread import start_blocking_portal

    return start_blocking_portal(backend, name="railtracks-session")
