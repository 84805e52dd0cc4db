"""What is under way outside of the event loop, so that the clock must not jump.

That is a worker thread at work, a socket or a pipe whose other end is elsewhere, or a block of ``clock.hold()``. Or it
is a thread that might wake the event loop, if nothing else ever does.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Protocol

from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._blocked_threads import waits_of_thread, where_thread_waits
from railtracks.testing._virtual_time._event_loop import EventLoop
from railtracks.testing._virtual_time._pauses import GRACE, Pause
from railtracks.testing._virtual_time._thread_kinds import foreign_threads, is_busy, name_of, pooled_threads
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler

A_THREAD = "a worker thread"
"""What holds the clock while a thread has its turn."""
_ANOTHER_THREAD = "a thread that waits for another one"
_SETTLING = 0.01
"""Real seconds that a thread has to wait for the event loop once it has handed something over to it."""


class HeldClock(Protocol):
    """What ``Holders`` need of their clock."""

    event_loop: EventLoop | None
    thread_scheduler: SeededThreadScheduler
    older_threads: set[threading.Thread]

    def note_undetermined(self, text: str) -> None:
        """Note that the seed does not decide something in the run."""


class Holders:
    """What holds the clock of one run.

    Args:
        clock: The clock.
        sockets: Whether a task holds it that waits for a socket or a pipe whose other end is not in the event loop.
    """

    def __init__(self, clock: HeldClock, sockets: bool) -> None:
        self._clock = clock
        self._sockets = sockets
        self._holds = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the clock inside the block. Can be used in any thread."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

    def find(self, rests: Callable[[int], bool]) -> list[str]:
        """Return what holds the clock.

        Args:
            rests: Returns whether a thread is not at work.
        """
        others_may_wake = self._clock.thread_scheduler.has_candidates and self.others_may_wake()
        # In this order: another thread may end just after it has woken one that waits.
        if self._clock.thread_scheduler.grant_turn(rests):
            return [A_THREAD]
        if self._holds:
            return [f"{self._holds} x clock.hold()"]
        if self._clock.thread_scheduler.is_kept_by_others():
            self._clock.note_undetermined("when work of another run ended that has the threads of an executor")
            return ["work of another run in the same executor"]
        return self._threads_at_work() or self._sockets_in_flight() or self._waits_for_others(others_may_wake)

    def find_lasting(self) -> list[str]:
        """Return what holds the clock, or might wake the event loop.

        A thread that has just handed something over seems to be at work for a moment.
        """
        until = _real_clock.monotonic() + _SETTLING
        while (found := self.find(self.rests)) and _real_clock.monotonic() < until:
            _real_clock.block(_SETTLING / 10)
        return found or self.find_wakers()

    def find_wakers(self) -> list[str]:
        """Return the threads that were started during the run and might wake the event loop."""
        scheduler = self._clock.thread_scheduler
        if scheduler.waits() and (self.others_may_wake() or self.pools_are_busy()):
            return [_ANOTHER_THREAD]
        paused = set(scheduler.paused_threads)
        return [f"the thread {name_of(thread)}" for thread in self.threads_of_run() if thread.ident not in paused]

    def threads_of_run(self) -> list[threading.Thread]:
        """Return the threads that were started during the run, but for those that are known otherwise."""
        return [thread for thread in foreign_threads() if thread not in self._clock.older_threads]

    def others_may_wake(self) -> bool:
        """Return whether there are threads that are not part of the run, and might end the wait of one that is."""
        own = self._clock.thread_scheduler.threads
        return any(thread.ident not in own and thread.is_alive() for thread in foreign_threads())

    def pools_are_busy(self) -> bool:
        """Return whether a worker of a pool does work that is not part of the run."""
        own = self._clock.thread_scheduler.threads
        return any(thread.ident not in own and is_busy(thread) for thread in pooled_threads())

    def rests(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop, or for its next job."""
        assert self._clock.event_loop is not None
        return self.is_blocked(thread) or all(each != thread for each, _ in self._clock.event_loop.jobs())

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop."""
        assert self._clock.event_loop is not None
        return self._clock.event_loop.is_blocked(thread)

    def paused_threads(self) -> list[str]:
        """Return where in user code the threads are that pause, and where what they wait for is held."""
        return [
            f"{place}, in a thread" + (what and f", {what}") + (holder and f", acquired in {holder}")
            for pause, place, what in self._pauses()
            for holder in [pause.holder()]
        ]

    def paused_code(self) -> Iterator[tuple[Context, str]]:
        """Yield the contexts of threads that pause, each with where in user code that is, and for what it waits."""
        for pause, place, what in self._pauses():
            holder = pause.holder().removesuffix(", in a thread")
            yield pause.context, place + (what and f", {what}") + (holder and f" acquired in {holder}")

    def _pauses(self) -> Iterator[tuple[Pause, str, str]]:
        """Yield the pauses of threads, each with where in user code that is, and for what the thread waits."""
        for thread, pause in self._clock.thread_scheduler.pauses().items():
            place, what = waits_of_thread(thread)
            if place is not None:
                yield pause, place, "asleep" if pause.is_sleep else what

    def blocked_threads(self) -> list[str]:
        """Return where in user code the threads are that wait for the event loop."""
        assert self._clock.event_loop is not None
        jobs = self._clock.event_loop.jobs()
        threads = {*self._clock.thread_scheduler.threads, *(thread for thread, _ in jobs if thread)}
        places = (where_thread_waits(thread) for thread in sorted(threads) if self.is_blocked(thread))
        return [place for place in places if place is not None]

    def _threads_at_work(self) -> list[str]:
        """Return the work in threads that the event loop waits for, except in threads that wait for the event loop."""
        known = self._clock.thread_scheduler.threads
        jobs = [] if self._clock.event_loop is None else self._clock.event_loop.jobs()
        return [what for thread, what in jobs if thread is None or not (thread in known or self.is_blocked(thread))]

    def _sockets_in_flight(self) -> list[str]:
        sockets = self._clock.event_loop.sockets() if self._clock.event_loop is not None and self._sockets else []
        if sockets:
            self._clock.note_undetermined("when a socket or a pipe delivered whose other end is not in the event loop")
        return sockets

    def _waits_for_others(self, others_may_wake: bool) -> list[str]:
        """Return a text if a thread waits, and one outside of the run may be about to end that; for a moment only."""
        waits = self._clock.thread_scheduler.waits() if others_may_wake else []
        if not waits:
            return []
        if _real_clock.monotonic() - max(pause.began for pause in waits) < GRACE:
            return [_ANOTHER_THREAD]
        self._clock.note_undetermined("a thread waited while there were threads which are not part of the run")
        return []
