"""Tracebacks as text, in little time however long the messages in them are."""

from __future__ import annotations

import traceback
from collections.abc import Callable

MAX_MESSAGE = 10_000
"""The number of characters of a message that stand in a traceback."""


def format_traceback(error: BaseException, shorten: Callable[[str], str]) -> str:
    """Return an exception with its traceback as text, with its causes.

    ``traceback`` takes half a second for a message of many lines and 10 million characters.

    Args:
        error: The exception.
        shorten: Returns the beginning of a message that is longer than ``MAX_MESSAGE``, without secrets: one that is
            cut in two would not be found later.
    """
    whole = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    waiting, seen = [whole], set[int]()
    while waiting:
        shown = waiting.pop()
        if id(shown) in seen:
            continue
        seen.add(id(shown))
        # It has the message under a private name. Where that is another one, the whole message is written.
        message = getattr(shown, "_str", None)
        if isinstance(message, str) and len(message) > MAX_MESSAGE:
            shown._str = shorten(message)  # type: ignore[attr-defined]
        links = (shown.__cause__, shown.__context__, *(shown.exceptions or ()))
        waiting += [each for each in links if each is not None]
    return "".join(whole.format())
