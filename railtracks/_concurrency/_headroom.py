"""Room on the stack: what an event loop does must not be torn apart by a RecursionError."""

from __future__ import annotations

HEADROOM = 40
"""The number of Python frames that waking or cancelling a task takes, with some to spare."""


def require_headroom(frames: int = HEADROOM) -> None:
    """Raise RecursionError here if the stack is almost full, and not in the middle of what follows.

    Code that recurses without end comes here with any number of frames left. asyncio and trio lose a task that is being
    woken or cancelled when the stack is full: it never runs again, and what waits for it never ends.

    Args:
        frames: How many frames must be left.
    """
    if frames:
        require_headroom(frames - 1)
