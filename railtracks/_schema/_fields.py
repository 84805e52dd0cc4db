"""The types that are known, and the fields of signatures and classes, for schemas and for validation alike."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
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
from railtracks.nodes._depends import Dependency
from railtracks.nodes._identity import bound_arguments
from railtracks.state._serialization._type_hints import (
    hints_of,
    is_named_tuple,
    is_pydantic,
    resolved_hints,
    substituted,
)

MISSING = inspect.Parameter.empty
"""Stands for an annotation or a default that does not exist."""

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
"""Types that one JSON value stands for, and their schemas."""
LISTS = (list, tuple, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection)
SETS = (set, frozenset, abc.Set, abc.MutableSet)
MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


class Unresolved(str):
    """An annotation that is still a text, because it names nothing that exists at run time."""

    __slots__ = ()


@attrs.frozen
class Field:
    """A parameter of a node, or a field of a class.

    Args:
        name: Its name where it is defined.
        key: Its name in JSON, and in the call that makes an instance.
        type: Its annotation.
        required: True if it has neither a default nor a default factory.
        default: Its default; ``MISSING`` if it has none, or a factory.
        kind: The kind of a parameter, as in ``inspect.Parameter``.
    """

    name: str
    key: str
    type: Any
    required: bool
    default: Any = MISSING
    kind: Any = inspect.Parameter.KEYWORD_ONLY


def parameters_of(node: FunctionNode[..., Any], extras: bool = False) -> list[Field]:
    """Return the parameters of a node, of which ``**kwargs`` comes last.

    Without ``*args``, those that a partial has bound, and dependencies.

    Args:
        node: The node.
        extras: True to keep ``Annotated`` in the types.

    Raises:
        NodeCreationError: What the node runs has no signature.
    """
    try:
        signature = inspect.signature(node.target)
    except (TypeError, ValueError) as exc:
        raise NodeCreationError(
            f"the tool {node.name!r} cannot be described to a model, because Python does not know its parameters "
            f"({exc}); write a function with annotated parameters that calls it"
        ) from exc
    hints = hints_of(node.target, extras)
    for name, hint in hints.items() if extras else ():
        if any(type(each) is Dependency for each in getattr(hint, "__metadata__", ())):
            raise NodeCreationError(
                f"the parameter {name!r} of the tool {node.name!r} has rt.Depends(...) in its annotation; write it as "
                f"its default: `{name}: ... = rt.Depends(...)`"
            )
    _, bound = bound_arguments(node.target) or ((), {})  # what is bound by name stays in the signature
    return [
        Field(
            name=name,
            key=name,
            type=_resolved(hints, name, each.annotation),
            required=each.default is MISSING,
            default=each.default,
            kind=each.kind,
        )
        for name, each in signature.parameters.items()
        if name not in bound
        and each.kind is not inspect.Parameter.VAR_POSITIONAL
        and type(each.default) is not Dependency
    ]


def _resolved(hints: Mapping[str, Any], name: str, written: Any) -> Any:
    if name in hints:
        hint = hints[name]
        return hint.type if isinstance(hint, dataclasses.InitVar) else hint
    return Unresolved(written) if isinstance(written, str) else written


def has_fields(kind: Any) -> bool:
    """Return whether a type is an object with known fields in JSON. A generic class may have arguments.

    Pydantic models are not counted: they have schemas and rules of their own.
    """
    origin = get_origin(kind) or kind
    if not isinstance(origin, type) or is_pydantic(origin):
        return False
    return attrs.has(origin) or dataclasses.is_dataclass(origin) or is_named_tuple(origin) or is_typeddict(origin)


def fields_of(kind: Any, extras: bool = False) -> list[Field]:
    """Return the fields of such a class that its constructor takes. ``extras``: True to keep ``Annotated``."""
    cls: Any = get_origin(kind) or kind
    hints = _class_hints(cls, extras)
    arguments = _type_arguments(kind)
    owners = {name: owner for owner in reversed(cls.__mro__) for name in inspect.get_annotations(owner)}
    merged = {variable: hint for one in reversed(arguments.values()) for variable, hint in one.items()}
    return [
        attrs.evolve(
            field,
            type=substituted(_resolved(hints, field.name, field.type), arguments.get(owners.get(field.name), merged)),
        )
        for field in _own_fields(cls)
    ]


def instantiate(kind: Any, values: dict[str, Any]) -> Any:
    """Return an instance of such a class. ``values``: by the keys of the fields."""
    return (get_origin(kind) or kind)(**values)


def _own_fields(cls: Any) -> Iterator[Field]:
    if is_typeddict(cls):
        return _typed_dict_fields(cls)
    if attrs.has(cls):
        return _attrs_fields(cls)
    return _dataclass_fields(cls) if dataclasses.is_dataclass(cls) else _named_tuple_fields(cls)


def _attrs_fields(cls: Any) -> Iterator[Field]:
    for each in attrs.fields(cls):
        if each.init:
            has_factory = isinstance(each.default, attrs.Factory)  # type: ignore[arg-type]
            default = MISSING if has_factory or each.default is attrs.NOTHING else each.default
            kind = MISSING if each.type is None else each.type
            yield Field(each.name, each.alias, kind, each.default is attrs.NOTHING, default)


def _named_tuple_fields(cls: Any) -> Iterator[Field]:
    for name in cls._fields:
        default = cls._field_defaults.get(name, MISSING)
        yield Field(name, name, MISSING, default is MISSING, default)


def _dataclass_fields(cls: Any) -> Iterator[Field]:
    own, hints = {each.name for each in dataclasses.fields(cls)}, _class_hints(cls, extras=False)
    for each in cls.__dataclass_fields__.values():
        if each.init and (each.name in own or isinstance(hints.get(each.name), dataclasses.InitVar)):
            default = MISSING if each.default is dataclasses.MISSING else each.default
            has_factory = each.default_factory is not dataclasses.MISSING
            yield Field(each.name, each.name, each.type, default is MISSING and not has_factory, default)


def _typed_dict_fields(cls: Any) -> Iterator[Field]:
    hints = _class_hints(cls, extras=True)
    for name, written in cls.__annotations__.items():
        required, hint = name in cls.__required_keys__, hints.get(name)
        # Python does not see a qualifier in an annotation that is a text: __required_keys__ is wrong then.
        while (word := qualifier(hint)) or get_origin(hint) is Annotated:
            required = {"Required": True, "NotRequired": False}.get(word, required)
            hint = get_args(hint)[0]
        yield Field(name, name, written, required)


def qualifier(hint: Any) -> str:
    """Return the name of what qualifies the type of a field, such as "Required"; "" if nothing does."""
    name = getattr(get_origin(hint), "_name", None)  # the name, because typing_extensions has classes of its own
    return name if name in ("Required", "NotRequired", "ReadOnly", "Final") else ""


def tuple_items(kind: Any) -> tuple[Any, ...]:
    """Return the types of a tuple's items; a type and an Ellipsis for any number of items."""
    return (Any, Ellipsis) if kind in (tuple, typing.Tuple) else get_args(kind)  # noqa: UP006 - a bare typing.Tuple


