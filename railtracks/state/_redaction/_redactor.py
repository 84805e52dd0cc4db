"""Secrets and how they are redacted in texts: known secrets wherever they occur, others by their shape or name."""

from __future__ import annotations

import threading
from binascii import a2b_base64
from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

from railtracks._concurrency._after_fork import after_fork
from railtracks.state._redaction._assignments import assigned_spans, may_have_assignment
from railtracks.state._redaction._forms import forms_of, joined_lines, replace_split
from railtracks.state._redaction._randomness import is_random
from railtracks.state._redaction._shapes import Span, replace_spans, shape_spans
from railtracks.state._redaction._text_index import MIN_LENGTH, TextIndex

T = TypeVar("T")

MASK = "***"
"""The text that takes the place of a secret."""
MAX_KNOWN = 1_000
"""The number of secrets that a session remembers. The oldest are forgotten first."""
_FEW = 8
"""The number of forms that are searched for one by one, which is quicker than an index of them."""
_MARGIN = 8_192
"""The number of characters after what is shown that are searched as well: a secret may begin in what is shown."""
_NAMES = 4_096
"""The number of names whose redacted text is remembered."""
_LONG = 10_000
"""The number of characters from which on a text is long, so that it pays to remember what became of it."""
_LONGEST_CONTAINER = 10_000
"""The number of characters up to which a secret is searched for others, as a connection string for its password."""


