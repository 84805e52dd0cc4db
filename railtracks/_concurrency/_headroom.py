"""Room on the stack: what an event loop does must not be torn apart by a RecursionError."""

from __future__ import annotations

import sys

HEADROOM = 40
"""The number of Python frames that waking or cancelling a task takes, with some to spare."""


def require_headroom() -> None:
    """Raise RecursionError here if the stack is almost full, and not in the middle of what follows.

    Code that recurses without end comes here with any number of frames left. asyncio and trio lose a task that is being
    woken or cancelled when the stack is full: it never runs again, and what waits for it never ends.

    """
    try:
        sys._getframe(sys.getrecursionlimit() // 4)
    except ValueError:  # the stack is not even that deep: far from full, and much quicker to see
        return
    _descend(HEADROOM)


def _descend(frames: int) -> None:
    if frames:
        _descend(frames - 1)
