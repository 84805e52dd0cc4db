"""Threads: the one door between them and event loops.

Work in worker threads is counted, for clocks that jump (virtual time): they must stand still while a thread works.

anyio's thread modules are imported where they are used: they bring half of the standard library's threading machinery
with them, a quarter of the time that ``import railtracks`` may take, and a program may never need them.
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
_running = 0


def running() -> int:
    """How many pieces of work are queued or running in worker threads now, abandoned ones included."""
    return _running


def _count(change: int) -> None:
    global _running
    _running += change


class _Here(threading.local):
    work: _Work[Any] | None = None
    """The counted work that this thread is at."""


_here = _Here()


class _Work(Generic[T]):
    """One piece of work, for one waiter. It counts until both are through with it.

    Invariant, under the lock: queued -> running -> done for the thread; the waiter may leave at any point, and whoever
    comes second takes the work off the count.
    """

    def __init__(self, func: Callable[[], T]) -> None:
        self._func = func
        self._state: Literal["queued", "running", "done"] = "queued"
        self._left = False
        self._admitted = False  # a thread will come, even if the waiter has left
        self._scheduler = runtime_hooks.get().thread_scheduler
        self._waiter = threading.get_ident()  # the thread of the event loop that waits for it
        with _lock:
            _count(+1)
        if self._scheduler is not None:
            self._scheduler.on_queued(self)

    def __call__(self) -> tuple[T]:
        self.wait_turn()
        with _lock:
            if self._left:
                self._end_turn()
                raise RuntimeError("nobody waits for this work any more")  # and nobody sees this
            self._state = "running"
        _here.work = self
        try:
            return (self._func(),)  # in a box: trio refuses a bare coroutine, which a sync node may well return
        finally:
            _here.work = None
            with _lock:
                self._state = "done"
                self._count_off(self._left)

    def leave(self) -> bool:
        """The waiter goes. True if a thread is still at work."""
        with _lock:
            self._left = True
            if self._state == "queued" and self._admitted:
                _count(-1)  # its thread has a turn to come, in which it finds that nobody waits
            else:
                self._count_off(self._state != "running")
            return self._state == "running"

    def _count_off(self, last: bool) -> None:
        if last:
            _count(-1)
            self._end_turn()

    def _end_turn(self) -> None:
        if self._scheduler is not None:
            self._scheduler.on_finished(self)

    def limiter(self, given: anyio.CapacityLimiter | None) -> anyio.CapacityLimiter | None:
        """The limiter to be used in place of the one given."""
        return given if self._scheduler is None else self._scheduler.limiter(given, self._admit)

    def _admit(self) -> None:
        self._admitted = True

    @property
    def is_waited_for_here(self) -> bool:
        """Is this the thread of the event loop that waits for it?"""
        return self._waiter == threading.get_ident()

    def suspended(self) -> None:
        """It waits for that event loop, and does not count meanwhile."""
        with _lock:
            _count(-1)
        if self._scheduler is not None:
            self._scheduler.on_suspended(self)

    def resumed(self) -> None:
        """The event loop is through with what it waited for."""
        with _lock:
            _count(+1)
        if self._scheduler is not None:
            self._scheduler.on_queued(self)

    def wait_turn(self) -> None:
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

    Cancellation: with ``abandon_on_cancel`` the wait ends at once; a thread that has begun goes on alone, and
    ``on_abandon`` is awaited to tell. Without it the wait goes on until the thread is done, and the
    cancellation is delivered after that.
    """
    from anyio.to_thread import run_sync

    work = _Work(func)
    limiter = work.limiter(limiter)
    try:
        if abandon_on_cancel:
            (result,) = await run_sync(work, abandon_on_cancel=True, limiter=limiter)
        else:
            (result,) = await in_child_task(lambda: run_sync(work, limiter=limiter))
        return result
    finally:
        if work.leave() and on_abandon is not None:
            await on_abandon()


def run_in_loop(func: Callable[[], Coroutine[Any, Any, T]], token: EventLoopToken | None) -> T:
    """Run ``func`` on the event loop of ``token``, or on the one that this worker thread serves. Blocks.

    A worker thread that waits here is not at work, and does not count.

    Raises:
        anyio.RunFinishedError: the event loop has ended.
        KeyboardInterrupt, SystemExit: in this thread, if ``func`` raised them; in the event loop's they would end that.
    """
    from anyio.from_thread import run

    work = _here.work

    async def guarded() -> tuple[T | None, BaseException | None]:
        # Not if this is another event loop: a sync node may have a session of its own, with one.
        waiting = work if work is not None and work.is_waited_for_here else None
        if waiting is not None:
            waiting.suspended()
        try:
            with anyio.CancelScope() as scope:
                if anyio.current_effective_deadline() == -math.inf:
                    # On asyncio a cancellation that came before this began is not delivered here; and anyio's
                    # checkpoints, which see it, wait for that in a loop, for ever.
                    scope.cancel()
                result = await func()
            assert not scope.cancelled_caught, "a cancellation from further out goes on there"
            return result, None
        except (KeyboardInterrupt, SystemExit) as exc:
            return None, exc
        finally:
            if waiting is not None:
                waiting.resumed()

    try:
        result, interrupt = run(guarded, token=token)
    finally:
        if work is not None:
            work.wait_turn()
    if interrupt is not None:
        raise interrupt
    return cast(T, result)


def start_event_loop(backend: str) -> AbstractContextManager[BlockingPortal]:
    """An event loop in a thread of its own, for as long as the context manager is entered."""
    from anyio.from_thread import start_blocking_portal

    return start_blocking_portal(backend, name="railtracks-session")
