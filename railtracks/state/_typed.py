"""Bringing values back as what an annotation says they are."""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import cattrs
from cattrs.preconf.json import make_converter

from railtracks.state._codec import decode, encode, registered
from railtracks.state._records import Form

_PARSERS: dict[type, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    fractions.Fraction: fractions.Fraction,
    uuid.UUID: uuid.UUID,
    pathlib.Path: pathlib.Path,
    pathlib.PurePath: pathlib.PurePath,
}


def restore(data: Any, form: Form, annotation: Any) -> Any:
    """The value that ``encode`` wrote as ``data``, as it was.

    Args:
        data: The plain data.
        form: How much of the value is in it.
        annotation: The type that it should have; None if that is not known.

    Raises:
        ValueError: that cannot be done; the text says why, to follow "it".
    """
    if form is Form.PLAIN:
        return decode(data)
    if form is not Form.TYPED:
        raise ValueError(f"is not all on record ({form.value})")
    if annotation is None or annotation is Any or annotation is object:
        raise ValueError("is of a type that the record does not tell, and has no annotation")
    name = getattr(annotation, "__qualname__", None) or str(annotation)
    try:
        value = _converter().structure(_unmarked(data), annotation)
    except Exception as exc:  # an annotation can be anything, and so can the code of what it names
        raise ValueError(f"cannot be brought back as its annotation {name} says ({exc})") from exc
    if encode(value) != data:
        raise ValueError(f"would not be the same as its annotation {name} says")
    return value


@cache
def _converter() -> cattrs.Converter:
    made = make_converter(detailed_validation=False)
    for kind, parse in _PARSERS.items():
        made.register_structure_hook(kind, _parsed(parse))
    made.register_structure_hook(bytes, lambda value, _: value)  # brought back already
    made.register_structure_hook(Any, lambda value, _: value)
    made.register_structure_hook_func(lambda kind: kind in registered(), lambda value, _: value)
    made.register_structure_hook_func(_is_pydantic, lambda value, kind: kind.model_validate(value))
    return made


def _parsed(parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: parse(value)


def _is_pydantic(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_fields")


def _unmarked(data: Any) -> Any:
    """Plain data without marks: mappings with other keys than texts, bytes and registered types are brought back."""
    if isinstance(data, list):
        return [_unmarked(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    if "$items" in data:
        return {_key(key): _unmarked(value) for key, value in data["$items"]}
    if "$type" in data:
        return decode(dict(data))
    return {key: _unmarked(value) for key, value in data.items()}


def _key(data: Any) -> Any:
    return tuple(map(_key, data)) if isinstance(data, list) else _unmarked(data)
