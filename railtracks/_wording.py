"""Numbers and names in messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MAX_NAMES = 5
"""The number of names that a message shows."""


def counted(number: int, noun: str) -> str:
    """Return a number of things, as in "1 call" and "2 calls"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def expected_value(expected: object, value: Any) -> str:
    """Return what was expected, for a message, and for a timedelta in place of seconds what to write.

    Args:
        expected: What was expected.
        value: What came.
    """
    in_seconds = getattr(value, "total_seconds", None)  # of a timedelta, whose module is slow to load
    if "seconds" in str(expected) and callable(in_seconds):
        return f"{expected}; write {in_seconds()!r}, its total_seconds()"
    return str(expected)


def unknown_argument(of: str, name: str, known: Iterable[str], instead: str = "") -> TypeError:
    """Return the error for an argument that something does not have.

    Args:
        of: What does not have it, as people write it, such as "rt.Limit".
        name: The name of the argument.
        known: The names of those that it has.
        instead: What to write in place of it, if that is known.
    """
    from difflib import get_close_matches  # here, because only this error needs it

    names = [*known]
    close = get_close_matches(name, names, n=1)
    advice = instead or (f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}")
    return TypeError(f"{of} has no argument {name!r}; {advice}")
