"""The clock of one run under virtual time. Why it is hard.

When no task can run, the clock may jump to the next deadline; but "no task can run" is not yet "nothing is going on". A
worker thread may be about to report, a socket to deliver. A jump past them lets a timeout fire that never would, and
the test is wrong. So the clock stands still while such a thing is under way, real time passes instead, and if it takes
very long whoever runs the test is told so. When there is no deadline either, and nobody who could wake the event loop,
the run hangs for ever, and that is told as well.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from railtracks.exceptions import RTError
from railtracks.testing._threads_seen import others
from railtracks.testing._turns import ThreadTurns

PATIENCE = 10.0
"""Real seconds that the clock stands still for a thread, a socket or a portal, before that is told as an error."""


class StuckError(RTError):
    """A run under virtual time cannot go on.

    Attributes:
        problem: What happened, and when.
        waiting: Where each task waits, in the user's code.
    """

    def __init__(self, problem: str, waiting: list[str]) -> None:
        super().__init__("\n  waiting: ".join([problem, *waiting]))
        self.problem = problem
        self.waiting = waiting


class Deadlock(StuckError):
    """Nothing can run, there is no deadline, and nothing outside is under way: the run would hang for ever."""


class ClockHeldError(StuckError):
    """The clock stood still for too long, because something outside the event loop was under way."""


class EventLoop(Protocol):
    """What a clock wants to know of the event loop that runs on it."""

    def moved(self, seconds: float) -> None:
        """The clock jumped."""

    def call_soon(self, func: Callable[[], None], /) -> object:
        """Call ``func``, so that the tasks which it wakes go through the order that the seed decides."""

    def deadline(self) -> float | None:
        """When the next timer is due; None if there is none, or never."""

    def jobs(self) -> list[tuple[int | None, str]]:
        """The work in threads that it waits for: the thread's identifier, if it has begun, and what to call it."""

    def is_waited_for(self, thread: int) -> bool:
        """Does the thread wait for this event loop?"""

    def has_news(self) -> bool:
        """Has a thread handed something over since the event loop looked? It may have been at work a moment ago."""

    def sockets(self) -> list[str]:
        """What it waits for outside the process."""

    def waiting(self) -> list[str]:
        """Where each of its tasks waits."""


class VirtualClock:
    """What time it is in one run; made by :func:`railtracks.testing.run`.

    Args:
        jumps: When nothing can run, jump to the next deadline. False: only ``jump`` moves it.
        patience: Real seconds that it waits for what is under way outside the event loop.
        hold_for_sockets: A task that waits for a socket or a pipe, whose other end is not in the same event loop, holds
            the clock too.
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
        """Why the run could not go on, once that is so."""
        self.turns: ThreadTurns = ThreadTurns()
        """Of its worker threads; set by whoever runs it."""
        self._patience = patience
        self._sockets = hold_for_sockets
        self._now = 0.0
        self._holds = 0
        self._lock = threading.Lock()
        self._waiting_since: float | None = None  # in real time
        self._threads = set(threading.enumerate())  # those that were there before know nothing of this event loop
        self.event_loop: EventLoop | None = None
        """Set by the event loop."""
        self.give_up: Callable[[], None] = lambda: None
        """Set by whoever runs it: cancels everything."""

    @property
    def now(self) -> float:
        """Virtual seconds since the run began. From any thread."""
        return self._now

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """The clock stands still inside: for work that it does not know of. From any thread."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

    def jump(self, seconds: float) -> None:
        """Move it on. ValueError if ``seconds`` is negative."""
        if seconds < 0:
            raise ValueError(f"jump: {seconds!r} seconds; time does not go back")
        self._now += seconds
        if self.event_loop is not None:
            self.event_loop.moved(seconds)

    # ---- for the event loop

    def ran(self) -> None:
        """Something ran."""
        self._waiting_since = None

    def idle(self, deadline: float | None) -> bool:
        """Nothing can run before ``deadline`` (None: there is none). True: jump there. False: look again soon.

        Raises:
            StuckError: it cannot go on, and cancelling the run has not helped.
        """
        if self.threads_have_turns():
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

    def threads_have_turns(self) -> bool:
        """Let the next one go on; is there one at work?"""
        return self.turns.grant(self._waits)

    def _waits(self, thread: int) -> bool:
        """Does it wait for the event loop?"""
        assert self.event_loop is not None
        return self.event_loop.is_waited_for(thread)

    def _threads_at_work(self) -> list[str]:
        """Work in threads that the event loop waits for; not in those which wait for the event loop."""
        known = self.turns.threads
        jobs = [] if self.event_loop is None else self.event_loop.jobs()
        return [what for thread, what in jobs if thread is None or not (thread in known or self._waits(thread))]

    def _sockets_in_flight(self) -> list[str]:
        return self.event_loop.sockets() if self.event_loop is not None and self._sockets else []

    def _wakers(self) -> list[str]:
        """Threads that were started since, and might wake the event loop."""
        return [f"the thread {thread.name}" for thread in others() if thread not in self._threads]

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
        if self.failure is not None:  # it was cancelled for that, and still cannot go on
            raise self.failure
        waiting = [] if self.event_loop is None else self.event_loop.waiting()
        self.failure = kind(f"at {self.now:g} s of virtual time {problem}", waiting)
        self._waiting_since = None
        assert self.event_loop is not None
        self.event_loop.call_soon(self.give_up)
