"""Numbers and names in messages."""

from __future__ import annotations

MAX_NAMES = 5
"""The number of names that a message shows."""


def counted(number: int, noun: str) -> str:
    """Return a number of things, as in "1 call" and "2 calls"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
