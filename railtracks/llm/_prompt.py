"""Prompt injection: replace ``{name}`` in a prompt with the value that the session's context has under that name.

Not ``str.format``: that would reach into attributes and items of the values (``{key.__class__}``), and fail on the
braces of JSON and on unknown names. Here there are only names, each looked up once, in one pass from left to right; the
values that are filled in are not searched for names.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

_PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}|\{([^{}]+)\}")
_SINGLE = re.compile(r"\{([^{}]+)\}")
_MISSING = object()


class Values(Protocol):
    """Values by name, such as a mapping."""

    def get(self, key: str, default: Any, /) -> Any:
        """Return the value of ``key``, or ``default`` if there is none."""


def fill(text: str, values: Values) -> str:
    """Replace each ``{name}`` in a text with ``str(values[name])``, and each ``{{name}}`` with ``{name}``.

    Names are Python identifiers. Everything else stays as it is: names that are not in ``values``, braces around
    anything but a name, ``{name.attribute}``, ``{name[0]}``, ``{name!r}``, ``{name:>10}``.

    Raises:
        Exception: Whatever the ``__str__`` of a value raises.
    """

    def replacement(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if not (name or literal).isidentifier():
            return match[0]
        if literal is not None:
            return f"{{{literal}}}"
        value = values.get(name, _MISSING)  # looked up once: another thread may change the values
        return match[0] if value is _MISSING else str(value)

    return _PLACEHOLDER.sub(replacement, text) if "{" in text else text


def escape_braces(text: str) -> str:
    """Return a text that prompt injection turns back into ``text``. Use it for what people write or files contain.

    Each ``{name}`` becomes ``{{name}}``; all other braces are safe already. Where injection is switched off, the model
    reads the doubled braces; ``UserMessage(text, inject_prompt=False)`` is right in both cases.
    """
    return _SINGLE.sub(lambda match: f"{{{match[0]}}}" if match[1].isidentifier() else match[0], text)
