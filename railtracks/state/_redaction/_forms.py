"""The forms in which a known secret may stand in other texts: quoted, as base64, and split over several lines."""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterator

from railtracks.state._redaction._text_index import MIN_LENGTH

_LONGEST = 10_000
"""The number of characters up to which a secret is looked for as base64 and as part of a URL."""
_UNRESERVED = re.compile(r"[\w.~-]*", re.ASCII)
_BREAK = r"(?:\s|\\+[nrt]){0,40}"
"""What may stand between two characters of a secret that is split: a line break, also an escaped one, and blanks."""


def forms_of(text: str) -> tuple[str, ...]:
    """Return how a secret may be written in other texts, with the text itself, each once."""
    forms = [text] if _needs_no_quotes(text) else [text, *_all_quoted(text)]
    if len(text) <= _LONGEST:
        forms += _as_base64(text.encode("utf-8", "surrogatepass"))
        if not text.isascii():
            if all(character <= "\xff" for character in text):  # bytes that are shown as text
                forms += _as_base64(text.encode("latin-1"))
            forms += _as_base64(text.encode("utf-16-le", "surrogatepass"))
        if not _UNRESERVED.fullmatch(text):
            forms += _in_url(text)
    return tuple(dict.fromkeys(form for form in forms if len(form) >= MIN_LENGTH))


def _needs_no_quotes(text: str) -> bool:
    return text.isascii() and text.isprintable() and not any(c in text for c in "'\"\\")


def _all_quoted(text: str) -> Iterator[str]:
    """Yield a text as Python and JSON quote it, once and twice, and as bytes show it."""
    for once in _quoted(text):
        yield from _quoted(once)
    data = text.encode("utf-8", "surrogatepass")
    in_bytes = repr(data)[2:-1]
    yield data.decode("latin-1")
    yield repr(b"'\"" + data)[5:-1]
    yield from _quoted(in_bytes)


def _quoted(text: str) -> tuple[str, ...]:
    import json  # here, as importing it takes long

    return (
        text, repr(text)[1:-1], repr(f"'{text}\"")[3:-2], json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    )  # fmt: skip


def _as_base64(data: bytes) -> Iterator[str]:
    """Yield what stands in the base64 of anything that contains the data, at each of the three places in a group.

    A character that holds bits of the data and of what stands beside it is left out.
    """
    for before, padding in enumerate((b"", b"x", b"xx")):
        encoded = b2a_base64(padding + data, newline=False).decode()
        core = encoded[(0, 2, 3)[before] : 8 * (before + len(data)) // 6]
        yield core
        if "+" in core or "/" in core:
            yield core.replace("+", "-").replace("/", "_")


def _in_url(text: str) -> Iterator[str]:
    """Yield a text as it is quoted in URLs and in forms, with hexadecimal digits in either case."""
    from urllib.parse import quote, quote_plus  # here, as few secrets need it

    for quoting, safe in ((quote, ""), (quote, "/"), (quote, "!'()*"), (quote_plus, "")):
        form = quoting(text, safe, errors="replace")
        yield form
        yield re.sub("%..", lambda match: match[0].lower(), form)


def joined_lines(text: str) -> str:
    """Return a text without its line breaks and the blanks around them. Escaped line breaks count as well."""
    if "\\" in text:
        text = re.sub(r"\\+[nr]", "\n", text)
    return "".join(map(str.strip, text.splitlines()))


def replace_split(text: str, form: str, mask: str) -> str:
    """Return ``text`` with ``mask`` in place of ``form``, wherever it is split over several lines."""
    return re.sub(_BREAK.join(map(re.escape, form)), mask, text)
