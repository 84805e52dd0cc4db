"""Secrets by the names beside them in a text: in reprs, JSON, headers, query strings and connection strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from railtracks.state._redaction._randomness import is_random
from railtracks.state._redaction._secret_names import is_secret_name, secret_names
from railtracks.state._redaction._shapes import Span

_QUERY_NAMES = {"key", "sig", "signature", "x-amz-signature", "x-goog-signature"}
"""Names that name a secret in the query of a URL."""
_LONGEST_NAME = 100
"""The number of characters before its telling word that a name may have."""
_SAMPLE = 200
"""The number of characters of a value that are examined."""
_HEADERS = ("authorization", "cookie")
"""How the names of headers end whose values may have several words."""
_SCHEME = r"[A-Za-z][A-Za-z0-9-]*\ "
"""The first word of such a value, if it is not a secret."""
_LONGEST_SETTINGS = 10_000
"""The number of characters up to which a text may be a list of settings."""

_REST = r"""[\w-]{0,100}+(?P<sign>(?:\\*['"])?\s?[=:])"""
"""The rest of a name after its stem, and what may be a sign after it."""
_REST_OR_BLANK = r"""[\w-]{0,100}+(?P<sign>(?:\\*['"])?\s?[=:]|\s(?=[\w'"]))"""
"""The same for texts with names such as ``--token``, after which a blank is a sign too."""
_SIGN = r"""
    [\w-]*+(?P<close>\\*['"])?
    (?P<sign>\s?=\s?|\s?:\s?(?:(?=[bBuU]?\\*['"])|(?(close)(?=[\[({\w])|(?!))))?
    """
"""The rest of a name, and the sign after it. A colon in prose is none."""
_ANY_SIGN = r"""[\w-]*+(?:\\*['"])?(?P<sign>\s?=\s?|\s?:\s{0,4}|(?<=\w)\s(?=[\w'"]))"""
"""The same with all colons, and a blank, which is a sign after a name such as ``--token``."""
_VALUE = r"""
    [bBuU]?(?:
        '(?:[^'\\\n]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\\n]|\\.)*+(?:"|\\?\Z)      # quoted, or cut off
      | \\+(?P<quote>['"]).*?(?:\\+(?P=quote)|\Z)                        # quoted inside something quoted
      | (?<!\w)\w*+[\[({](?:[^\])}'"\n]|'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+")*+[\])}]?   # a list, or a call
      | [^\s,;&)\]}>'"]
    )[^\s,;&)\]}>'"]*+
    """
_RANDOM_VALUE = r"""
    [bBuU]?(?:
        '(?P<one>(?:[^'\\\n]|\\.)*+)(?:'|\\?\Z)|"(?P<two>(?:[^"\\\n]|\\.)*+)(?:"|\\?\Z)
      | (?P<inner>\\+['"])(?P<three>[^'"\\\n]*+)
      | (?P<bare>[^\s,;&)\]}>'"\\]+)
    )
    """
_REST_OF_LINE = r"""[^\n'"\\]+"""
_CODE = re.compile(r"[(\[{<$]|\A[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z")
"""What is in a value that is not a secret, but an expression or a placeholder."""
_SETTINGS = r"""
    \s*+(?:
        (?:export\s)?[\w.-]++(?:\ [\w.-]++){0,2}=(?:'[^'\n]*+'|"[^"\n]*+"|[^\s;'"]*+(?<!,))(?:[\s;]++|\Z)
    ){2,}+
    """
"""A list of settings: a connection string, or a file of environment variables."""


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    """Compile an expression when it is first needed, as few texts need it."""
    return re.compile(expression, re.VERBOSE)


@cache
def _pattern(stem: str, has_options: bool) -> re.Pattern[str]:
    return re.compile(re.escape(stem) + (_REST_OR_BLANK if has_options else _REST))


def may_have_assignment(text: str) -> bool:
    """Return whether there is a sign in ``text`` that may stand between a name and a value."""
    return "=" in text or ":" in text or "--" in text


def assigned_spans(text: str, strict: bool) -> list[Span]:
    """Return where the values stand in ``text`` that a name beside them shows to be secrets, in their order.

    Args:
        text: The text.
        strict: Whether only what is long and random enough counts, as in a text of which nothing is known. Of reprs and
            messages, JSON and lists of settings, all values count that follow a name as there.
    """
    if not may_have_assignment(text):
        return []
    lowered = text.lower()
    stems = [stem for stem in secret_names.stems if stem in lowered]
    if not stems:
        return []
    if len(lowered) != len(text):
        lowered = "".join(c if len(c.lower()) != 1 else c.lower() for c in text)
    names = sorted(name for stem in stems for name in _secret_names(text, lowered, stem))
    if names and strict:
        strict = not _is_structured(text)
    spans: list[Span] = []
    done = 0
    for begin, at, is_certain in names:
        if begin >= done and (span := _value(text, begin, at, strict or not is_certain)) is not None:
            spans.append(span)
            done = span[1]
    return spans


def _secret_names(text: str, lowered: str, stem: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the names of secrets in ``text`` that contain ``stem`` and have a sign after them.

    Each comes as where it begins, where the stem is in it, and whether it names a secret everywhere.
    """
    pattern = _pattern(stem, "--" in text)
    after = 0
    while (at := lowered.find(stem, after)) >= 0:  # many times quicker than to have the expression search for the stem
        match = pattern.match(lowered, at)
        after = at + 1 if match is None else match.end()
        if match is None:
            continue
        end = match.start("sign")
        begin = _begin_of_name(text, at)
        name = text[begin:end]
        if is_secret_name(name):
            if name.startswith("--") or not match["sign"].isspace():
                yield begin, at, True
        elif text[begin - 1 : begin] in ("?", "&") and name.lower() in _QUERY_NAMES:
            yield begin, at, False


def _begin_of_name(text: str, at: int) -> int:
    """Return where the name begins that has a stem at ``at``."""
    if not text[at - 1 : at].isalnum() and text[at - 1 : at] not in ("_", "-"):
        return at
    before = _compiled(r"[\w-]*+").match(text[max(0, at - _LONGEST_NAME) : at][::-1])
    assert before is not None
    return at - before.end()


def _value(text: str, begin: int, at: int, strict: bool) -> Span | None:
    """Return where the value of a name begins and ends. None if there is none, or if it is not a secret."""
    if not strict:
        sign = _compiled(_SIGN).match(text, at)
        if sign is not None and sign["sign"] and (value := _compiled(_VALUE).match(text, sign.end())):
            return value.span()
    sign = _compiled(_ANY_SIGN).match(text, at)
    if sign is None or (sign["sign"].isspace() and not text.startswith("--", begin)):
        return None
    name = text[begin : sign.start("sign")].lower()
    if ":" in sign["sign"] and name.endswith(_HEADERS):
        line = _compiled(_REST_OF_LINE)
        if (rest := line.match(text, sign.end(), sign.end() + _SAMPLE)) is not None:
            scheme = _compiled(_SCHEME).match(rest[0])
            begin = rest.start() if scheme is None else rest.start() + scheme.end()
            has_secret = any(is_random(word, mixed=True) for word in text[begin : rest.end()].split())
            if has_secret and (scheme is not None or "=" in rest[0]):
                whole = line.match(text, begin)
                return None if whole is None else whole.span()
            if scheme is not None and text.startswith("*", begin):
                return None  # it was masked before
    return _random_value(text, sign.end())


def _random_value(text: str, at: int) -> Span | None:
    """Return where a value begins and ends if it is long and random enough to be a secret."""
    pattern = _compiled(_RANDOM_VALUE)
    value = pattern.match(text, at, at + _SAMPLE)  # the rest does not matter, and may be long
    if value is None:
        return None
    group = value.lastgroup or "bare"
    found = value[group]
    if not is_random(found, mixed=True) or "://" in found or (group == "bare" and _CODE.search(found)):
        return None
    value = pattern.match(text, at)
    return None if value is None else value.span(value.lastgroup or "bare")


def _is_structured(text: str) -> bool:
    """Return whether the whole text is JSON, the repr of a collection, or a list of settings."""
    begin, end = text[:200].lstrip()[:1], text[-200:].rstrip()[-1:]
    if begin + end in ("{}", "[]"):
        return True
    return len(text) <= _LONGEST_SETTINGS and _compiled(_SETTINGS).fullmatch(text) is not None
