"""Secret values: marked by hand, learnt from keys that name them, or known by their shape."""

from __future__ import annotations

import re
from typing import Generic, TypeVar

from railtracks.state._redact import MASK, names_secret

T = TypeVar("T")

MIN_LENGTH = 6
"""Characters that a secret has at the least, to be looked for inside other texts: "test" would be found everywhere."""
MAX_KNOWN = 1_000
"""Secrets that a session remembers; the oldest go first."""


class Secret(Generic[T]):
    """A value that is never written: not to state, journal or logs, and not by ``repr``.

    A text in it is masked inside other texts too (results, messages of exceptions, log lines), from the moment when
    the session first sees the secret as an argument, a result or in the context, if it has 6 characters at least.

    Args:
        value: Anything; ``secret.value`` gives it back.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((Secret, self.value))


_SHAPES = re.compile(
    r"""
      \bsk-(?=[\w-]*\d)[\w-]{16,}                    # OpenAI, Anthropic, Stripe and others
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                  # AWS
    | \bgh[opusr]_[A-Za-z0-9]{20,}                   # GitHub
    | \bgithub_pat_\w{20,}
    | \bxox[abeoprs]-[\w-]{10,}                      # Slack
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*              # JSON web tokens
    | -----BEGIN\ [A-Z ]{0,30}PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]{0,30}PRIVATE\ KEY-----|\Z)
    | (?<=://)[^\s/:@]{0,100}:[^\s/@]{1,200}(?=@)    # user and password in a URL
    """,
    re.VERBOSE,
)
_MARKERS = ("sk-", "AKIA", "ASIA", "gh", "xox", "eyJ", "PRIVATE KEY", "://")
"""No text without one of these matches: looking for them is a hundred times quicker than the expression."""
_SHORTEST = 8

_ASSIGNED = re.compile(
    r"""
    (?P<key>[A-Za-z][\w-]{0,60})['"]?
    (?P<sign>\s?=\s?|\s?:\s?(?=['"]))
    (?P<value>'[^'\n]*'|"[^"\n]*"|[^\s,;&)\]}>'"]+)
    """,
    re.VERBOSE,
)


def _mask_assigned(match: re.Match[str]) -> str:
    if not names_secret(match["key"]):
        return match[0]
    start, end = match.span("value")
    return match[0][: start - match.start()] + MASK + match[0][end - match.start() :]


class Secrets:
    """The secrets that one session has seen, and how they are kept out of texts."""

    __slots__ = ("_by_age", "known")

    def __init__(self) -> None:
        self._by_age: dict[str, None] = {}
        self.known: list[str] = []
        """Longest first, so that no part of one stays when another is cut out of it."""

    def learn(self, text: str) -> None:
        """Mask ``text`` from now on, wherever it occurs."""
        for form in {text, repr(text)[1:-1]}:  # as messages often quote it
            if len(form) >= MIN_LENGTH and form != MASK and form not in self._by_age:
                self._by_age[form] = None
                if len(self._by_age) > MAX_KNOWN:
                    del self._by_age[next(iter(self._by_age))]
                self.known = sorted(self._by_age, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """``text`` without the secrets that are known, and without what has the shape of one."""
        for secret in self.known:
            if secret in text:
                text = text.replace(secret, MASK)
        if len(text) >= _SHORTEST and any(marker in text for marker in _MARKERS):
            text = _SHAPES.sub(MASK, text)
        return text

    def hide_in_prose(self, text: str) -> str:
        """The same for a repr, a message or a log line, where ``key=value`` and ``'key': 'value'`` tell one too."""
        text = self.hide(text)
        return _ASSIGNED.sub(_mask_assigned, text) if "=" in text or ":" in text else text
