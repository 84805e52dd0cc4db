"""A rate: how many times something may begin in any period of time, whoever begins it."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

import anyio

from railtracks._concurrency._turns import Turn, first_of

Elsewhere = Callable[[], Awaitable[float]]
"""Begins in a window that several processes share, and returns 0; or returns how many seconds later that may be
possible."""
TOLERANCE = 1e-6
"""Seconds by which a wait may end early: clocks of event loops are rounded."""


class RateWindow:
    """Lets at most ``count`` begin in any ``period``, in the order in which they came.

    It is a sliding window over the last ``count`` beginnings, so the first ``count`` may begin at once, and the next
    one a period after the first of these. Unlike a token bucket it never lets twice as many begin in one period. For
    use in any thread.

    Args:
        count: How many.
        period: Seconds.
        clock: Returns monotonic seconds.
    """

    __slots__ = ("_begun", "_clock", "_count", "_guard", "_period", "_queue")

    def __init__(self, count: int, period: float, clock: Callable[[], float]) -> None:
        self._count = count
        self._period = period
        self._clock = clock
        self._guard = threading.RLock()  # the garbage collector may close what waits, and that leaves
        self._begun: deque[float] = deque(maxlen=count)
        self._queue: OrderedDict[Turn, None] = OrderedDict()

    def take_nowait(self) -> bool:
        """Begin now, if that is allowed and no one waits. Return whether it is."""
        with self._guard:
            return not self._queue and self._take() <= 0

    def _take(self) -> float:
        """Begin now and return 0, or return how many seconds later that is allowed."""
        now = self._clock()
        if len(self._begun) == self._count:
            delay = self._begun[0] + self._period - now
            if delay > TOLERANCE:
                return delay
            now += max(0.0, delay)
        self._begun.append(now)
        return 0.0

    async def take(self, elsewhere: Elsewhere | None = None, on_wait: Callable[[], object] = lambda: None) -> None:
        """Wait until it is allowed to begin.

        Args:
            elsewhere: See ``Elsewhere``; None if the window is that of this process alone.
            on_wait: Called before each wait for others. If it raises, the wait ends as if it was cancelled.

        Cancellation: the wait ends, and the next one has its turn.
        """
        with self._guard:
            waiter = self._join()
        has_taken = has_begun = False
        try:
            while not has_taken:
                with self._guard:
                    is_first = first_of(self._queue) is waiter
                    delay = self._take() if is_first else 0.0
                if not is_first:
                    on_wait()
                    await waiter.event.wait()
                elif delay > 0:
                    on_wait()
                    await anyio.sleep(delay)
                else:
                    has_taken = True
            if elsewhere is not None:
                while (delay := await elsewhere()) > 0:
                    on_wait()
                    await anyio.sleep(delay)
            has_begun = True
        finally:
            self._leave(waiter, has_begun if has_taken else None)

    def _join(self) -> Turn:
        waiter = Turn()
        self._queue[waiter] = None
        return waiter

    def _leave(self, waiter: Turn, begun: bool | None) -> None:
        """Leave the queue, and wake the next one. While one is the first, no one else begins.

        Args:
            waiter: Who leaves.
            begun: Whether it has begun, after it was counted; None if it was not counted.
        """
        with self._guard:
            del self._queue[waiter]
            if begun is False:
                self._begun.pop()
            elif begun:
                self._begun[-1] = max(self._begun[-1], self._clock())
            first = first_of(self._queue)
        if first is not None:
            first.wake()
