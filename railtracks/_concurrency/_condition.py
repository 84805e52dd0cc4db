"""A condition to wait for: that something about an object has changed."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from railtracks._concurrency._headroom import require_headroom


class Condition:
    """Wakes all tasks that wait, at each notification.

    Unlike anyio's ``Condition`` it has no lock, costs nothing while no task waits, and is bound to an event loop only
    while tasks wait. For use in one thread.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None  # made by the first waiter, set and dropped by notify_all

    def notify_all(self) -> None:
        """Wake all waiting tasks, which then check their conditions again.

        Raises RecursionError, and wakes none, where the stack is almost full.
        """
        if self._event is not None:
            require_headroom()
            event, self._event = self._event, None
            event.set()

    async def wait_while(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()`` is false. Cancellation: only the wait ends."""
        while condition():
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()
