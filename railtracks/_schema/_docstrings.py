"""What docstrings say to a model."""

from __future__ import annotations

import inspect
from typing import Any

from railtracks.nodes._callables import innermost


def node_docs(target: Any) -> tuple[str, dict[str, str]]:
    """What the docstring says of what a node runs, and of its parameters, by name."""
    target = innermost(target)
    if isinstance(target, type):
        description, described = class_docs(target)
        return description or "", {**_parsed(target.__init__.__doc__)[1], **described}  # type: ignore[misc]
    if not hasattr(target, "__name__"):  # an object that can be called
        description, described = _parsed(type(target).__call__.__doc__)
        return description or class_docs(type(target))[0] or "", described
    description, described = _parsed(target.__doc__)
    return description or "", described


def class_docs(cls: type) -> tuple[str | None, dict[str, str]]:
    """What the class's own docstring says of it; and of its fields, by name, those of its bases included."""
    described: dict[str, str] = {}
    description = None
    for each in reversed(cls.__mro__):
        description, names = (None, {}) if each.__module__ in ("builtins", "typing", "abc") else _parsed(_own_doc(each))
        described |= names
    return description, described


def _own_doc(cls: type) -> str | None:
    doc = vars(cls).get("__doc__")
    if not isinstance(doc, str) or doc.startswith(f"{cls.__name__}("):  # as dataclasses and named tuples write them
        return None
    return doc


def _parsed(doc: str | None) -> tuple[str | None, dict[str, str]]:
    if not isinstance(doc, str) or not doc.strip():
        return None, {}
    from docstring_parser import ParseError, parse  # here, as it takes its time to import

    try:
        found = parse(doc)
    except ParseError:  # no section of it is a list of parameters
        return inspect.cleandoc(doc), {}
    described = {each.arg_name.lstrip("*\\"): " ".join((each.description or "").split()) for each in found.params}
    return (found.description or "").strip() or None, {name: text for name, text in described.items() if text}
