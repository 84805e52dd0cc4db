"""The event loop that a session runs on, and how other threads reach it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._event_loop import clock_getter, task_getter
from railtracks._context_variable import current, on_replayed
from railtracks.exceptions import SessionEndedError, SessionError


def _no_task() -> None:
    return None


@after_fork
def _leave_session() -> None:
    """Start a forked child outside any session: the event loop of the session is in the parent process."""
    current.set(None)
    on_replayed.set(None)


class LoopBinding:
    """The one event loop of a session.

    Attributes:
        thread: The identifier of its thread; None while the session belongs to no loop.
        current_task: Returns the current task of that loop; None before the session is bound to one.
        current_time: Returns ``anyio.current_time()`` of that loop.
        token: How other threads reach the loop; None while the session has no loop of its own.
        start: Starts a loop for the session, where the session can; called in another thread.
    """

    __slots__ = ("_may_start", "_starting", "current_task", "current_time", "start", "thread", "token")

    def __init__(self) -> None:
        self._starting = threading.Lock()  # several threads may make the first synchronous call
        self._may_start = True
        self.thread: int | None = None
        self.current_task: Callable[[], object] = _no_task
        self.current_time: Callable[[], float] = anyio.current_time
        self.token: EventLoopToken | None = None
        self.start: Callable[[], None] | None = None

    def bind(self) -> None:
        """Belong to the event loop that is running in this thread."""
        self.thread = get_ident()
        self.current_task = task_getter()
        self.current_time = clock_getter()

    @property
    def is_bound(self) -> bool:
        """Whether the session belongs to an event loop."""
        return self.thread is not None

    @property
    def is_this_thread(self) -> bool:
        """Whether the event loop runs in the current thread."""
        return self.thread == get_ident()

    @property
    def task_here(self) -> object:
        """The task of the session's backend that runs in the current thread; None if none does."""
        try:
            return self.current_task()
        except RuntimeError:
            return None

    @property
    def is_current(self) -> bool:
        """Whether the session's own event loop is the one that runs in the current thread."""
        try:
            return self.token is not None and self.token == current_token()
        except RuntimeError:  # no event loop runs here
            return False

    def require_token(self) -> EventLoopToken:
        """Return how another thread reaches the loop; start one if the session can. Call it in that other thread.

        Raises:
            SessionEndedError: the session is being left, and has had no loop.
            SessionError: the session has no loop that can be reached.
        """
        if self.token is None:
            with self._starting:
                if not self._may_start:
                    raise SessionEndedError(
                        "the first call of another thread came while its session was being left; "
                        "wait for that thread inside the `with` block"
                    )
                if self.token is None and self.start is not None:
                    self.start()
        if self.token is None:
            raise SessionError(
                "another thread cannot reach a session that was entered with a plain `with` in async code; "
                "enter it with `async with rt.Session():`"
            )
        return self.token

    def forbid_start(self) -> None:
        """Let no thread start a loop any more. Blocks while one starts, after which :attr:`token` is final."""
        with self._starting:
            self._may_start = False
