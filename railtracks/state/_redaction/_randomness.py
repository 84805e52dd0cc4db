"""Which texts are long and random enough to be secrets, and not words that only stand where a secret would."""

from __future__ import annotations

MIN_LEARNT = 8
"""The fewest characters of a text that is taken for a secret because of the name beside it."""
_DIFFERENT = 4
"""The fewest different characters in it."""
_LETTERS = 20
"""The fewest letters of a text that has nothing else but separators."""
_DIGITS = 16
"""The fewest digits of a text that has nothing else but separators: a card number, and no time or date."""
_SIGNS = 8
_SEPARATORS = frozenset(" \t\r\n-_.:/,;=<>{}[]()'\"`*")
_SAMPLE = 200
"""The number of characters that are looked at."""


def is_random(text: str, mixed: bool = False) -> bool:
    """Return whether a text is long and random enough to be a secret.

    It has 8 characters or more, 4 different ones, and two kinds of letters, digits and signs; a text of letters alone
    needs 20 of them, one of digits alone 16. Separators are of no kind. So ``production``, ``localhost``, ``not-set``
    and ``2024-01-01`` are not random enough.

    Args:
        text: The text.
        mixed: Whether two kinds are needed however long the text is.
    """
    if len(text) < MIN_LEARNT:
        return False
    sample = text[:_SAMPLE]
    if len(set(sample)) < _DIFFERENT:
        return False
    letters, digits = sum(map(str.isalpha, sample)), sum(map(str.isdigit, sample))
    signs = len(sample) - letters - digits - sum(map(_SEPARATORS.__contains__, sample))
    if (letters > 0) + (digits > 0) + (signs > 0) >= 2:
        return True
    return not mixed and (letters >= _LETTERS or digits >= _DIGITS or signs >= _SIGNS)
