"""How far a batch is."""

from __future__ import annotations

from collections import deque

WINDOW = 10.0
"""Seconds of which the rate is the average."""
_NOTED = 40
"""Moments that are noted in that time, at most."""


class BatchCount:
    """How many calls of a batch have ended. Counted on the event loop, and read in another thread.

    Args:
        label: What the batch does, or the name of the node.
        total: How many calls it makes; None if that is not known.
        limit: How many of them run at once, at most; None if there is no limit.

    Attributes:
        label: As given.
        total: As given.
        limit: As given.
        ended: How many have ended.
        failed: How many of these have failed.
    """

    def __init__(self, label: str, total: int | None, limit: int | None = None) -> None:
        self.label: str = label
        self.total: int | None = total
        self.limit: int | None = limit
        self.ended: int = 0
        self.failed: int = 0
        self._noted: deque[tuple[float, int]] = deque()  # moments, with how many had ended; for the thread that reads

    def advance(self, has_failed: bool) -> None:
        """Count a call that has ended."""
        self.ended += 1
        self.failed += has_failed

    def end(self) -> None:
        """Handle that the batch has ended, in whatever way."""

    def text(self, name: str) -> str:
        """Return how far it is, as in ``parsing: 12 of 40 (30 %), 1 failed``. ``name`` is what it is called."""
        share = f" of {self.total} ({100 * self.ended // self.total} %)" if self.total else ""
        return f"{name}: {self.ended}{share}{f', {self.failed} failed' if self.failed else ''}"

    def rate(self, now: float) -> float:
        """Return how many calls ended per second in the latest seconds; 0.0 if that is not known.

        Args:
            now: Monotonic seconds, which do not decrease from one call to the next.
        """
        noted, ended = self._noted, self.ended
        if not noted or now - noted[-1][0] >= WINDOW / _NOTED:
            noted.append((now, ended))
        while len(noted) > 2 and now - noted[1][0] >= WINDOW:
            noted.popleft()
        since, before = noted[0]
        return (ended - before) / (now - since) if now > since else 0.0
