"""Secrets by their shape: what they are can be seen in any text, whatever stands beside them.

Each shape has an anchor, a text that is in every secret of that shape. Anchors are searched for, which is a hundred
times quicker than to try an expression at each character, and the expression is tried where one was found.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from functools import cache

import attrs

from railtracks.state._redaction._randomness import is_random

Span = tuple[int, int]
"""Where something begins and ends in a text."""

SHORTEST_SHAPE = 8
"""The fewest characters that a text must have to be searched for shapes."""
_WORD = r"(?:\b|(?<=\\[a-z]))"
"""Where a word begins: also after an escaped line break."""


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _is_mixed(text: str) -> bool:
    return is_random(text, mixed=True)


def _is_user_info(text: str) -> bool:
    """Return whether what stands before the host in a URL is a name and a password, or a token in place of a name."""
    return ":" in text or is_random(text, mixed=True)


def _is_login(text: str) -> bool:
    """Return whether a text is the base64 of a name and a password."""
    try:
        return b":" in a2b_base64(text + "=" * (-len(text) % 4))
    except ValueError:
        return False


@attrs.frozen
class _Shape:
    """One shape of secrets.

    Attributes:
        anchors: Texts one of which each secret of the shape has, or has before it.
        expression: What is tried at an anchor. The secret is its group of that name, or else the whole match.
        check: Whether a text that has the shape is a secret.
    """

    anchors: tuple[str, ...]
    expression: str
    check: Callable[[str], bool] | None = None

    def spans(self, text: str) -> Iterator[Span]:
        """Yield where the secrets are in a text."""
        pattern = _compiled(self.expression)
        group = "secret" if "secret" in pattern.groupindex else 0
        for anchor in self.anchors:
            at = text.find(anchor)
            while at >= 0:
                match = pattern.match(text, at)
                if match is not None and (self.check is None or self.check(match[group])):
                    yield match.span(group)
                at = text.find(anchor, at + 1 if match is None else match.end())


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    """Compile an expression when it is first needed: few texts need it, and it takes longer than importing a module."""
    return re.compile(expression, re.VERBOSE)


_SHAPES: dict[str, tuple[_Shape, ...]] = {
    "-": (
        _Shape(("sk-",), _WORD + r"sk-[\w-]{16,}+", _has_digit),  # OpenAI, Anthropic and others
        _Shape(("xox",), _WORD + r"xox[abeoprs]-[\w-]{10,}"),  # Slack
        _Shape(("glpat-",), _WORD + r"glpat-[\w-]{20,}"),  # GitLab
        _Shape(
            ("-----BEGIN ",),
            r"-----BEGIN\ [A-Z ]{0,30}PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]{0,30}PRIVATE\ KEY-----|\Z)",
        ),
    ),
    "_": (
        _Shape(tuple(f"gh{kind}_" for kind in "opusr"), _WORD + r"gh._[A-Za-z0-9]{20,}"),  # GitHub
        _Shape(("github_pat_",), _WORD + r"github_pat_\w{20,}"),
        _Shape(("sk_live_", "sk_test_", "rk_live_"), _WORD + r"[sr]k_\w{4}_\w{16,}"),  # Stripe
    ),
    "I": (
        _Shape(("AKIA", "ASIA"), _WORD + r"A[KS]IA[0-9A-Z]{16}\b"),  # AWS
        _Shape(("AIza",), _WORD + r"AIza[\w-]{35}"),  # Google
    ),
    "J": (_Shape(("eyJ",), r"(?:(?<![\w-])|(?<=\\[a-z]))eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*"),),  # JSON web tokens
    "://": (
        _Shape(("://",), r"://(?P<secret>[^\s/:@]{0,100}(?::[^\s/@]{1,200})?)@", _is_user_info),
        _Shape(
            ("://hooks.", "://discord", "://api.telegram.", "://outlook.office", ".webhook.office."),  # with "hook"
            r"""
            (?: ://hooks\.slack\.com/(?:services|workflows|triggers)/
              | ://hooks\.zapier\.com/hooks/catch/
              | ://discord(?:app)?\.com/api/(?:v\d{1,3}/)?webhooks/
              | ://api\.telegram\.org/bot
              | (?:://outlook\.office(?:365)?|\.webhook\.office)\.com/webhook(?:b2)?/
            )(?P<secret>[^\s'"<>\\?#)\]}]{8,})
            """,
        ),
    ),
    "earer ": (_Shape(("earer ",), r"(?<![A-Za-z][Bb])(?<=[Bb])earer\ {1,4}(?P<secret>[\w.~+/-]{8,}+=*)", _is_mixed),),
    "BEARER ": (_Shape(("BEARER ",), r"(?<![A-Za-z])BEARER\ {1,4}(?P<secret>[\w.~+/-]{8,}+=*)", _is_mixed),),
    "asic ": (_Shape(("asic ",), r"(?<![A-Za-z][Bb])(?<=[Bb])asic\ {1,4}(?P<secret>[\w+/-]{6,}+={0,2})", _is_login),),
    "curl ": (_Shape((" -u", " --user"), r"""\ -(?:u|-user)[\ =]?\s?['"]?(?P<secret>[^\s:'"]{1,100}:[^\s'"]+)"""),),
}
"""The shapes, by a text that is in all texts with a secret of these shapes."""


def shape_spans(text: str) -> list[Span]:
    """Return where the secrets are in ``text`` that can be recognised by their shape, in any order."""
    if len(text) < SHORTEST_SHAPE or not may_have_shape(text):
        return []
    return [span for gate, shapes in _SHAPES.items() if gate in text for shape in shapes for span in shape.spans(text)]


def may_have_shape(text: str) -> bool:
    """Return whether an anchor of a shape may be in ``text``.

    A search for a single character is many times quicker than one for several, and both are than an expression. So
    each search for several characters begins with one for a character that few texts have, where there is one.
    """
    return (
        ("-" in text and ("sk-" in text or "xox" in text or "glpat-" in text or "---BEGIN" in text or " -" in text))
        or ("_" in text and ("gh" in text or "_pat_" in text or "k_" in text))
        or ("I" in text and ("AKIA" in text or "ASIA" in text or "AIza" in text))
        or ("J" in text and "eyJ" in text)
        or (":" in text and "://" in text and ("@" in text or "hook" in text or "telegram" in text))
        or "earer " in text
        or "asic " in text
        or ("R" in text and "BEARER " in text)
    )


def replace_spans(text: str, spans: list[Span], mask: str) -> str:
    """Return ``text`` with ``mask`` in place of each of the spans; of those that overlap, in place of all together."""
    if not spans:
        return text
    parts: list[str] = []
    begin, end = -1, 0
    for start, stop in sorted(spans):
        if begin >= 0 and start < end:
            end = max(end, stop)
            continue
        if begin >= 0:
            parts.append(mask)
        parts.append(text[end:start])
        begin, end = start, stop
    return "".join((*parts, mask, text[end:]))
