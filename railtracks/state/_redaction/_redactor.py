"""Secrets and how they are redacted in texts: known secrets wherever they occur, others by their shape."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from functools import cache
from typing import Generic, TypeVar

from railtracks._concurrency._after_fork import after_fork
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._redaction._text_index import MIN_LENGTH, TextIndex

T = TypeVar("T")

MASK = "***"
"""The text that takes the place of a secret."""
MAX_KNOWN = 1_000
"""The number of secrets that a session remembers. The oldest are forgotten first."""
_FEW = 4
"""The number of secrets that are searched for one by one, which is quicker than an index of them."""


class Secret(Generic[T]):
    """A value that is never written: not to state, journal or logs, and not by ``repr``.

    If the value is a text of 6 characters or more, it is also masked inside other texts (results, messages of
    exceptions, log lines), from the moment when the session first sees the secret as an argument, a result or in the
    context.

    Args:
        value: Anything; ``secret.value`` returns it.
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
_SHORTEST_SHAPE = 8
"""The fewest characters that a text must have to be searched for shapes."""

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
    """Compile an expression when it is first needed: few texts need it, and it takes longer than importing a module."""
    return re.compile(expression, re.VERBOSE)


def _may_have_shape(text: str) -> bool:
    """Return whether ``_SHAPES`` may match somewhere in ``text``.

    A search for a single character is many times quicker than one for several, and both are than the expression. So
    each search for several characters begins with one for a character that few texts have.
    """
    return (
        ("-" in text and ("sk-" in text or "xox" in text or "PRIVATE KEY" in text))
        or ("@" in text and "://" in text)
        or ("_" in text and "gh" in text)
        or ("I" in text and ("AKIA" in text or "ASIA" in text))
        or ("J" in text and "eyJ" in text)
    )


def _mask_shape(match: re.Match[str]) -> str:
    text = match[0]
    return text if text.startswith("sk-") and not any(map(str.isdigit, text)) else MASK


def _mask_assigned(text: str) -> str:
    """Mask what is assigned to names that name a secret, as in ``password='...'``."""
    parts: list[str] = []
    done = 0
    for match in _compiled(_ASSIGNED).finditer(text):
        if (
            match.start() >= done
            and is_secret_name(match["key"])
            and (value := _compiled(_VALUE).match(text, match.end()))
        ):
            parts += text[done : value.start()], MASK
            done = value.end()
    return "".join((*parts, text[done:]))


def _quoted(text: str) -> set[str]:
    """Return a text as Python and JSON quote it."""
    import json  # here, as importing it takes long

    return {
        text, repr(text)[1:-1], repr(f"'{text}\"")[3:-2], json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
    }  # fmt: skip


def _forms(text: str) -> set[str]:
    """Return how a secret may be written in other texts. Most secrets are written in one way only."""
    if text.isascii() and text.isprintable() and not any(c in text for c in "'\"\\"):
        return {text}
    forms = {twice for once in _quoted(text) for twice in _quoted(once)}
    data = text.encode("utf-8", "surrogatepass")
    in_bytes = repr(data)[2:-1]
    return forms | {data.decode("latin-1"), in_bytes, repr(b"'\"" + data)[5:-1]} | _quoted(in_bytes)


def _meets_masks(form: str) -> bool:
    """Return whether a secret may occur in a text because a mask was put there."""
    return form.startswith("*") or form.endswith("*") or MASK in form


_adding = threading.RLock()  # one for all, as a Redactor can be pickled; reentrant, as a finalizer may add a secret too


@after_fork
def _reset() -> None:
    global _adding
    _adding = threading.RLock()


class Redactor:
    """The secrets that one session knows, which it replaces in texts.

    Redacting costs what is in the text, however many secrets are known. Both methods that redact can be called from
    any thread, and so can ``add``.

    Attributes:
        revision: A number that grows with each secret that was not known.
    """

    __slots__ = ("_ages", "_at_masks", "_index", "_newest", "revision")

    def __init__(self) -> None:
        self.revision: int = 0
        self._newest = 0
        self._ages: OrderedDict[str, int] = OrderedDict()  # each secret, in order of when it was last added
        self._at_masks: tuple[str, ...] = ()
        self._index: TextIndex | None = None  # None while there are few secrets

    @property
    def known(self) -> list[str]:
        """The secrets that are known, in the order in which they are replaced: the longest first, then the oldest."""
        return sorted(self._ages, key=len, reverse=True)

    def add(self, text: str) -> None:
        """Redact ``text`` from now on, wherever it occurs.

        A text that is shorter than ``MIN_LENGTH`` or blank is ignored: it would be found everywhere.
        """
        if len(text) < MIN_LENGTH or text.isspace():
            return
        for form in _forms(text):
            with _adding:
                self._newest += 1
                if form not in self._ages:
                    self._learn(form)
                self._ages[form] = self._newest
                self._ages.move_to_end(form)  # rather than taken out for a moment, in which another thread misses it

    def _learn(self, form: str) -> None:
        self.revision += 1
        if len(self._ages) >= MAX_KNOWN:
            self._forget(next(iter(self._ages)))
        if _meets_masks(form):
            self._at_masks = (*self._at_masks, form)
        if self._index is not None and len(form) >= self._index.shortest and self._index.removed < MAX_KNOWN:
            self._index.add(form)
        elif len(self._ages) >= _FEW:
            self._index = TextIndex((*self._ages, form))

    def _forget(self, form: str) -> None:
        del self._ages[form]
        if form in self._at_masks:
            self._at_masks = tuple(other for other in self._at_masks if other != form)
        if self._index is not None:
            self._index.remove(form)

    def redact(self, text: str) -> str:
        """Return ``text`` without the secrets that are known, and without what has the shape of a secret.

        A text without any is returned as the same object.
        """
        candidates = self._ages if self._index is None else self._index.find(text)
        if candidates:
            text = self._replace(text, tuple(candidates))
        if len(text) >= _SHORTEST_SHAPE and _may_have_shape(text):
            text = _compiled(_SHAPES).sub(_mask_shape, text)
        return text

    def _replace(self, text: str, candidates: tuple[str, ...]) -> str:
        """Replace the longest secrets first, so that no part of one remains when a shorter one in it is replaced.

        Secrets may overlap, and a mask may complete one that was not in the text before. So they are replaced one after
        another, each in what the one before has left.
        """
        found = [secret for secret in candidates if secret in text]
        if found:
            ages = self._ages
            for secret in sorted({*found, *self._at_masks}, key=lambda secret: (-len(secret), ages.get(secret, 0))):
                text = text.replace(secret, MASK)
        return text

    def redact_free_text(self, text: str) -> str:
        """Redact a repr, a message or a log line, where ``key=value`` and ``'key': 'value'`` may name a secret too."""
        text = self.redact(text)
        return _mask_assigned(text) if "=" in text or ":" in text else text
