"""Bringing values back as what an annotation says they are."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import fractions
import functools
import inspect
import pathlib
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from types import GenericAlias, NoneType, SimpleNamespace, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import cattrs
from cattrs.preconf.json import make_converter

from railtracks.state._records import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import decode, encode, registered
from railtracks.state._serialization._record_text import dumps, form_in, is_lost, members, result_text

PARSERS: dict[type, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    fractions.Fraction: fractions.Fraction,
    uuid.UUID: uuid.UUID,
    pathlib.Path: pathlib.Path,
    pathlib.PurePath: pathlib.PurePath,
}
"""Types whose values are written as texts, and what reads those."""


UNKNOWN = inspect.Parameter.empty
"""In place of an annotation that is not there, or cannot be understood."""


def structured(data: Any, annotation: Any) -> Any:
    """Plain data as what the annotation says. Whether that is what it was is for the caller to see.

    Raises:
        ValueError: it cannot be that; the text says why, to follow "it".
    """
    if annotation is UNKNOWN or annotation is Any or annotation is object:
        return decode(data)
    try:
        return _converter().structure(_unmarked(data), annotation)
    except Exception as exc:  # an annotation can be anything, and so can the code of what it names
        raise ValueError(f"cannot be brought back as its annotation {_shown(annotation)} says ({exc})") from exc


def restored_result(output: str, annotation: Any) -> Any:
    """The result that a record tells by its text, as it was.

    Args:
        output: The record's text.
        annotation: What the node says that it returns; ``UNKNOWN`` if it says nothing.

    Raises:
        ValueError: that cannot be done; the text says why, to follow "its result".
    """
    form = form_in(output)
    if is_lost(form):
        raise ValueError(f"is not all on record ({form.value})")
    data = members(output)["output"]
    value = decode(data) if form is Form.PLAIN else structured(data, annotation)
    if result_text(value, Redactor()) == output:
        return value
    if form is Form.PLAIN:
        raise ValueError("is of a type that this process was not taught; see rt.state.register_hooks")
    if annotation in (UNKNOWN, Any, object):
        types = members(output).get("output_types")
        raise ValueError(
            f"is of a type that only an annotation can bring back ({types}); annotate what the node returns"
        )
    raise ValueError(f"was not what its annotation says, {_shown(annotation)}")


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


@cache
def _converter() -> cattrs.Converter:
    made = make_converter(detailed_validation=False)
    for kind, parse in PARSERS.items():
        made.register_structure_hook(kind, _parsed(parse))
    made.register_structure_hook(bytes, lambda value, _: value)  # brought back already
    made.register_structure_hook(Any, lambda value, _: value)
    made.register_structure_hook_func(_is_any_list, _any_list)
    made.register_structure_hook_func(is_list_class, _list_of_class)
    made.register_structure_hook_func(lambda kind: kind in registered(), lambda value, _: value)
    made.register_structure_hook_func(is_pydantic, lambda value, kind: kind.model_validate(value))
    made.register_structure_hook_func(is_named_tuple, _named_tuple)
    made.register_structure_hook_func(is_union, _first_that_fits)
    return made


def is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_union(kind: Any) -> bool:
    origin: Any = get_origin(kind)
    return origin is Union or origin is UnionType


def is_pydantic(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "model_validate") and hasattr(kind, "model_fields")


def is_list_class(kind: Any) -> bool:
    """A subclass of list, such as ``class Names(list[str])``; with its arguments, if it is generic."""
    origin = get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, list) and origin is not list


def element_of(kind: Any) -> Any:
    """What the elements of a list, or of a subclass of list, are."""
    origin, args = get_origin(kind) or kind, get_args(kind)
    if origin is list:
        return args[0] if args else Any
    given = dict(zip(getattr(origin, "__parameters__", ()), args, strict=False))
    for base in getattr(origin, "__orig_bases__", origin.__bases__):
        owner = get_origin(base) or base
        if isinstance(owner, type) and issubclass(owner, list):
            return substituted(element_of(base), given)
    return Any


def substituted(hint: Any, given: Mapping[Any, Any]) -> Any:
    """An annotation with what is given in place of its type variables: for others, what bounds them."""
    if isinstance(hint, TypeVar):
        return given[hint] if hint in given else _bound_of(hint)
    open_ones = () if isinstance(hint, type) else getattr(hint, "__parameters__", ())
    return hint[tuple(substituted(each, given) for each in open_ones)] if open_ones else hint


def _bound_of(variable: TypeVar) -> Any:
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - of a tuple
    return Any if variable.__bound__ is None else variable.__bound__


def _named_tuple(data: Any, kind: Any) -> Any:
    hints = resolved_hints(kind)  # cattrs does not understand those that are texts
    convert = _converter().structure
    return kind(*(convert(value, hints.get(name, Any)) for name, value in zip(kind._fields, data, strict=True)))


def _is_any_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) in (Sequence, Iterable, Collection)


def _any_list(data: Any, kind: Any) -> Any:
    """What is annotated so was a list, if its type is not on record beside it."""
    (element,) = get_args(kind) or (Any,)
    made: Any = GenericAlias(list, (element,))
    return _converter().structure(data, made)


def _list_of_class(data: Any, kind: Any) -> Any:
    make, element = get_origin(kind) or kind, element_of(kind)
    return make([_converter().structure(item, element) for item in data])


def _first_that_fits(data: Any, union: Any) -> Any:
    """Of a union, the first member that the data could have been written from. cattrs knows simple ones only."""
    if data is None and NoneType in get_args(union):
        return None
    for kind in get_args(union):
        with contextlib.suppress(Exception):  # one that does not fit; what does not fit any is told below
            value = _converter().structure(data, kind)
            if dumps(encode(value)) == dumps(encode(data)):
                return value
    raise ValueError(f"no member of {union} fits")


def resolved_hints(target: Any, extras: bool = False) -> dict[str, Any]:
    """The annotations that can be understood, each by itself: one that cannot be does not spoil the others.

    ``extras``: with what ``Annotated``, ``Required`` and their like say.
    """
    try:
        return get_type_hints(target, include_extras=extras)
    except Exception:  # names that exist for type checkers only, and objects that cannot have annotations
        found = {}
        for name, hint in getattr(target, "__annotations__", {}).items():
            with contextlib.suppress(Exception):
                one = SimpleNamespace(__annotations__={name: hint})
                found.update(get_type_hints(one, vars(sys.modules[target.__module__]), include_extras=extras))
        return found


def hints_of(target: Any, extras: bool = False) -> dict[str, Any]:
    """The annotations of the parameters of what can be called, as :func:`resolved_hints` gives them."""
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, type):
        target = target.__init__  # type: ignore[misc]
    elif not hasattr(target, "__annotations__") or not hasattr(target, "__name__"):
        target = type(target).__call__  # an object that can be called
    return resolved_hints(target, extras)


def _parsed(parse: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: parse(value)


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
