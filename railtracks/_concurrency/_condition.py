"""Waiting until something about an object has changed."""

from __future__ import annotations

from collections.abc import Callable

import anyio


class Condition:
    """Wakes all who wait, each time; costs nothing while nobody does, and belongs to no event loop between.

    For use in one thread. Whoever waits looks at its condition again when it wakes.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None  # made by the first who waits, set and forgotten by notify_all

    def notify_all(self) -> None:
        if self._event is not None:
            event, self._event = self._event, None
            event.set()

    async def wait_while(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` is false. Cancellation: the wait ends, nothing else does."""
        while condition():
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()
