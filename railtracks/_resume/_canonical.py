"""Arguments in one canonical form: equal for calls that differ only in how they pass the same arguments.

It does not matter whether an argument is passed by position or by keyword, in which order keywords and the keys of
dicts come, and whether a default is passed or left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from railtracks.nodes import FunctionNode
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._places import Place, read_places
from railtracks.state._serialization._record_text import dumps, form_in, is_lossy, parse_members, result_text

_ORDERED = "collections.OrderedDict"


class CanonicalForms:
    """Makes the canonical form of arguments of one node.

    Args:
        node: The node.
    """

    def __init__(self, node: FunctionNode[..., Any]) -> None:
        self._node = node

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self._node.target)
        except (TypeError, ValueError):  # some builtins have none
            return None

    def of(self, inputs: str) -> str | None:
        """Return the canonical form of the arguments in the text of a record; None if it has none."""
        members = parse_members(inputs)
        args, kwargs, types = members["input_args"], members["input_kwargs"], members.get("input_types", {})
        if self._signature is None or not isinstance(types, Mapping) or "$items" in kwargs:
            return None
        places = read_places(types)
        by_position, by_name = places.member("input_args"), places.member("input_kwargs")
        texts = [_canonical(arg, by_position and by_position.member(at)) for at, arg in enumerate(args)]
        named = {name: _canonical(arg, by_name and by_name.member(name)) for name, arg in kwargs.items()}
        try:
            bound = self._signature.bind(*texts, **named)
        except TypeError:  # recorded with other parameters
            return None
        bound.apply_defaults()
        return dumps(sorted((name, self._shown(name, value)) for name, value in bound.arguments.items()))

    def _shown(self, name: str, value: Any) -> Any:
        """Return the canonical form of what is bound to a parameter: texts that were given, or its default."""
        assert self._signature is not None
        match self._signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                return list(value)
            case inspect.Parameter.VAR_KEYWORD:
                return dict(sorted(value.items()))
        if type(value) is _Canonical:
            return str(value)
        return _default(value) or f"the default of {name}"


class _Canonical(str):
    """The canonical form of a value; of a class of its own, as the default of a parameter may be any text."""

    __slots__ = ()


def _default(value: object) -> str | None:
    """Return the canonical form of a default; None if it cannot be compared."""
    text = result_text(value, Redactor())
    if is_lossy(form_in(text)):
        return None
    members = parse_members(text)
    return _canonical(members["output"], read_places(members.get("output_types", {})))


def _canonical(data: Any, place: Place | None) -> _Canonical:
    return _Canonical(_text(data, place))


def _text(data: Any, place: Place | None) -> str:
    """Return plain data and the types in it as one text."""
    if place is None and not isinstance(data, dict | list):
        return dumps(data)
    entry = None if place is None else place.entry
    shown = _entry_text(entry)
    if isinstance(data, list):
        return f"{shown}[{', '.join(_text(item, place and place.member(at)) for at, item in enumerate(data))}]"
    if not isinstance(data, dict):
        return shown + dumps(data)
    if "$items" in data:
        at = place and place.member("$items")
        members = [_text(pair, at and at.member(number)) for number, pair in enumerate(data["$items"])]
    else:
        members = [
            f"{_text(key, place and place.key(key))}: {_text(item, place and place.member(key))}"
            for key, item in data.items()
        ]
    if not _is_ordered(entry):
        members.sort()
    return f"{shown}{{{', '.join(members)}}}"


def _entry_text(entry: Any) -> str:
    if entry is None or isinstance(entry, str):
        return f"<{entry}>" if entry else ""
    return f"<{entry['type']}: {_text(entry['state'], read_places(entry.get('types', {})))}>"


def _is_ordered(entry: Any) -> bool:
    return entry == _ORDERED or (isinstance(entry, dict) and (entry["type"] == _ORDERED or "ordered" in entry["state"]))
