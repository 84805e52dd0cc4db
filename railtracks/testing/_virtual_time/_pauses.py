"""Pauses of threads, and the work that a thread does for a run: what their scheduler is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context

import attrs

from railtracks.testing._virtual_time import _real_clock

GRACE = 0.1
"""Real seconds that a thread may stall before the next one continues too: the first may be waiting for the next."""
POLL_INTERVAL = 0.0002
"""Real seconds between two checks of a thread that has its turn."""


class RunEnded(SystemExit):
    """Ends a thread that waits in a run which is over. Python prints nothing of it."""


class RealCondition(threading.Condition):
    """A condition whose waits are real, also while those of other conditions are virtual."""

    wait = threading.Condition.wait


class OwnThread:
    """The work of a whole thread that the user, or a library, has started in the run."""

    thread: threading.Thread


@attrs.frozen(eq=False)
class Pause:
    """Why a thread pauses."""

    until: float | None
    """What the clock reads when the pause ends at the latest."""
    is_over: Callable[[], bool]
    """Whether it ends earlier; cheap, and called in any thread."""
    is_sleep: bool
    """Whether only time ends it."""
    is_for_loop: bool = False
    """Whether the thread waits for what it asked of the event loop."""
    holder: Callable[[], str] = str
    """Returns where what the thread waits for is held, or ""."""
    context: Context = attrs.field(factory=copy_context)
    """The context of the code that pauses, which says what it is part of."""
    began: float = attrs.field(factory=_real_clock.monotonic)
    """In real seconds."""

    def has_ended(self, reading: float) -> bool:
        """Return whether the thread can go on when the clock reads that."""
        return (self.until is not None and self.until <= reading) or self.is_over()


def has_returned(work: object) -> bool:
    """Return whether the function has returned, so that the event loop is about to notice the end of the work."""
    return bool(getattr(work, "has_ended", False))