def is_alias(kind: Any) -> bool:
    """Return whether ``type Name = ...`` made this. A generic alias may have arguments."""
    return type(get_origin(kind) or kind).__name__ == "TypeAliasType"  # the name: typing_extensions has its own class


def alias_value(kind: Any) -> Any:
    """Return the type that such an alias stands for."""
    alias = get_origin(kind) or kind
    return substituted(alias.__value__, dict(zip(alias.__type_params__, get_args(kind), strict=False)))


def _class_hints(cls: Any, extras: bool) -> dict[str, Any]:
    try:  # only the class itself knows its name when it is defined in a function
        return get_type_hints(cls, localns={cls.__name__: cls}, include_extras=extras)
    except Exception:  # a name that exists for type checkers only
        return resolved_hints(cls, extras)


def _type_arguments(kind: Any) -> dict[Any, dict[TypeVar, Any]]:
    """Return what replaces the type variables of a class and of its generic bases, by class."""
    cls = get_origin(kind) or kind
    own = dict(zip(getattr(cls, "__parameters__", ()), get_args(kind), strict=False))
    found = {cls: own}
    for base in vars(cls).get("__orig_bases__", getattr(cls, "__bases__", ())):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin not in (Generic, Protocol):
            hint = substituted(base, own) if get_args(base) else base
            found |= _type_arguments(hint)
    return found
