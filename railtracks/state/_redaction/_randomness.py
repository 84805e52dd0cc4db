"""Which texts are long and random enough to be secrets, and not words that only stand where a secret would."""

from __future__ import annotations

import re

MIN_LEARNT = 8
"""The fewest characters of a text that is taken for a secret because of the name beside it."""
_DIFFERENT = 4
"""The fewest different characters in it."""
_LETTERS = 20
"""The fewest letters of a text that has nothing else but separators."""
_DIGITS = 16
"""The fewest digits of a text that has nothing else but separators: a card number, and no time or date."""
_SIGNS = 8
_LETTER = re.compile(r"[^\W\d_]")
_DIGIT = re.compile(r"\d")
_SIGN = re.compile(r"""[^\w\s.:/,;=<>{}\[\]()'"`*?&-]""")
"""What is neither a letter nor a digit, and no separator."""
_SAMPLE = 200
"""The number of characters that are examined."""


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
    kinds = sum(1 for kind in (_LETTER, _DIGIT, _SIGN) if kind.search(sample))
    if kinds < 2:
        least = ((_LETTER, _LETTERS), (_DIGIT, _DIGITS), (_SIGN, _SIGNS))
        if mixed or not any(len(kind.findall(sample)) >= count for kind, count in least):
            return False
    return len(set(sample)) >= _DIFFERENT
