"""The search for secrets in large values, in steps that let other threads run in between."""

from __future__ import annotations

from collections.abc import Callable

from railtracks.state._redaction._redactor import Redactor

STEP = 131_072
"""The number of characters that are searched at once: some milliseconds, in which no other thread can run."""


def has_secret(value: str | bytes, redactor: Redactor) -> bool:
    """Return whether there is a secret in a value: one that is known, or what can be recognised as one. Blocks.

    Args:
        value: The value.
        redactor: The secrets that are known.
    """
    margin = 2 * redactor.margin  # a secret that is split over lines has more characters
    begins, ends = ("{", "}") if _is_structured(value) else ("", "")

    def is_found(start: int, end: int) -> bool:
        part = value[max(0, start) : end]
        return any(redactor.redact(text) != text for text in (f"{begins}{each}{ends}" for each in texts_of(part)))

    return any(
        is_found(start, start + STEP + margin)
        # What is cut off at its beginning may look like a secret, so it is searched with more of what is before.
        and is_found(start - margin, start + STEP + 2 * margin)
        for start in range(0, len(value), STEP)
    )


def texts_of(content: str | bytes) -> list[str]:
    """Return the texts in which known secrets are searched: of bytes, what they are, and how they are shown."""
    if isinstance(content, str):
        return [content]
    text = content.decode("latin-1")
    # A short secret of bytes is only known as it is shown, where it is longer.
    return [text] if content.isascii() else [text, repr(content)[2:-1]]


def _is_structured(value: str | bytes) -> bool:
    """Return whether a whole text is JSON or the repr of a collection, in which a name makes any value a secret."""
    strip: Callable[..., str | bytes] = type(value).strip
    first, last = strip(value[:200])[:1], strip(value[-200:])[-1:]
    return first + last in ("{}", "[]", b"{}", b"[]")  # type: ignore[operator]
