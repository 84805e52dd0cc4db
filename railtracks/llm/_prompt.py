"""Prompt injection: ``{name}`` in a prompt becomes what the session's context has under that name.

Not ``str.format``: that would reach into attributes and items of what it fills in (``{key.__class__}``), choke on the
braces of JSON, and fail on a name that nobody knows. Here there are names only, looked up once each, in one pass from
left to right; what was filled in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PLACE = re.compile(r"\{\{([^{}]+)\}\}|\{([^{}]+)\}")
_SINGLE = re.compile(r"\{([^{}]+)\}")
_MISSING = object()


def fill(text: str, values: Mapping[str, Any]) -> str:
    """``text`` with each ``{name}`` replaced by ``str(values[name])``, and each ``{{name}}`` by ``{name}``.

    Names are Python identifiers. Everything else stays as it is: names that are not in ``values``, braces around
    anything but a name, ``{name.attribute}``, ``{name[0]}``, ``{name!r}``, ``{name:>10}``.

    Raises: what the ``__str__`` of a value raises.
    """

    def filled(place: re.Match[str]) -> str:
        literal, name = place.groups()
        if not (name or literal).isidentifier():
            return place[0]
        if literal is not None:
            return f"{{{literal}}}"
        value = values.get(name, _MISSING)  # one look-up: another thread may change them
        return place[0] if value is _MISSING else str(value)

    return _PLACE.sub(filled, text) if "{" in text else text


def escape_braces(text: str) -> str:
    """``text`` such that prompt injection gives it back as it is: for what comes from people or files.

    Each ``{name}`` becomes ``{{name}}``; all other braces are safe already. Where injection is switched off the
    model gets the doubled braces: ``UserMessage(text, inject_prompt=False)`` is right in both cases.
    """
    return _SINGLE.sub(lambda place: f"{{{place[0]}}}" if place[1].isidentifier() else place[0], text)
