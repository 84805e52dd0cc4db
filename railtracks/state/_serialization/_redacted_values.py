"""Redacting what is written of values: cut before it is searched, pairs of a name and a value, and split secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from railtracks.state._redaction._redactor import MASK, Redactor
from railtracks.state._redaction._secret_names import is_secret_key
from railtracks.state._redaction._text_index import MIN_LENGTH
from railtracks.state._serialization._plain_data import MAX_SHOWN, cut_text

_PAIRED = (list, tuple)
_NAMES_OF_NAMES = ("name", "key", "Name", "Key", "header")
_NAMES_OF_VALUES = ("value", "Value")


def redact_and_cut(
    text: str, limit: int, redactor: Redactor, redact: Callable[[str], str], whole: str | None = None
) -> str:
    """Return the first ``limit`` characters of a text without the secrets in it.

    Only as much of the text is searched as can matter, however long it is. A secret that begins in what is returned is
    masked as a whole.

    Args:
        text: The text.
        limit: The number of characters to return at most.
        redactor: The secrets that are known.
        redact: The method of it that redacts the text.
        whole: The length of what the text is the beginning of, in words. None: of the text.
    """
    margin = redactor.margin
    if len(text) <= limit + margin and whole is None:
        redacted = redact(text)
        return redacted if len(redacted) <= limit else cut_text(redacted, limit, f"{len(text)} characters")
    redacted = redact(text[: limit + margin])
    return cut_text(redacted[:-margin], limit, whole or f"{len(text)} characters")


def logged_text(text: str, redactor: Redactor) -> str:
    """Return a log line, or the text of an exception below it, as it is logged: cut, and without secrets."""
    return redact_and_cut(text, MAX_SHOWN, redactor, redactor.redact_free_text)


def are_pairs(items: object) -> bool:
    """Return whether a list or a tuple consists of pairs of a name and a value, as headers often do."""
    if not isinstance(items, _PAIRED) or type(items) not in _PAIRED or not items:
        return False
    for item in items:
        if type(item) not in _PAIRED or len(item) != 2 or not isinstance(item[0], str | bytes):
            return False
    return True


def named_value(mapping: object) -> str | None:
    """Return the key of the value in a dict such as ``{"name": "Authorization", "value": ...}``. None for others."""
    if not isinstance(mapping, dict) or type(mapping) is not dict or not 2 <= len(mapping) <= 4:
        return None
    key = next((key for key in _NAMES_OF_VALUES if key in mapping), None)
    if key is None or not any(is_secret_key(mapping[name]) for name in _NAMES_OF_NAMES if name in mapping):
        return None
    return key


def without_split_secrets(texts: Sequence[Any], redactor: Redactor) -> Sequence[Any]:
    """Return a list of texts with a mask in place of each that has a part of a secret that is split among them."""
    if redactor.revision == 0 or type(texts) not in _PAIRED or len(texts) < 2:
        return texts
    if not all(type(text) is str for text in texts):
        return texts
    margin = redactor.margin
    if any(len(text) > 2 * margin + 1 for text in texts):  # a secret that is split can only reach into its ends
        return _without_long_middles(texts, redactor, margin)
    joined = "".join(texts)
    spans = redactor.known_spans(joined) if len(joined) >= MIN_LENGTH else ()
    if not spans:
        return texts
    shown: list[str] = []
    end = 0
    for text in texts:
        begin, end = end, end + len(text)
        is_part = any(start < end and begin < stop and not (begin <= start and stop <= end) for start, stop in spans)
        shown.append(MASK if is_part and text else text)
    return shown


def _without_long_middles(texts: Sequence[str], redactor: Redactor, margin: int) -> Sequence[str]:
    """Do as ``without_split_secrets`` does, but do not search what lies between the ends of long texts."""
    ends = [t if len(t) <= 2 * margin + 1 else f"{t[:margin]}\0{t[-margin:]}" for t in texts]
    shown = without_split_secrets(ends, redactor)
    if shown is ends:
        return texts
    return [MASK if new is MASK else text for text, new in zip(texts, shown, strict=True)]
