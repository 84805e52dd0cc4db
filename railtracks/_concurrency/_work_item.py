"""A piece of work in a worker thread, from the moment that it is queued until its thread and its waiter have ended.

Work is counted, so that tests can check that none is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from railtracks._concurrency._after_fork import after_fork, end_forked_child, fork_count
from railtracks._concurrency._asyncio_requests import answered_requests
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import running_library
from railtracks._test_hooks import runtime_hooks

if TYPE_CHECKING:
    import anyio

    from railtracks._concurrency._thread_limit import ThreadLimit

T = TypeVar("T")

_lock = threading.RLock()
"""Reentrant, as the garbage collector may come while it is held, and close a coroutine that waits for other work."""
_active = 0
serves_thread: ContextVar[bool] = ContextVar("railtracks_serves_thread", default=False)
"""Whether a worker thread waits for what runs here."""


def active_work_count() -> int:
    """Return how many work items are queued or running in worker threads now, abandoned ones included."""
    return _active


def _count(change: int) -> None:
    global _active
    _active += change


class _ThreadState(threading.local):
    work: WorkItem[Any] | None = None


_thread_state = _ThreadState()


def work_of_this_thread() -> WorkItem[Any] | None:
    """Return what this worker thread is running; None in another thread."""
    return _thread_state.work


class Outcome(Generic[T]):
    """What a function has returned or raised, as a value that passes between threads as it is.

    asyncio and trio change some exceptions that they pass on, and a KeyboardInterrupt would end the event loop.
    """

    __slots__ = ("_exc", "_result")

    def __init__(self, result: T | None = None, exc: BaseException | None = None) -> None:
        self._result = result
        self._exc = exc

    def unwrap(self) -> T:
        """Return the result, or raise the exception, once."""
        if self._exc is not None:
            try:
                raise self._exc
            finally:
                self._exc = None  # or its traceback would refer to itself
        return cast(T, self._result)


class WorkItem(Generic[T]):
    """A piece of work for a worker thread, and its one waiter. It counts until both have finished with it.

    Invariant, under the lock: the state goes queued -> running -> done. The waiter may leave at any point. The one of
    the two that finishes last, thread or waiter, takes the item off the count.

    Args:
        func: The work.
        name: Its name, for people.
        limit: The limit that it has a place of; None for no limit. Only the waiter's thread uses it.

    Attributes:
        outcome: What the work has returned, or what it has raised; None until then.
        on_done: Called in its thread when it has returned or raised.
    """

    def __init__(self, func: Callable[[], T], name: str, limit: ThreadLimit | None) -> None:
        self._func = func
        self._name = name
        self._limit = limit
        self._state: Literal["queued", "running", "done"] = "queued"
        self._is_claimed = False  # a thread has begun it, or waits for its turn to
        self._waiter_left = False
        self._admitted = False  # a thread will begin it, even if the waiter has left
        self._scheduler = runtime_hooks.get().thread_scheduler
        self._waiter_thread = threading.get_ident()  # the thread of the event loop that waits for it
        self.outcome: Outcome[T] | None = None
        self.on_done: Callable[[], object] | None = None
        self._request_ended = Condition()
        self._request: anyio.CancelScope | None = None  # the scope of what the thread waits for in that event loop

    # ---- in the thread that runs it

    def __call__(self) -> Outcome[T]:
        with _lock:
            if self._is_claimed:
                raise RuntimeError("another thread has begun it")  # ends the job of this thread; no code sees it
            self._is_claimed = True
        self.wait_turn()
        with _lock:
            if self._waiter_left:
                self._end_turn()
                raise RuntimeError("the waiter has left")  # ends the job of the thread; no code sees it
            self._state = "running"
        _thread_state.work = self
        try:
            with answered_requests():
                try:
                    self.outcome = Outcome(self._run())
                except BaseException as exc:
                    self.outcome = Outcome(exc=exc)
        finally:
            _thread_state.work = None
            with _lock:
                self._state = "done"
                self._finish_if(self._waiter_left)
            if self.on_done is not None:
                self.on_done()
        return self.outcome

    def _run(self) -> T:
        forks = fork_count()
        exc: BaseException | None = None
        try:
            return self._func()
        except BaseException as raised:
            exc = raised
            raise
        finally:
            if fork_count() != forks:
                end_forked_child(exc)
            del exc

    def wait_turn(self) -> None:
        """Block until the scheduler of worker threads, if there is one, lets it go on."""
        if self._scheduler is not None:
            self._scheduler.wait_turn(self)

    # ---- in the waiter's thread

    @property
    def is_claimed(self) -> bool:
        """Whether a thread has begun it, or is about to."""
        return self._is_claimed

    @property
    def has_ended(self) -> bool:
        """Whether the work has returned or raised."""
        return self._state == "done"

    async def queue(self) -> None:
        """Acquire a place, and count from then on. Cancellation: the wait ends, and the work does not begin."""
        if self._limit is not None:
            await self._limit.acquire(self, self._name, is_urgent=serves_thread.get())
        with _lock:
            _count(+1)
        if self._scheduler is not None:
            self._scheduler.on_queued(self)

    def detach_waiter(self) -> bool:
        """Note that the waiter has left, and return whether a thread is still running the work."""
        if self._limit is not None:
            self._limit.release(self)
        with _lock:
            self._waiter_left = True
            if self._state == "queued" and self._admitted:
                _count(-1)  # its thread gets its turn later, and finds then that the waiter has left
            else:
                self._finish_if(self._state != "running")
            return self._state == "running"

    async def end_request(self) -> None:
        """Cancel what the thread waits for, if it waits for the event loop, and wait until that has ended.

        Cancellation: raised after that.
        """
        if self._request is not None and running_library() is not None:  # none, if the garbage collector comes here
            self._request.cancel()
            shield = Shield()
            await shield.wait_while(lambda: self._request is not None, self._request_ended)
            shield.check()

    def limiter(self) -> anyio.CapacityLimiter | None:
        """Return the limiter for the backend; None for the default one."""
        given = None if self._limit is None else self._limit.unlimited
        return given if self._scheduler is None else self._scheduler.limiter(given, self._admit)

    def _admit(self) -> None:
        self._admitted = True

    def _finish_if(self, is_last: bool) -> None:
        if is_last:
            _count(-1)
            self._end_turn()

    def _end_turn(self) -> None:
        if self._scheduler is not None:
            self._scheduler.on_finished(self)

    # ---- while the thread waits for the event loop

    @property
    def is_waited_for_here(self) -> bool:
        """Whether this is the thread of the event loop that waits for it."""
        return self._waiter_thread == threading.get_ident()

    @property
    def is_abandoned(self) -> bool:
        """Whether the waiter has left."""
        return self._waiter_left

    @property
    def waits_for_loop(self) -> bool:
        """Whether its thread waits for something that it asked of the event loop that waits for it."""
        return self._request is not None

    def suspend(self, request: anyio.CancelScope) -> None:
        """Take it off the count, and release its place, while it waits for what runs in the scope."""
        self._request = request
        with _lock:
            _count(-1)
        if self._scheduler is not None:
            self._scheduler.on_suspended(self)
        if self._limit is not None:
            self._limit.release(self)

    async def wait_for_place(self) -> None:
        """Wait until it may go on. Cancellation: the wait ends, and :meth:`resume` goes beyond the limit."""
        if self._limit is not None and not self._waiter_left:
            await self._limit.acquire(self, self._name, is_urgent=True, has_begun=True)

    def resume(self) -> None:
        """Count it again: the event loop has finished what it waited for."""
        self._request = None
        self._request_ended.notify_all()
        if self._limit is not None:
            if self._waiter_left:
                self._limit.release(self)
            else:
                self._limit.acquire_beyond_limit(self, self._name)  # unless it has its place already
        with _lock:
            _count(+1)
        if self._scheduler is not None:
            self._scheduler.on_queued(self)


@after_fork
def _reset() -> None:
    global _lock, _active
    _lock = threading.RLock()
    _active = 0
    _thread_state.work = None
