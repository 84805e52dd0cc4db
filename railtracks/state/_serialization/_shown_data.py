"""Plain data as people read it: JSON on one line, with a short text in place of each mark, and cut where it is long."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from json import JSONEncoder

MORE = "…"
"""In place of what is left out."""
_MAX_ITEMS = 5
"""The number of items of a collection that are shown."""
_MAX_DEPTH = 4
"""The number of levels of nesting that are shown."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Line breaks, control characters, marks that change the direction of a text, and lone surrogates.
_NOT_PRINTED = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown_data(data: Any, limit: int) -> str:
    """Return plain data as text.

    Args:
        data: Plain data; a value that is written as a mark stands for itself.
        limit: The number of characters to return at most.
    """
    return shorten_middle(_text(data, limit, _MAX_DEPTH), limit)


def shown_members(args: list[Any], kwargs: Mapping[str, Any], limit: int, limit_of_each: int) -> str:
    """Return the arguments of a call, as plain data, as they would be written in it.

    Args:
        args: The positional arguments.
        kwargs: The others.
        limit: The number of characters to return at most.
        limit_of_each: That of each argument.
    """
    most = limit // 2  # each takes two characters or more
    texts = [shown_data(value, limit_of_each) for value in args[:most]]
    texts += [f"{name}={shown_data(value, limit_of_each)}" for name, value in islice(kwargs.items(), most)]
    return shorten(", ".join(texts), limit)


def shorten(text: str, limit: int) -> str:
    """Return the first ``limit`` characters of a text, on one line. If it is longer, the last is an ellipsis."""
    start = _NOT_PRINTED.sub(_escape, text[: limit + 1])
    return start if len(start) <= limit else f"{start[: limit - 1]}{MORE}"


def shorten_middle(text: str, limit: int) -> str:
    """Do as ``shorten`` does, but leave out the middle, as the end of a path or an identifier says most."""
    text = _NOT_PRINTED.sub(_escape, text)
    if len(text) <= limit:
        return text
    tail = (limit - 1) * 2 // 3
    return f"{text[: limit - 1 - tail]}{MORE}{text[len(text) - tail :]}"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def without_addresses(text: str) -> str:
    """Return a repr without the address in it, which is another one in each process."""
    return _ADDRESS.sub("", text)


@cache
def _json() -> JSONEncoder:
    from json import JSONEncoder  # here, as it takes long to import

    return JSONEncoder(ensure_ascii=False)


def _size_of_base64(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=")


def _text(data: Any, limit: int, depth: int) -> str:
    if isinstance(data, dict):
        return _dict_text(data, limit, depth)
    if isinstance(data, list):
        if not depth and data:
            return f"[{MORE}]"
        texts = [_text(each, limit, depth - 1) for each in data[:_MAX_ITEMS]]
        return f"[{', '.join([*texts, *([MORE] if len(data) > _MAX_ITEMS else [])])}]"
    if isinstance(data, str) and len(data) > 2 * limit:  # so much at each end that the middle is left out
        data = f"{data[:limit]}{data[-limit:]}"
    return _json().encode(data)


def _dict_text(data: dict[str, Any], limit: int, depth: int) -> str:
    for key, shown in _MARKS.items():
        if key in data:
            return shown(data)
    if "$items" in data:  # a dict whose keys are not texts; the mark of what was cut stands behind the pairs
        given = [pair for pair in data["$items"] if isinstance(pair, list)]
        pairs = [(_text(key, limit, depth - 1), value) for key, value in given[:_MAX_ITEMS]]
        size = len(data["$items"]) + (_MAX_ITEMS if len(given) < len(data["$items"]) else 0)
    else:
        data = data.get("$value", data) if "$type" in data else data
        if not isinstance(data, dict):
            return _text(data, limit, depth)
        pairs = [(_json().encode(key[:limit]), value) for key, value in islice(data.items(), _MAX_ITEMS)]
        size = len(data)
    if not depth and pairs:
        return f"{{{MORE}}}"
    texts = [f"{key}: {_text(value, limit, depth - 1)}" for key, value in pairs]
    return f"{{{', '.join([*texts, *([MORE] if size > _MAX_ITEMS else [])])}}}"


_MARKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "$ignored": lambda _: MORE,
    "$cut": lambda _: MORE,
    "$repr": lambda data: without_addresses(str(data["$repr"])),
    "$base64": lambda data: f"<{data.get('$type')} of {_size_of_base64(data['$base64'])} bytes>",
    "$large": lambda data: f"<{data.get('$size')} bytes>",
    "$message": lambda data: f"{str(data.get('$type')).rpartition('.')[2]}({str(data['$message'])!r})",
}
"""By a key that only one kind of mark has: what is shown of the value that it stands for."""
