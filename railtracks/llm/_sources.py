"""Where the content of an attachment comes from: bytes, a file, an address, or a text in base64."""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64
from pathlib import Path
from urllib.parse import unquote_to_bytes

import attrs

from railtracks._addresses import http_address

_BEGINNING = 4096
"""Characters of a source in which it is seen what it is."""
_LONGEST_NAME = 255
"""Characters of a name in a path."""
_LONGEST_SHOWN = 60
_EXPECTED = "pass bytes, the path of a file, or an address that begins with https://"

Source = str | os.PathLike[str] | bytes
"""A path, an address, or the content itself."""


@attrs.frozen
class Content:
    """What was found at a source: base64, or the address at which the provider finds it."""

    base64: str = ""
    url: str | None = None
    media_type: str | None = None
    name: str | None = None


def content_of(owner: str, source: Source | None, base64: str, url: str | None) -> Content:
    """Return what is at a source, of which exactly one must be given. Blocks while it reads a file.

    Args:
        owner: The class that it is for, for errors.
        source: Bytes, a path, or an address.
        base64: The content, in base64.
        url: An address.

    Raises:
        TypeError, ValueError: The source is not one, or there is nothing in it.
        OSError: The file cannot be read.
    """
    if (source is not None) + bool(base64) + (url is not None) != 1:
        raise ValueError(f"{owner} needs one source: {_EXPECTED}; or write {owner}(base64=...)")
    if url is not None or (isinstance(source, str) and "://" in source[:_BEGINNING]):
        return Content(url=_checked_url(owner, source if url is None else url))
    if isinstance(source, str) and source.startswith("data:"):
        return _from_data_url(owner, source)
    if isinstance(source, str | os.PathLike):
        return _from_file(owner, source)
    if isinstance(source, bytes | bytearray | memoryview):
        return Content(_encoded(owner, bytes(source)))
    if source is not None:
        raise TypeError(f"{owner}: the source is {shown(source)}; {_EXPECTED}")
    decoded(owner, base64)
    return Content(base64)


def decoded(owner: str, base64: str) -> bytes:
    """Return the content of a text in base64.

    Raises:
        ValueError: It is not base64, or empty.
    """
    try:
        content = a2b_base64(base64, strict_mode=True)
    except (ValueError, TypeError) as exc:
        raise ValueError(f"{owner}: {shown(base64)} is not base64 ({exc})") from exc
    if not content:
        raise ValueError(f"{owner}: there is nothing in it")
    return content


def shown(value: object) -> str:
    """Return a value as errors show it: cut, as it may be a whole file."""
    text = repr(value[:_BEGINNING] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _encoded(owner: str, content: bytes) -> str:
    if not content:
        raise ValueError(f"{owner}: there is nothing in it")
    return b2a_base64(content, newline=False).decode("ascii")


def _checked_url(owner: str, url: object) -> str:
    if not isinstance(url, str) or http_address(url) is None:
        raise ValueError(f"{owner}: the address is {shown(url)}; {_EXPECTED}")
    return url


def _from_data_url(owner: str, url: str) -> Content:
    head, comma, body = url.removeprefix("data:").partition(",")
    if not comma:
        raise ValueError(f"{owner}: {shown(url)} has no comma; expected 'data:image/png;base64,...'")
    media_type = head.partition(";")[0] or None
    if not head.endswith(";base64"):
        return Content(_encoded(owner, unquote_to_bytes(body)), media_type=media_type)
    decoded(owner, body)
    return Content(body, media_type=media_type)


def _from_file(owner: str, source: str | os.PathLike[str]) -> Content:
    path = os.fspath(source)
    if max(map(len, path.split(os.sep))) > _LONGEST_NAME:
        raise ValueError(
            f"{owner}: a text of {len(path)} characters is not a path; for base64 write {owner}(base64=...)"
        )
    try:
        content = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as exc:
        where = "" if os.path.isabs(path) else f" in {os.getcwd()}"
        raise FileNotFoundError(f"{owner}: there is no file {shown(path)}{where}; {_EXPECTED}") from exc
    if not content:
        raise ValueError(f"{owner}: the file {path!r} is empty")
    return Content(_encoded(owner, content), name=os.path.basename(path))
