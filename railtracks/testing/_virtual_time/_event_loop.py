"""What a clock needs of the event loop that runs on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class EventLoop(Protocol):
    """What a clock needs of the event loop that runs on it."""

    def on_clock_moved(self, seconds: float) -> None:
        """Handle that the clock jumped by ``seconds``."""

    def call_soon(self, func: Callable[[], None], /) -> object:
        """Call ``func`` such that the tasks it wakes run in the order that the seed decides."""

    def count_ready(self) -> int:
        """Return how many tasks and callbacks can run, without the running one."""

    def deadline(self) -> float | None:
        """Return when the next timer is due, or None if none ever is."""

    def jobs(self) -> list[tuple[int | None, str]]:
        """Return the work in threads that the event loop waits for: the thread, if it has begun, and a description."""

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for this event loop."""

    def has_news(self) -> bool:
        """Return whether a thread has handed something over since the event loop last looked."""

    def sockets(self) -> list[str]:
        """Return descriptions of what the event loop waits for outside of the process."""

    def waiting(self) -> list[str]:
        """Return where each of its tasks waits."""

    def running(self) -> list[tuple[str, bool]]:
        """Return where the tasks and callbacks are that run in this turn, each with whether that is in user code."""