class Secret(Generic[T]):
    """A value that is never written: not to state, journal or logs, and not by ``repr``.

    If the value is a text of 6 characters or more, it is also masked inside other texts (results, messages of
    exceptions, names, log lines), also quoted, in base64 or split over lines, from the moment when the session first
    sees the secret as an argument, a result or in the context.

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


def _meets_masks(form: str) -> bool:
    """Return whether a secret may occur in a text because a mask was put there."""
    return form.startswith("*") or form.endswith("*") or MASK in form


def _secrets_within(text: str) -> Iterator[str]:
    """Yield the secrets that a secret consists of, such as the password in a connection string or a header."""
    if len(text) > _LONGEST_CONTAINER:
        return
    for start, end in (*shape_spans(text), *assigned_spans(text, strict=True)):
        part = text[start:end].strip("'\"")
        if part == text:
            continue
        yield part
        try:
            login = a2b_base64(part).decode() if part.isascii() else ""  # as after "Basic"
        except ValueError:
            login = ""
        yield (login or part).partition(":")[2]


_adding = threading.RLock()  # one for all, as a Redactor can be pickled; reentrant, as a finalizer may add a secret too


@after_fork
def _reset() -> None:
    global _adding
    _adding = threading.RLock()


class Redactor:
    """The secrets that one session knows, which it replaces in texts.

    Redacting costs what is in the text, however many secrets are known. The methods that redact can be called from any
    thread, and so can ``add`` and ``learn``.

    Attributes:
        revision: A number that grows with each secret that was not known.
    """

    __slots__ = ("_at_masks", "_forms", "_index", "_last_long", "_longest", "_names", "_secrets", "revision")

    def __init__(self) -> None:
        self.revision: int = 0
        self._secrets: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # with their forms, the latest added last
        self._forms: dict[str, int] = {}  # all of them, with the number of secrets that each belongs to
        self._longest = 0  # characters of the longest form so far
        self._at_masks: tuple[str, ...] = ()
        self._index: TextIndex | None = None  # None while there are few forms
        self._names: tuple[int, dict[str, str]] = (0, {})  # the revision, and names as they are written
        self._last_long: tuple[int, str, str] = (0, "", "")  # the revision, a text, and how it is written

    @property
    def known(self) -> list[str]:
        """The secrets that are known, the longest first, then the oldest."""
        return sorted(self._secrets, key=len, reverse=True)

    def add(self, text: str) -> None:
        """Redact ``text`` from now on, wherever it occurs, in all forms that ``forms_of`` returns.

        A text that is shorter than ``MIN_LENGTH`` or blank is ignored: it would be found everywhere.
        """
        if len(text) < MIN_LENGTH or text.isspace():
            return
        forms = self._secrets.get(text) or forms_of(text)
        with _adding:
            if text not in self._secrets:
                if len(self._secrets) >= MAX_KNOWN:
                    self._forget(next(iter(self._secrets)))
                self._secrets[text] = forms
                for form in forms:
                    self._add_form(form)
                self.revision += 1
            self._secrets.move_to_end(text)  # rather than taken out for a moment, in which another thread misses it

    def learn(self, text: str) -> None:
        """Add ``text``, which stands where secrets do, and the secrets in it, if they are long and random enough."""
        if text in self._secrets:
            self.add(text)
            return
        if is_random(text):
            self.add(text)
        for part in _secrets_within(text):
            if is_random(part):
                self.add(part)

    def _add_form(self, form: str) -> None:
        owners = self._forms.get(form, 0)
        self._forms[form] = owners + 1
        if owners:
            return
        self._longest = max(self._longest, len(form))
        if _meets_masks(form):
            self._at_masks = (*self._at_masks, form)
        if self._index is not None and len(form) >= self._index.shortest and self._index.removed < MAX_KNOWN:
            self._index.add(form)
        elif len(self._forms) > _FEW:
            self._index = TextIndex(tuple(self._forms))

    def _forget(self, secret: str) -> None:
        for form in self._secrets.pop(secret):
            self._forms[form] -= 1
            if self._forms[form]:
                continue
            del self._forms[form]
            if form in self._at_masks:
                self._at_masks = tuple(other for other in self._at_masks if other != form)
            if self._index is not None:
                self._index.remove(form)

    def redact(self, text: str, by_name: bool = True) -> str:
        """Return ``text`` without the secrets that are known, and without what can be recognised as a secret.

        A text without any is returned as the same object.

        Args:
            text: The text.
            by_name: Whether a name beside it, as in ``?api_key=``, makes a value a secret, if it is random enough.
        """
        if len(text) < MIN_LENGTH:
            return text
        if self._forms:
            text = self._without_known(text)
        if spans := shape_spans(text):
            text = replace_spans(text, spans, MASK)
        if by_name and may_have_assignment(text) and (spans := assigned_spans(text, strict=True)):
            text = replace_spans(text, spans, MASK)
        return text

    def redact_free_text(self, text: str) -> str:
        """Redact a repr, a message or a log line, where ``key=value`` and ``'key': 'value'`` may name any secret.

        The result for a long text is remembered until the next one: the message of an exception that goes through many
        calls is written for each of them.
        """
        if len(text) < _LONG:
            return self._redact_free(text)
        revision, known, redacted = self._last_long
        if revision != self.revision or known != text:
            revision, redacted = self.revision, self._redact_free(text)
            self._last_long = (revision, text, redacted)
        return redacted

    def _redact_free(self, text: str) -> str:
        text = self.redact(text, by_name=False)
        return replace_spans(text, assigned_spans(text, strict=False), MASK)

    def redact_name(self, name: str) -> str:
        """Redact a name of which there are few, such as that of a node or a class. The result is remembered."""
        revision, names = self._names
        if revision != self.revision or len(names) >= _NAMES:
            names = {}
            self._names = (self.revision, names)
        redacted = names.get(name)
        if redacted is None:
            redacted = names[name] = self.redact(name)
        return redacted

    @property
    def margin(self) -> int:
        """The number of characters to search beyond those of a long text that are shown.

        A secret that begins in what is shown has ended by then, and what remains of one that begins later and is cut
        off has fewer characters than that.
        """
        return max(_MARGIN, self._longest)

    def known_spans(self, text: str) -> list[Span]:
        """Return where the secrets that are known are in ``text``, in any order."""
        candidates = self._forms if self._index is None else self._index.find(text)
        spans: list[Span] = []
        for form in tuple(candidates):
            at = text.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = text.find(form, at + len(form))
        return spans

    def _without_known(self, text: str) -> str:
        candidates = self._forms if self._index is None else self._index.find(text)
        if candidates:
            text = self._replace(text, tuple(candidates))
        return self._without_split(text) if "\n" in text or "\\n" in text else text

    def _replace(self, text: str, candidates: tuple[str, ...]) -> str:
        """Replace the longest secrets first, so that no part of one remains when a shorter one in it is replaced.

        Secrets may overlap, and a mask may complete one that was not in the text before. So they are replaced one after
        another, each in what the one before has left.
        """
        found = [secret for secret in candidates if secret in text]
        if found:
            for secret in sorted({*found, *self._at_masks}, key=lambda secret: (-len(secret), secret)):
                text = text.replace(secret, MASK)
        return text

    def _without_split(self, text: str) -> str:
        """Replace secrets that are split over several lines."""
        joined = joined_lines(text)
        candidates = self._forms if self._index is None else self._index.find(joined)
        found = [form for form in tuple(candidates) if form in joined]
        for form in sorted(found, key=lambda form: (-len(form), form)):
            text = replace_split(text, form, MASK)
        return text
