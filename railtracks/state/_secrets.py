"""Secret values: marked by hand, learnt from keys that name them, or known by their shape."""

from __future__ import annotations

import re
from functools import cache
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
        self.value: T = value

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((Secret, self.value))


_SHAPES = r"""
      (?:\b|(?<=\\[a-z]))(?:                        # a word begins here, or after an escaped line break
        sk-[\w-]{16,}+                              # OpenAI, Anthropic and others: if there is a digit in it
      | (?:AKIA|ASIA)[0-9A-Z]{16}\b                 # AWS
      | gh[opusr]_[A-Za-z0-9]{20,}                  # GitHub
      | github_pat_\w{20,}
      | xox[abeoprs]-[\w-]{10,}                     # Slack
      )
    | (?:(?<![\w-])|(?<=\\[a-z]))eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*    # JSON web tokens
    | -----BEGIN\ [A-Z ]{0,30}PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]{0,30}PRIVATE\ KEY-----|\Z)
    | (?<=://)[^\s/:@]{0,100}:[^\s/@]{1,200}(?=@)    # user and password in a URL
    """
_MARKERS = ("sk-", "AKIA", "ASIA", "gh", "xox", "eyJ", "PRIVATE KEY", "://")
"""No text without one of these matches: looking for them is a hundred times quicker than the expression."""
_SHORTEST = 8

_ASSIGNED = r"""
    (?<![\w-])(?P<key>[\w-]++)(?P<close>\\*['"])?
    (?P<sign>\s?=\s?|\s?:\s?(?:(?=[bBuU]?\\*['"])|(?(close)(?=[\[({\w])|(?!))))
    """
_VALUE = r"""
    [bBuU]?(?:
        '(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+"      # quoted
      | \\+(?P<quote>['"]).*?\\+(?P=quote)               # quoted inside something quoted
      | (?<!\w)\w*+[\[({](?:[^\])}'"\n]|'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+")*+[\])}]?   # a list, or a call
      | [^\s,;&)\]}>'"]+
    )
    """


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    """Compiled when it is first needed: few texts need it, and it takes longer than importing a module."""
    return re.compile(expression, re.VERBOSE)


def _mask_assigned(text: str) -> str:
    parts: list[str] = []
    done = 0
    for match in _compiled(_ASSIGNED).finditer(text):
        if (
            match.start() >= done
            and names_secret(match["key"])
            and (value := _compiled(_VALUE).match(text, match.end()))
        ):
            parts += text[done : value.start()], MASK
            done = value.end()
    return "".join((*parts, text[done:]))


def _mask_shape(match: re.Match[str]) -> str:
    text = match[0]
    return text if text.startswith("sk-") and not any(map(str.isdigit, text)) else MASK


def _quoted(text: str) -> set[str]:
    """A text as Python and JSON quote it."""
    import json  # as it takes its time to import

    return {
        text, repr(text)[1:-1], repr(f"'{text}\"")[3:-2], json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    }  # fmt: skip


def _forms(text: str) -> set[str]:
    """A secret as it may stand in other texts. Of most there is one only."""
    if text.isascii() and text.isprintable() and not any(c in text for c in "'\"\\"):
        return {text}
    forms = {twice for once in _quoted(text) for twice in _quoted(once)}
    data = text.encode("utf-8", "surrogatepass")
    in_bytes = repr(data)[2:-1]
    return forms | {data.decode("latin-1"), in_bytes, repr(b"'\"" + data)[5:-1]} | _quoted(in_bytes)


class Secrets:
    """The secrets that one session has seen, and how they are kept out of texts."""

    __slots__ = ("_by_age", "known", "learnt")

    def __init__(self) -> None:
        self._by_age: dict[str, None] = {}
        self.learnt: int = 0
        """Grows with each text that was not known."""
        self.known: list[str] = []
        """Longest first, so that no part of one stays when another is cut out of it."""

    def learn(self, text: str) -> None:
        """Mask ``text`` from now on, wherever it occurs."""
        if len(text) < MIN_LENGTH or text.isspace():
            return
        for form in _forms(text):
            if form in self._by_age:
                self._by_age[form] = self._by_age.pop(form)
                continue
            self._by_age[form] = None
            self.learnt += 1
            if len(self._by_age) > MAX_KNOWN:
                del self._by_age[next(iter(self._by_age))]
            self.known = sorted(self._by_age, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """``text`` without the secrets that are known, and without what has the shape of one."""
        for secret in self.known:
            if secret in text:
                text = text.replace(secret, MASK)
        if len(text) >= _SHORTEST and any(marker in text for marker in _MARKERS):
            text = _compiled(_SHAPES).sub(_mask_shape, text)
        return text

    def hide_in_prose(self, text: str) -> str:
        """The same for a repr, a message or a log line, where ``key=value`` and ``'key': 'value'`` tell one too."""
        text = self.hide(text)
        return _mask_assigned(text) if "=" in text or ":" in text else text
