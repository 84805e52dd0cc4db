"""Worker threads under virtual time: how many are at work, and who may go on.

Two threads that run at once race for real, and no seed brings the race back. So with a seed they take turns: one goes
on when the event loop has nothing else to do, until it is through or waits for the event loop, and the seed decides
which one that is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import cast

import anyio
from anyio.to_thread import current_default_thread_limiter

from railtracks._concurrency._event_loop import running_library
from railtracks.testing._virtual_time._blocked_threads import Stillness

GRACE = 0.1
"""Real seconds that a thread may stand still before the next goes on too: it may be waiting for that one."""
CANDIDATES = 16
"""Only so many of those that wait longest can be next: whoever waits for one of the 40 threads cannot begin yet."""


class SeededThreadScheduler:
    """The ``ThreadScheduler`` of one run.

    Args:
        random: Decides who is next. None: all go on at once.
    """

    def __init__(self, random: Random | None = None) -> None:
        self._random = random
        self._changed = threading.Condition()
        self._ready: dict[object, None] = {}  # waits for its turn
        self._running: dict[object, None] = {}  # has it
        self._threads: dict[object, int] = {}  # those that have begun, by their threads
        self._granted_at = 0.0
        self._stillness = Stillness()
        self._opened = random is None

    def on_queued(self, work: object) -> None:
        with self._changed:
            (self._running if self._opened else self._ready)[work] = None

    def wait_turn(self, work: object) -> None:
        with self._changed:
            if work in self._ready or work in self._running:  # or it is over, before its thread began
                self._threads[work] = threading.get_ident()
            self._changed.wait_for(lambda: self._opened or work not in self._ready)

    def on_suspended(self, work: object) -> None:
        with self._changed:
            self._running.pop(work, None)

    def on_finished(self, work: object) -> None:
        with self._changed:
            self._running.pop(work, None)
            self._ready.pop(work, None)
            self._threads.pop(work, None)
            self._changed.notify_all()

    def limiter(self, given: anyio.CapacityLimiter | None, admit: Callable[[], None]) -> anyio.CapacityLimiter | None:
        """On trio a thread that was abandoned before it began reports all the same, and that moves a task.

        On asyncio it may never begin, and what it reports moves none.
        """
        if self._opened or running_library() != "trio":
            return given
        return cast(anyio.CapacityLimiter, _AdmittingLimiter(given or current_default_thread_limiter(), admit))

    @property
    def threads(self) -> set[int]:
        """The identifiers of the threads in which work has begun."""
        with self._changed:
            return set(self._threads.values())

    def grant(self, waits: Callable[[int], bool]) -> bool:
        """The event loop has nothing to do: whose turn is it? False if no thread has anything to do either.

        ``waits``: does a thread wait for the event loop, without having told by ``suspended``?
        """
        with self._changed:
            if self._ready and all(map(self._stands_still, self._running)):
                assert self._random is not None
                work = self._random.choice(list(islice(self._ready, CANDIDATES)))
                del self._ready[work]
                self._running[work] = None
                self._granted_at = time.monotonic()
                self._changed.notify_all()
            return any(work not in self._threads or not waits(self._threads[work]) for work in self._running)

    def _stands_still(self, work: object) -> bool:
        if work in self._threads:
            return self._stillness.of(self._threads[work]) > GRACE
        return time.monotonic() > self._granted_at + 10 * GRACE  # it waits for a thread, and there may be none

    def release_all(self) -> None:
        """The run is over; what is left goes on alone."""
        with self._changed:
            self._opened = True
            self._changed.notify_all()


class _AdmittingLimiter:
    """As much of a limiter as ``trio.to_thread.run_sync`` uses; calls ``admit`` when it has let somebody through."""

    def __init__(self, limiter: anyio.CapacityLimiter, admit: Callable[[], None]) -> None:
        self._limiter = limiter
        self._admit = admit
        self.release_on_behalf_of = limiter.release_on_behalf_of

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._limiter.acquire_on_behalf_of(borrower)
        self._admit()  # nothing can come between this and the start of the thread
