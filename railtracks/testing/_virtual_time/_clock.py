"""The clock of one run under virtual time, and why it is hard.

When no task can run, the clock may jump to the next deadline. But "no task can run" does not mean "nothing is going
on": a worker thread may be about to report, or a socket to deliver. A jump past them lets a timeout fire that would
never fire in real time, and the test is wrong. So the clock is held while such a thing is under way, and real time
passes instead. If that takes very long, it is an error. If there is no deadline either, and nothing that could wake the
event loop, the run hangs for ever, and that is an error as well.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from railtracks.exceptions import RTError
from railtracks.testing._virtual_time._thread_kinds import foreign_threads
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler

PATIENCE = 10.0
"""Real seconds that the clock may be held for a thread, a socket or a portal before that is an error."""


class StuckError(RTError):
    """A run under virtual time cannot go on.

    Attributes:
        problem: What happened, and when.
        waiting: Where in user code each task waits.
    """

    def __init__(self, problem: str, waiting: list[str]) -> None:
        super().__init__("\n  waiting: ".join([problem, *waiting]))
        self.problem = problem
        self.waiting = waiting


class Deadlock(StuckError):
    """Nothing can run, there is no deadline, and nothing outside is under way: the run would hang for ever."""


class ClockHeldError(StuckError):
    """The clock was held for too long, because something outside the event loop was under way."""


class EventLoop(Protocol):
    """What a clock needs of the event loop that runs on it."""

    def on_clock_moved(self, seconds: float) -> None:
        """Handle that the clock jumped by ``seconds``."""

    def call_soon(self, func: Callable[[], None], /) -> object:
        """Call ``func`` such that the tasks it wakes run in the order that the seed decides."""

    def deadline(self) -> float | None:
        """Return when the next timer is due, or None if none ever is."""

    def jobs(self) -> list[tuple[int | None, str]]:
        """Return the work in threads that the event loop waits for: the thread, if it has begun, and a description."""

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for this event loop."""

    def has_news(self) -> bool:
        """Return whether a thread has handed something over since the event loop last looked."""

    def sockets(self) -> list[str]:
        """Return descriptions of what the event loop waits for outside of the process."""

    def waiting(self) -> list[str]:
        """Return where each of its tasks waits."""


class VirtualClock:
    """The time of one run under virtual time; made by :func:`railtracks.testing.run` unless it is given one.

    Args:
        jumps: Whether the clock jumps to the next deadline when nothing can run. Otherwise only ``jump`` moves it.
        patience: Real seconds for which it may be held.
        hold_for_sockets: Whether a task holds the clock that waits for a socket or a pipe whose other end is not in the
            same event loop.
    """

    def __init__(
        self,
        *,
        jumps: bool = True,
        patience: float = PATIENCE,
        hold_for_sockets: bool = True,
    ) -> None:
        self.jumps = jumps
        self.failure: StuckError | None = None
        """Why the run could not continue, if that happened."""
        self.thread_scheduler: SeededThreadScheduler = SeededThreadScheduler()
        """The scheduler of worker threads; set by ``run``."""
        self._patience = patience
        self._sockets = hold_for_sockets
        self._now = 0.0
        self._holds = 0
        self._lock = threading.Lock()
        self._waiting_since: float | None = None  # in real time
        self._threads = set(threading.enumerate())  # older threads do not know this event loop
        self.event_loop: EventLoop | None = None
        """The event loop; it sets this itself."""
        self.cancel_run: Callable[[], None] = lambda: None
        """Cancels everything after a failure; set by ``run``."""

    @property
    def now(self) -> float:
        """Virtual seconds since the run began. From any thread."""
        return self._now

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the clock inside the block, for work that it does not know of. Can be used in any thread."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

    def jump(self, seconds: float) -> None:
        """Advance the clock.

        Args:
            seconds: Virtual seconds.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"jump: {seconds!r} seconds is negative; use 0 or more")
        self._now += seconds
        if self.event_loop is not None:
            self.event_loop.on_clock_moved(seconds)

    # ---- for the event loop

    def note_activity(self) -> None:
        """Note that a task ran."""
        self._waiting_since = None

    def may_jump(self, deadline: float | None) -> bool:
        """Return whether to jump to ``deadline``; if not, the event loop looks again soon.

        To be called when nothing can run before ``deadline``.

        Args:
            deadline: When the next timer is due; None if none ever is.

        Raises:
            StuckError: the run cannot continue, and cancelling it has not helped.
        """
        if self.grant_thread_turn():
            holders = ["a worker thread"]
        elif self._holds:
            holders = [f"{self._holds} x clock.hold()"]
        else:
            holders = self._threads_at_work() or self._sockets_in_flight()
        if not holders and self.event_loop is not None and self.event_loop.has_news():
            return False
        if not holders and (deadline is not None or not self.jumps):
            return self.jumps
        if not holders and not (holders := self._wakers()):
            self._fail(Deadlock, "nothing can run, and there is no deadline to wait for")
        else:
            self._wait_for(holders, deadline)
        return False

    def grant_thread_turn(self) -> bool:
        """Let the next worker thread continue, if none runs, and return whether one is at work now."""
        return self.thread_scheduler.grant_turn(self._is_blocked)

    def _is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop."""
        assert self.event_loop is not None
        return self.event_loop.is_blocked(thread)

    def _threads_at_work(self) -> list[str]:
        """Return the work in threads that the event loop waits for, except in threads that wait for the event loop."""
        known = self.thread_scheduler.threads
        jobs = [] if self.event_loop is None else self.event_loop.jobs()
        return [what for thread, what in jobs if thread is None or not (thread in known or self._is_blocked(thread))]

    def _sockets_in_flight(self) -> list[str]:
        return self.event_loop.sockets() if self.event_loop is not None and self._sockets else []

    def _wakers(self) -> list[str]:
        """Return the threads that were started during the run and might wake the event loop."""
        return [f"the thread {thread.name}" for thread in foreign_threads() if thread not in self._threads]

    def _wait_for(self, holders: list[str], deadline: float | None) -> None:
        real = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = real
        elif real - self._waiting_since > self._patience:
            then = "" if deadline is None else f", and the next deadline, at {deadline:g} s, would be jumped past it"
            self._fail(
                ClockHeldError,
                f"for {self._patience:g} s of real time {', '.join(sorted(set(holders)))} has been under way{then}; "
                f"let it end, or have it wait for the event loop, as does anyio.from_thread.run(anyio.sleep, seconds)",
            )

    def _fail(self, kind: type[StuckError], problem: str) -> None:
        if self.failure is not None:  # the run was cancelled for it, and still cannot continue
            raise self.failure
        waiting = [] if self.event_loop is None else self.event_loop.waiting()
        self.failure = kind(f"at {self.now:g} s of virtual time {problem}", waiting)
        self._waiting_since = None
        assert self.event_loop is not None
        self.event_loop.call_soon(self.cancel_run)
