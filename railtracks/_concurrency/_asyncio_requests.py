"""What a thread asks of an asyncio event loop, which may end before it answers.

A function that a thread schedules on an asyncio loop is dropped if the loop is closed before its next turn, and so is a
task that has not ended. anyio's ``from_thread.run`` waits for them for ever. Then Python cannot exit either, because it
joins anyio's worker threads. trio answers in all cases.

asyncio does not report the end of a loop. So the thread that waits checks for it now and then.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from anyio._core._eventloop import threadlocals  # the token that from_thread.run uses has no public name

from railtracks._concurrency._after_fork import fork_count
from railtracks._concurrency._interrupts import Gate
from railtracks._test_hooks import runtime_hooks

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    from anyio.lowlevel import EventLoopToken

CHECK_EVERY = 0.25
"""Real seconds between two checks of whether the event loop has ended."""


def answered_token(token: EventLoopToken) -> EventLoopToken:
    """Return a token for ``anyio.from_thread``, with which it raises RunFinishedError if the event loop ends first."""
    loop: Any = token.native_token
    if isinstance(loop, _AnsweringLoop) or not hasattr(loop, "call_soon_threadsafe"):  # or it is trio's
        return token
    return replace(token, native_token=_AnsweringLoop(loop))


@contextlib.contextmanager
def answered_requests() -> Iterator[None]:
    """In an anyio worker thread: use :func:`answered_token` for what the code inside asks of its event loop."""
    token: EventLoopToken | None = getattr(threadlocals, "current_token", None)
    if token is None:
        yield
        return
    threadlocals.current_token = answered_token(token)
    try:
        yield
    finally:
        threadlocals.current_token = token


class _AnsweringLoop:
    """An asyncio event loop as one thread sees it, for what ``anyio.from_thread`` does with a loop.

    Scheduling a function blocks until the function was called, and until the task that it created has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._forks = fork_count()
        self._task: asyncio.Task[Any] | None = None  # the one that the function has created

    def is_closed(self) -> bool:
        """Return whether the loop will answer nothing any more."""
        if self._loop.is_closed() or self._forks != fork_count():
            return True
        # A loop that stands still may be run again, but not once Python exits.
        return not threading.main_thread().is_alive() and not self._loop.is_running()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Create the task that answers. Called on the event loop."""
        self._task = self._loop.create_task(coro, **options)
        return self._task

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        """Have ``callback`` called on the event loop, and wait. Raises RunFinishedError if that will not happen."""
        answered = Gate()  # Ctrl-C may leave a threading.Event locked, and the event loop waiting for it

        def begin() -> None:
            try:
                callback(*args)
            finally:
                task, self._task = self._task, None
                if task is None:
                    answered.open()
                else:
                    task.add_done_callback(lambda _: answered.open())

        try:
            self._loop.call_soon_threadsafe(begin, context=context)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
        scheduler = runtime_hooks.get().thread_scheduler
        if scheduler is not None:
            scheduler.wait_for_loop(lambda: answered.is_open or self.is_closed())
        while not answered.wait(CHECK_EVERY):
            if self.is_closed() and not answered.is_open:
                _close_coroutines(callback)
                raise anyio.RunFinishedError


def _close_coroutines(callback: Callable[..., object]) -> None:
    """Close a coroutine that ``callback`` would have started. Python would warn that it was never awaited."""
    for cell in getattr(callback, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # the cell is empty, or the coroutine runs
            coro = cell.cell_contents
            if inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED:
                coro.close()
