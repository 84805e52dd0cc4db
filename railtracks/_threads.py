"""Threads: the one door between them and event loops.

Work in worker threads is counted: a clock that jumps (virtual time) must stand still while a thread works, and
whoever ends a session wants to know what it leaves behind. ``running()`` answers both.

anyio's thread modules are imported where they are used: they bring half of the standard library's threading machinery
with them, a quarter of the time that ``import railtracks`` may take, and a program may never need them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import anyio
    from anyio.from_thread import BlockingPortal
    from anyio.lowlevel import EventLoopToken

T = TypeVar("T")

_lock = threading.Lock()
_running = 0


def running() -> int:
    """How many pieces of work are queued or running in worker threads now, abandoned ones included."""
    return _running


class _Work(Generic[T]):
    """One piece of work. Under the lock it goes from queued to running to over, or from queued to over."""

    def __init__(self, func: Callable[[], T]) -> None:
        global _running
        self._func = func
        self.state = "queued"
        with _lock:
            _running += 1

    def _enter(self, state: str) -> bool:
        """Go on to ``state``; False when the work is over already, or when "withdrawn" comes too late."""
        global _running
        with _lock:
            if self.state == "over" or (state == "withdrawn" and self.state != "queued"):
                return False
            self.state = "over" if state == "withdrawn" else state
            if self.state == "over":
                _running -= 1
            return True

    def __call__(self) -> T:
        if not self._enter("running"):
            raise RuntimeError("the work was withdrawn before its thread began")  # nobody is left to see it
        try:
            return self._func()
        finally:
            self._enter("over")

    def withdraw(self) -> bool:
        """Take the work back if no thread has begun it; False if one has."""
        return self._enter("withdrawn")


async def run_in_thread(
    func: Callable[[], T],
    *,
    abandon_on_cancel: bool = False,
    limiter: anyio.CapacityLimiter | None = None,
    on_abandon: Callable[[], None] | None = None,
) -> T:
    """Run ``func`` in a worker thread, with a copy of the caller's context variables.

    Cancellation: with ``abandon_on_cancel`` the wait ends at once; a thread that has begun goes on alone, and
    ``on_abandon`` is called to tell. Without it the wait goes on until the thread is done, and the
    cancellation is delivered after that.
    """
    from anyio.to_thread import run_sync

    work = _Work(func)
    try:
        return await run_sync(work, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    except BaseException:
        if not work.withdraw() and work.state == "running" and on_abandon is not None:
            on_abandon()
        raise


def run_in_loop(func: Callable[[], Coroutine[Any, Any, T]], token: EventLoopToken | None) -> T:
    """Run ``func`` on the event loop of ``token``, or on the one that this worker thread serves. Blocks.

    Raises:
        anyio.RunFinishedError: the event loop has ended.
    """
    from anyio.from_thread import run

    return run(func, token=token)


def start_event_loop(backend: str) -> AbstractContextManager[BlockingPortal]:
    """An event loop in a thread of its own, for as long as the context manager is entered."""
    from anyio.from_thread import start_blocking_portal

    return start_blocking_portal(backend, name="railtracks-session")
