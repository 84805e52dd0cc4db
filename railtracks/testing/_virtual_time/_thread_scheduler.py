"""Worker threads under virtual time: which ones are at work, and which one may continue.

Two threads that run at once race for real, and no seed brings the race back. So with a seed they take turns: one
continues when the event loop has nothing else to do, until it ends or waits for the event loop. The seed decides which.
If the event loop always has something to do, one continues after many steps: the tasks may be waiting for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice
from typing import cast

import anyio
from anyio.to_thread import current_default_thread_limiter

from railtracks._test_probe import running_library
from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._blocked_threads import StallDetector
from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._world import World

GRACE = 0.1
"""Real seconds that a thread may stall before the next one continues too: the first may be waiting for the next."""
CANDIDATES = 16
"""How many of those that have waited longest can be next. Work that has no thread yet, of the 40, cannot begin."""


class SeededThreadScheduler:
    """The ``ThreadScheduler`` of one run.

    Args:
        choices: Decides which piece of work is next. With None, all continue at once.
        world: The world in which the threads are while they do the work.
    """

    def __init__(self, choices: Choices | None = None, world: World | None = None) -> None:
        self._choices = choices
        self._world = world
        self._changed = threading.Condition()
        self._ready: dict[object, None] = {}  # waits for its turn
        self._running: dict[object, None] = {}  # has its turn
        self._threads: dict[object, int] = {}  # the threads of the work that has begun
        self._granted_at = 0.0
        self._stalls = StallDetector()
        self._released = choices is None

    def on_queued(self, work: object) -> None:
        with self._changed:
            (self._running if self._released else self._ready)[work] = None

    def wait_turn(self, work: object) -> None:
        with self._changed:
            if work in self._ready or work in self._running:  # or else it has finished before its thread began
                self._threads[work] = threading.get_ident()
                if self._world is not None:
                    self._world.enter()
            self._changed.wait_for(lambda: self._released or work not in self._ready)

    def on_suspended(self, work: object) -> None:
        with self._changed:
            self._running.pop(work, None)

    def on_finished(self, work: object) -> None:
        with self._changed:
            self._running.pop(work, None)
            self._ready.pop(work, None)
            thread = self._threads.pop(work, None)
            if thread is not None and self._world is not None:
                self._world.leave(thread)
            self._changed.notify_all()

    def limiter(self, given: anyio.CapacityLimiter | None, admit: Callable[[], None]) -> anyio.CapacityLimiter | None:
        """Return a limiter that calls ``admit`` on trio, and ``given`` on asyncio.

        On trio a thread that was abandoned before it began reports nevertheless, and its report schedules a task. On
        asyncio such a thread may never begin, and its report schedules nothing.
        """
        if self._released or running_library() != "trio":
            return given
        return cast(anyio.CapacityLimiter, _AdmittingLimiter(given or current_default_thread_limiter(), admit))

    @property
    def threads(self) -> set[int]:
        """The identifiers of the threads in which work has begun."""
        with self._changed:
            return set(self._threads.values())

    def grant_turn(self, is_blocked: Callable[[int], bool]) -> bool:
        """Let the next piece of work continue, if no other runs. To be called when the event loop has nothing to do.

        Args:
            is_blocked: Returns whether a thread waits for the event loop although ``on_suspended`` was not called.

        Returns:
            Whether a thread is at work now.
        """
        with self._changed:
            if self._ready and all(map(self._is_stalled, self._running)):
                assert self._choices is not None
                candidates = list(islice(self._ready, CANDIDATES))
                work = candidates[self._choices.choose(len(candidates))]
                del self._ready[work]
                self._running[work] = None
                self._granted_at = _real_clock.monotonic()
                self._changed.notify_all()
            return self._is_at_work(is_blocked)

    def grant_turn_between(self, rests: Callable[[int], bool]) -> bool:
        """Do what ``grant_turn`` does although the event loop has something to do, and wait for the thread a little.

        The event loop stands still meanwhile, so that what the thread does comes at the same step each time.

        Args:
            rests: Returns whether a thread has finished its work, or waits for the event loop.

        Returns:
            Whether a piece of work waited for its turn and got it.
        """
        with self._changed:
            waiting = len(self._ready)
            at_work = self.grant_turn(rests)
            granted = len(self._ready) < waiting
        until = _real_clock.monotonic() + GRACE
        while at_work and _real_clock.monotonic() < until:
            _real_clock.block(1e-4)
            with self._changed:
                at_work = self._is_at_work(rests)
        return granted

    def _is_at_work(self, is_blocked: Callable[[int], bool]) -> bool:
        return any(work not in self._threads or not is_blocked(self._threads[work]) for work in self._running)

    def _is_stalled(self, work: object) -> bool:
        if work in self._threads:
            return self._stalls.stalled_for(self._threads[work]) > GRACE
        return _real_clock.monotonic() > self._granted_at + 10 * GRACE  # it waits for a thread, and there may be none

    def release_all(self) -> None:
        """Let all work continue from now on, because the run is over and grants no more turns."""
        with self._changed:
            self._released = True
            self._changed.notify_all()


class _AdmittingLimiter:
    """The part of a limiter that ``trio.to_thread.run_sync`` uses; calls ``admit`` when it has let a borrower in."""

    def __init__(self, limiter: anyio.CapacityLimiter, admit: Callable[[], None]) -> None:
        self._limiter = limiter
        self._admit = admit
        self.release_on_behalf_of = limiter.release_on_behalf_of

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._limiter.acquire_on_behalf_of(borrower)
        self._admit()  # nothing can come between this and the start of the thread
