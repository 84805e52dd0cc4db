"""Plain data: what values are written as, its limits, and the texts in it.

Plain data consists of what JSON knows: None, booleans, numbers, texts, lists, and dicts with texts as keys. What JSON
does not know is written as a mark: a dict with keys that begin with ``$``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

MAX_TEXT = 1_048_576
"""The number of characters of a text that are written of a value that is only shown."""
MAX_ITEMS = 10_000
"""The number of items of a collection that are written of a value that is only shown."""
MAX_PARTS = 100_000
"""The number of parts, at all levels together, that are written of a value that is only shown."""
MAX_DEPTH = 64
"""The number of levels of nesting that are written."""
MAX_REPR = 1_000
"""The number of characters of a repr that are written."""
MAX_SHOWN = 100_000
"""The number of characters of a message, a traceback or a log line that are written."""


_NUMBERS = frozenset({int, float, bool})
_MANY = 16
"""The number of items from which on it pays to look at the types of all of them first."""


def to_base64(content: bytes) -> str:
    """Return bytes as text."""
    from binascii import b2a_base64

    return b2a_base64(content, newline=False).decode()


def from_base64(text: str) -> bytes:
    """Return the bytes that ``to_base64`` wrote."""
    from binascii import a2b_base64

    return a2b_base64(text)


def are_plain_numbers(values: Any) -> bool:
    """Return whether a list or a tuple has only numbers that JSON has too, so that none of them needs an encoder."""
    if type(values) not in (list, tuple) or len(values) < _MANY or not _NUMBERS.issuperset(map(type, values)):
        return False
    try:
        return all(map(math.isfinite, values))
    except OverflowError:  # an integer of more than 1,024 bits
        return False


def cut_text(text: str, limit: int, whole: str | None = None) -> str:
    """Return the first ``limit`` characters of a text. If it is longer, the last of them say how long it is.

    Args:
        text: The text.
        limit: The number of characters to return at most.
        whole: The length of what the text is the beginning of, in words. None: the text is whole if it is not too long.
    """
    if len(text) <= limit and whole is None:
        return text
    mark = f"... [{whole or f'{len(text)} characters'} in all]"
    return text[: limit - len(mark)] + mark


def texts_in(data: Any) -> Iterator[str]:
    """Yield all texts in plain data except for keys, numbers as texts, and bytes in each way that a text shows them."""
    if isinstance(data, dict):
        if "$base64" in data:
            content = from_base64(data["$base64"])
            yield content.decode("latin-1")
            yield repr(content)[2:-1]
            yield repr(b"'\"" + content)[5:-1]
            with contextlib.suppress(UnicodeDecodeError):
                yield content.decode()
        else:
            for key, value in data.items():
                if key not in ("$type", "$cut"):
                    yield from texts_in(value)
    elif isinstance(data, list):
        for item in data:
            yield from texts_in(item)
    elif data is not None and not isinstance(data, bool):
        yield str(data)
