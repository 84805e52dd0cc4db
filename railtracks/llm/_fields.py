"""Which types there are, and what parameters and fields have: one answer for schemas, and for what models give."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import inspect
import pathlib
import typing
import uuid
from collections import abc
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, Generic, Protocol, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

import attrs

from railtracks.exceptions import NodeCreationError
from railtracks.nodes import FunctionNode
from railtracks.state._typed import hints_of, is_named_tuple, is_pydantic, resolved_hints, substituted

MISSING = inspect.Parameter.empty
"""No annotation, or no default."""


SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    None: {"type": "null"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    datetime.timedelta: {"type": "string", "format": "duration"},
    uuid.UUID: {"type": "string", "format": "uuid"},
    decimal.Decimal: {"type": "string"},
    pathlib.Path: {"type": "string"},
    pathlib.PurePath: {"type": "string"},
}
LISTS = (list, tuple, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection)
SETS = (set, frozenset, abc.Set, abc.MutableSet)
MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


class Unresolved(str):
    """An annotation that is a text, and names nothing that exists when the program runs."""

    __slots__ = ()


@attrs.frozen
class Field:
    """A parameter of a node, or a field of a class.

    Args:
        name: What it is called where it is defined.
        key: What it is called in JSON, and when its class is made.
        type: Its annotation.
        required: It has to be given.
        default: Its value otherwise; ``MISSING`` if there is none, or it is made for each.
        kind: Of parameters: as in ``inspect.Parameter``.
    """

    name: str
    key: str
    type: Any
    required: bool
    default: Any = MISSING
    kind: Any = inspect.Parameter.KEYWORD_ONLY


def parameters_of(node: FunctionNode[..., Any], extras: bool = False) -> list[Field]:
    """The parameters that a call of the node may give; none for ``*args``, the last is of the kind of ``**kwargs``.

    Raises:
        NodeCreationError: what the node runs has no signature.
    """
    try:
        signature = inspect.signature(node.target)
    except (TypeError, ValueError) as exc:
        raise NodeCreationError(
            f"the tool {node.name!r} cannot be told to a model, as Python does not know its parameters ({exc}); "
            f"write a function with annotated parameters that calls it"
        ) from exc
    hints, bound = hints_of(node.target, extras), _bound(node.target)
    return [
        Field(
            name=name,
            key=name,
            type=_annotation(hints, name, each.annotation),
            required=each.default is MISSING,
            default=each.default,
            kind=each.kind,
        )
        for name, each in signature.parameters.items()
        if name not in bound and each.kind is not inspect.Parameter.VAR_POSITIONAL
    ]


def _bound(target: Any) -> set[str]:
    """The parameters that a partial has bound by name. They stay in its signature."""
    names: set[str] = set()
    while isinstance(target, functools.partial):
        names.update(target.keywords)
        target = target.func
    return names


def _annotation(hints: Mapping[str, Any], name: str, written: Any) -> Any:
    if name in hints:
        hint = hints[name]
        return hint.type if isinstance(hint, dataclasses.InitVar) else hint
    return Unresolved(written) if isinstance(written, str) else written


def is_record(kind: Any) -> bool:
    """A class that is an object in JSON, with known fields. It may have arguments, if it is generic."""
    origin = get_origin(kind) or kind
    if not isinstance(origin, type) or is_pydantic(origin):
        return False
    return attrs.has(origin) or dataclasses.is_dataclass(origin) or is_named_tuple(origin) or is_typeddict(origin)


def fields_of(kind: Any, extras: bool = False) -> list[Field]:
    """The fields of such a class that are given when it is made. ``extras``: types with what ``Annotated`` says."""
    cls: Any = get_origin(kind) or kind
    hints = _class_hints(cls, extras)
    given = _type_arguments(kind)
    owners = {name: owner for owner in reversed(cls.__mro__) for name in inspect.get_annotations(owner)}
    found = _typed_dict(cls) if is_typeddict(cls) else _attrs(cls) if attrs.has(cls) else _others(cls)
    merged = {variable: hint for one in reversed(given.values()) for variable, hint in one.items()}
    return [
        attrs.evolve(
            field,
            type=substituted(_annotation(hints, field.name, field.type), given.get(owners.get(field.name), merged)),
        )
        for field in found
    ]


def make_record(kind: Any, values: dict[str, Any]) -> Any:
    """An instance. ``values``: by the keys of the fields."""
    return (get_origin(kind) or kind)(**values)


def _attrs(cls: Any) -> Iterator[Field]:
    for each in attrs.fields(cls):
        if each.init:
            made = isinstance(each.default, attrs.Factory)  # type: ignore[arg-type]
            default = MISSING if made or each.default is attrs.NOTHING else each.default
            kind = MISSING if each.type is None else each.type
            yield Field(each.name, each.alias, kind, each.default is attrs.NOTHING, default)


def _others(cls: Any) -> Iterator[Field]:
    if not dataclasses.is_dataclass(cls):
        for name in cls._fields:
            default = cls._field_defaults.get(name, MISSING)
            yield Field(name, name, MISSING, default is MISSING, default)
        return
    own, hints = {each.name for each in dataclasses.fields(cls)}, _class_hints(cls, extras=False)
    for each in cls.__dataclass_fields__.values():
        if each.init and (each.name in own or isinstance(hints.get(each.name), dataclasses.InitVar)):
            default = MISSING if each.default is dataclasses.MISSING else each.default
            made = each.default_factory is not dataclasses.MISSING
            yield Field(each.name, each.name, each.type, default is MISSING and not made, default)


def _typed_dict(cls: Any) -> Iterator[Field]:
    marks = _class_hints(cls, extras=True)
    for name, written in cls.__annotations__.items():
        required, hint = name in cls.__required_keys__, marks.get(name)
        while (word := qualifier(hint)) or get_origin(hint) is Annotated:  # those in texts are not in __required_keys__
            required = {"Required": True, "NotRequired": False}.get(word, required)
            hint = get_args(hint)[0]
        yield Field(name, name, written, required)


def qualifier(hint: Any) -> str:
    """What is said of a field around its type, such as "Required"; otherwise an empty text."""
    name = getattr(get_origin(hint), "_name", None)  # by name: typing_extensions has its own
    return name if name in ("Required", "NotRequired", "ReadOnly", "Final") else ""


def tuple_items(kind: Any) -> tuple[Any, ...]:
    """The types in a tuple; one and an Ellipsis, if there may be any number of it."""
    return (Any, Ellipsis) if kind in (tuple, typing.Tuple) else get_args(kind)  # noqa: UP006 - a bare one


def is_alias(kind: Any) -> bool:
    """What ``type Name = ...`` made; with its arguments, if it is generic."""
    return type(get_origin(kind) or kind).__name__ == "TypeAliasType"  # by name: typing_extensions has its own


def alias_value(kind: Any) -> Any:
    """What such an alias stands for."""
    alias = get_origin(kind) or kind
    return substituted(alias.__value__, dict(zip(alias.__type_params__, get_args(kind), strict=False)))


def _class_hints(cls: Any, extras: bool) -> dict[str, Any]:
    try:  # a class that is defined in a function is not known by its name, but to itself
        return get_type_hints(cls, localns={cls.__name__: cls}, include_extras=extras)
    except Exception:  # names that exist for type checkers only
        return resolved_hints(cls, extras)


def _type_arguments(kind: Any) -> dict[Any, dict[TypeVar, Any]]:
    """What a class and its generic bases have in place of their type variables, by class."""
    cls = get_origin(kind) or kind
    own = dict(zip(getattr(cls, "__parameters__", ()), get_args(kind), strict=False))
    found = {cls: own}
    for base in vars(cls).get("__orig_bases__", getattr(cls, "__bases__", ())):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin not in (Generic, Protocol):
            hint = substituted(base, own) if get_args(base) else base
            found |= _type_arguments(hint)
    return found
