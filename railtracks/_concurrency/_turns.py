"""Turns: those who come get them one after the other, in whatever event loop they are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TypeVar, final

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._event_loop import set_event

T = TypeVar("T")


@final
class Turn:
    """One that waits for its turn."""

    __slots__ = ("_token", "event")

    def __init__(self) -> None:
        self.event: anyio.Event = anyio.Event()
        self._token: EventLoopToken = current_token()

    def wake(self) -> None:
        """Wake it in its event loop, from any thread."""
        set_event(self.event, self._token)


def first_of(queue: Iterable[T]) -> T | None:
    """Return the first one; None if there is none.

    From Python 3.12 on ``next(iter(queue))`` may fail: the garbage collector may come between the two calls, and close
    what waits, which leaves the queue.
    """
    for each in queue:
        return each
    return None


class Turns:
    """A queue whose first one has its turn. For use in any thread.

    Attributes:
        is_reported: Whether it was reported that one waits very long; until the queue is empty.
    """

    __slots__ = ("_guard", "_queue", "is_reported")

    def __init__(self) -> None:
        self._guard = threading.RLock()  # the garbage collector may close what waits, and that leaves
        self._queue: OrderedDict[Turn, None] = OrderedDict()
        self.is_reported: bool = False

    def join(self) -> tuple[Turn, bool]:
        """Join the queue, which has to be left. Return the turn, and whether it has come; else wait for its event."""
        turn = Turn()
        with self._guard:
            self._queue[turn] = None
            return turn, len(self._queue) == 1

    def leave(self, turn: Turn) -> None:
        """Leave the queue, and wake the next one if it is its turn."""
        with self._guard:
            del self._queue[turn]
            first = first_of(self._queue)
            self.is_reported = self.is_reported and first is not None
        if first is not None:
            first.wake()
