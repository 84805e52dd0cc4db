"""Whether a value is what an annotation says: code that has changed must not get what it does not expect any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, NewType, get_args, get_origin, is_typeddict

from railtracks.state._serialization._annotated_classes import field_hints
from railtracks.state._serialization._classify import Kind, classify
from railtracks.state._serialization._contents import PYDANTIC_STATE
from railtracks.state._serialization._type_hints import UNKNOWN, is_union

_WIDER: dict[Any, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
"""Types for which others may stand in."""
_VALIDATORS = ("validators", "field_validators", "root_validators", "model_validators")
_UNLIKE_PLAIN = (Kind.TEXT, Kind.ENUM, Kind.NAMED_TUPLE, Kind.FIELDS, Kind.PATH)
"""Kinds of which no value is plain data."""


def is_foreign(value: object, annotation: Any) -> bool:
    """Return whether plain data stands where an annotation allows nothing but other types.

    It is not enough that the annotation is wrong: many a function that says it returns a text returns a list.
    """
    if value is None or annotation is UNKNOWN or annotation is type(value):
        return False
    allowed = list(_alternatives(annotation))
    return all(_excludes_plain(each) and not _is_instance(value, each) for each in allowed)


def _excludes_plain(hint: Any) -> bool:
    return hint is None or hint is NoneType or (isinstance(hint, type) and classify(hint).kind in _UNLIKE_PLAIN)


def _alternatives(hint: Any) -> Iterator[Any]:
    if is_union(hint):
        for each in get_args(hint):
            yield from _alternatives(each)
    elif get_origin(hint) is Annotated:
        yield from _alternatives(get_args(hint)[0])
    elif isinstance(hint, NewType):
        yield from _alternatives(hint.__supertype__)
    elif not isinstance(hint, type) and hasattr(hint, "__value__"):  # an alias made by a `type` statement
        yield from _alternatives(hint.__value__)
    else:
        yield hint


def fits(value: Any, annotation: Any, is_validated: bool = False) -> bool:
    """Return whether a value is, at every level, what an annotation says. None always is, as many do not mention it.

    Args:
        value: The value.
        annotation: The annotation. What cannot be judged is taken to fit.
        is_validated: Whether annotations may come with functions that turn values into others, as in pydantic models.
    """
    if value is None or (is_validated and get_origin(annotation) is Annotated):
        return True
    allowed = list(_alternatives(annotation))
    return any(_fits_one(value, each, is_validated) for each in allowed)


def _fits_one(value: Any, hint: Any, is_validated: bool) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    cls = origin or hint
    if hint is None or not _says_something(cls):
        return hint is not None
    if not _is_instance(value, cls):
        return False
    test = next((test for base, test in _MEMBERS.items() if issubclass(cls, base)), None) if origin else None
    if test is not None:
        return test(value, get_args(hint), is_validated)
    return _fields_fit(value)


def _says_something(cls: Any) -> bool:
    """Return whether being an instance of a class, or not, says something about a value."""
    is_vague = cls in (object, Any, UNKNOWN) or getattr(cls, "_is_protocol", False) or is_typeddict(cls)
    return isinstance(cls, type) and not is_vague


def _is_instance(value: object, cls: Any) -> bool:
    try:
        return isinstance(value, _WIDER.get(cls, cls))
    except Exception:  # a metaclass may do anything
        return True


def _fields_fit(value: Any) -> bool:
    cls: Any = type(value)
    classified = classify(cls)
    if classified.kind is not Kind.FIELDS:
        return True
    hints, is_model = field_hints(cls), hasattr(cls, PYDANTIC_STATE)
    if is_model and any(getattr(cls.__pydantic_decorators__, name) for name in _VALIDATORS):
        return True  # they may return anything
    for name in classified.fields:
        if is_model and cls.model_fields[name].metadata:
            continue
        if name in hints and hasattr(value, name) and not fits(getattr(value, name), hints[name], is_model):
            return False
    return True


def _tuple_fits(value: Any, args: tuple[Any, ...], is_validated: bool) -> bool:
    if args[-1:] == (...,):
        return all(fits(item, args[0], is_validated) for item in value)
    return len(args) == len(value) and all(
        fits(item, hint, is_validated) for item, hint in zip(value, args, strict=True)
    )


def _mapping_fits(value: Any, args: tuple[Any, ...], is_validated: bool) -> bool:
    return len(args) != 2 or all(
        fits(key, args[0], is_validated) and fits(item, args[1], is_validated) for key, item in value.items()
    )


def _items_fit(value: Any, args: tuple[Any, ...], is_validated: bool) -> bool:
    return len(args) != 1 or isinstance(value, str | bytes) or all(fits(item, args[0], is_validated) for item in value)


_MEMBERS: dict[Any, Callable[[Any, tuple[Any, ...], bool], bool]] = {
    tuple: _tuple_fits,
    Mapping: _mapping_fits,
    Collection: _items_fit,
}
"""The test of the members of what is annotated as a generic class."""
