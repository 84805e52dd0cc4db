"""Large values: texts and bytes that are kept beside the record of a call, which has a digest of them in their place.

Searching a large text for secrets, and writing it as JSON, would hold up the event loop. The digest takes a fiftieth
of that time. Equal values have equal digests, so records are compared as if the values stood in them. A mark has keys
that begin with ``$``, which no mapping of a user is written with, so no value can pretend to be one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from railtracks.state._file_system import open_regular
from railtracks.state._serialization._plain_data import from_base64, to_base64

LARGE = 65_536
"""The number of characters of a text, or of bytes, up to which a value stands in the record itself."""
VALUES_ENDING = ".values"
"""How the name of the folder ends that has the large values of a run, beside its state file."""
MASKED = b"masked"
"""What is stored in place of a value in which a secret was found. It is shorter than any value that is stored."""
Keep = Callable[[str, str | bytes], object]
"""Takes a large value, with its digest."""
Find = Callable[[str], bytes]
"""Returns the content with a digest. Raises ValueError, with a text that follows "it", if it cannot be used."""

_REFERENCE = re.compile(r'"\$large": "([0-9a-f]{64})"')
_BEGINS = '"$large": "'


def content_of(value: str | bytes) -> bytes:
    """Return a value as the bytes that are stored."""
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def digest_of(content: bytes) -> str:
    """Return the digest of what is stored."""
    from hashlib import sha256  # here, as it takes long to import

    return sha256(content).hexdigest()


def large_mark(value: str | bytes) -> dict[str, Any]:
    """Return the mark that stands in a record in place of a large value."""
    content = content_of(value)
    return {"$type": type(value).__name__, "$large": digest_of(content), "$size": len(content)}


def has_large(text: str | None) -> bool:
    """Return whether a text of a record refers to large values. In a value of a user, a backslash is in the way."""
    return text is not None and _BEGINS in text


def digests_in(text: str) -> list[str]:
    """Return the digests of the large values to which a text of a record, or of a document, refers."""
    return _REFERENCE.findall(text) if _BEGINS in text else []


def checked(content: bytes | None, digest: str) -> bytes:
    """Return what is stored under a digest, if it is the value.

    Raises:
        ValueError: It is not. The text says why, and follows "it".
    """
    if content is None:
        raise ValueError("has a large value that is missing")
    if content == MASKED:
        raise ValueError("has a large value that is not on record, as there is a secret in it")
    if digest_of(content) != digest:
        raise ValueError("has a large value that is damaged")
    return content


def find_nothing(digest: str) -> bytes:
    """Find no value, where none are kept."""
    return checked(None, digest)


def discard(digest: str, value: str | bytes) -> None:
    """Take a large value that is there already: the text with its digest is only compared with another one."""


def find_in_folder(folder: str, digest: str) -> bytes:
    """Return a value from the folder of a run.

    Raises:
        ValueError: As ``checked`` raises it.
    """
    try:
        return checked(read_value_file(folder, digest), digest)
    except OSError as exc:
        raise ValueError(f"has a large value that cannot be read ({exc})") from exc


def read_value_file(folder: str, digest: str) -> bytes | None:
    """Return what is stored under a digest in the folder of a run; None if nothing is.

    Raises:
        OSError: It cannot be read.
    """
    try:
        with open_regular(f"{folder}{os.sep}{digest}") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def expand(data: Any, find: Find, as_marks: bool = False, keeps_missing: bool = False) -> Any:
    """Return plain data with the large values in place of their marks.

    Args:
        data: The plain data.
        find: Returns their contents.
        as_marks: Whether bytes come as the mark that stands for small ones, so that the result can be written. Hooks of
            registered types get them in this way too.
        keeps_missing: Whether the marks of values that cannot be used stay.

    Raises:
        ValueError: As ``find`` raises it.
    """
    if isinstance(data, list):
        return [expand(item, find, as_marks, keeps_missing) for item in data]
    if not isinstance(data, dict):
        return data
    if "$large" not in data:
        return {key: expand(item, find, as_marks or key == "$value", keeps_missing) for key, item in data.items()}
    try:
        content = find(data["$large"])
    except ValueError:
        if keeps_missing:
            return data
        raise
    if data.get("$type") == "str":
        return content.decode("utf-8", "surrogatepass")
    return {"$type": "bytes", "$base64": to_base64(content)} if as_marks else content


def set_aside(data: Any) -> Any:
    """Return plain data with marks in place of the large values, as it is written where they are kept beside it."""
    if isinstance(data, list):
        return [set_aside(item) for item in data]
    if isinstance(data, str):
        return large_mark(data) if len(data) > LARGE else data
    if not isinstance(data, dict):
        return data
    if "$base64" in data:
        content = from_base64(data["$base64"])
        return large_mark(content) if len(content) > LARGE else data
    if "$items" in data:
        return {**data, "$items": [_pair_set_aside(pair) for pair in data["$items"]]}
    if "$repr" in data or "$message" in data:
        return data
    return {key: set_aside(item) for key, item in data.items()}


def _pair_set_aside(pair: Any) -> Any:
    return [pair[0], set_aside(pair[1])] if isinstance(pair, list) and len(pair) == 2 else pair  # keys stay as they are
