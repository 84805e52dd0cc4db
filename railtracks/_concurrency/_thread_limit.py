"""The limit on how many worker threads of a session work at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import anyio

from railtracks._concurrency._turns import first_of

PATIENCE = 5.0
"""Seconds that a thread may be waited for before the wait is reported."""


class ThreadLimit:
    """Lets at most ``total`` threads work at once, in the order in which they were asked for.

    A thread that waits for the event loop releases its place, and acquires one again before it goes on. anyio's limiter
    does not fit: those threads, and the threads that they wait for, must come first. Otherwise a batch would start all
    its threads before the first of them could go on.

    For use in the thread of the event loop.

    Args:
        total: How many threads.
        on_congestion: Called with the name of what has waited for ``PATIENCE`` seconds, and with the names of those
            that hold the places. Called once until no thread is waited for any more.
        around_wait: Called when work has to wait before it begins; returns the context manager inside which it waits.
    """

    def __init__(
        self,
        total: int,
        on_congestion: Callable[[str, Sequence[str]], None],
        around_wait: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._total = total
        self._on_congestion = on_congestion
        self._around_wait = around_wait
        self._holders: dict[object, str] = {}
        self._urgent: dict[object, anyio.Event] = {}
        self._waiting: dict[object, anyio.Event] = {}
        self._is_reported = False
        self.awaited: Counter[str] = Counter()
        """How many wait for a place, by name."""
        self.unlimited: anyio.CapacityLimiter = anyio.CapacityLimiter(math.inf)
        """The limiter for a backend that must not limit what has a place already."""

    async def acquire(self, holder: object, name: str, *, is_urgent: bool = False, has_begun: bool = False) -> None:
        """Wait for a place.

        Args:
            holder: What will hold it.
            name: Its name, for people.
            is_urgent: Whether it comes before all that are not urgent.
            has_begun: Whether its thread runs already, and waits to go on.

        Cancellation: the wait ends, and there is no place to release.
        """
        queue = self._urgent if is_urgent else self._waiting
        if self._is_next(holder, queue):
            self._holders[holder] = name
        elif has_begun:
            await self._wait(holder, name, queue)
        else:
            with self._around_wait():
                await self._wait(holder, name, queue)

    def acquire_beyond_limit(self, holder: object, name: str) -> None:
        """Acquire a place, even if there is none left."""
        self._holders[holder] = name

    def release(self, holder: object) -> None:
        """Release the place of ``holder``, if it has one."""
        if self._holders.pop(holder, None) is not None:
            self._wake()

    def _is_next(self, holder: object, queue: dict[object, anyio.Event]) -> bool:
        if len(self._holders) >= self._total or (self._urgent and queue is self._waiting):
            return False
        first = first_of(queue)
        return first is None or first is holder

    async def _wait(self, holder: object, name: str, queue: dict[object, anyio.Event]) -> None:
        queue[holder] = anyio.Event()
        self.awaited[name] += 1
        try:
            with anyio.move_on_after(PATIENCE):
                return await self._wait_until_next(holder, name, queue)
            if not self._is_reported:
                self._is_reported = True
                self._on_congestion(name, tuple(self._holders.values()))
            await self._wait_until_next(holder, name, queue)
        finally:
            del queue[holder]
            self.awaited[name] -= 1
            if not self.awaited[name]:
                del self.awaited[name]
            self._is_reported = self._is_reported and bool(self._urgent or self._waiting)
            self._wake()

    async def _wait_until_next(self, holder: object, name: str, queue: dict[object, anyio.Event]) -> None:
        while not self._is_next(holder, queue):
            queue[holder] = event = anyio.Event()  # its position in the queue stays
            await event.wait()
        self._holders[holder] = name

    def _wake(self) -> None:
        """Wake as many as there are places, the urgent ones first. What asks meanwhile may still come before them."""
        free = max(0, self._total - len(self._holders))
        for event in islice((*self._urgent.values(), *islice(self._waiting.values(), free)), free):
            event.set()
