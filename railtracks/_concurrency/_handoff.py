"""Passing items from one task to another, each of which is taken before the task goes on."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import anyio

from railtracks._concurrency._condition import Condition

T = TypeVar("T")


class Handoff(Generic[T]):
    """A channel without a buffer between tasks of one event loop.

    Unlike anyio's memory object stream it loses nothing if the receiver is cancelled natively, as by
    ``asyncio.wait_for``, at the moment at which an item was passed to it.
    """

    def __init__(self) -> None:
        self._waiting: deque[T] = deque()  # each with a sender that waits until it is taken
        self._changed = Condition()
        self._is_closed = False

    async def send(self, item: T) -> None:
        """Pass an item, and wait until it is taken.

        Raises:
            BrokenResourceError: the channel was closed, and the item was not taken.

        Cancellation: the item is not passed.
        """
        if self._is_closed:
            raise anyio.BrokenResourceError
        self._waiting.append(item)
        self._changed.notify_all()
        try:
            await self._changed.wait_while(lambda: self._holds(item) and not self._is_closed)
        finally:
            was_taken = not self._holds(item)
            self._waiting = deque(each for each in self._waiting if each is not item)
        if not was_taken:
            raise anyio.BrokenResourceError

    def _holds(self, item: T) -> bool:
        return any(each is item for each in self._waiting)

    async def receive(self) -> T:
        """Return the next item, when there is one.

        Raises:
            EndOfStream: the channel was closed.

        Cancellation: nothing is taken.
        """
        await self._changed.wait_while(lambda: not self._waiting and not self._is_closed)
        if self._is_closed:
            raise anyio.EndOfStream
        item = self._waiting.popleft()
        self._changed.notify_all()
        return item

    def close(self) -> None:
        """Pass nothing more. Idempotent."""
        self._is_closed = True
        self._changed.notify_all()
