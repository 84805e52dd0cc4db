"""Structure JSON data as values of types, strictly: what is read as another type says the same."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from types import NoneType
from typing import Annotated, Any, Literal, NewType, TypeVar, get_args, get_origin, get_type_hints

import cattrs

from railtracks._schema._fields import (
    LISTS,
    MAPPINGS,
    MISSING,
    SETS,
    Field,
    alias_value,
    fields_of,
    has_fields,
    instantiate,
    is_alias,
    qualifier,
    tuple_items,
)
from railtracks._schema._lossless import is_exact, or_in_text, read_as_pydantic_wants, union_cache
from railtracks._schema._problems import Path, Problems, format_problems, format_value, mismatch, problems_of
from railtracks._schema._scalars import PARSED_TYPES, SCALAR_HOOKS, find_member, parse_text
from railtracks.state._serialization._record_text import dumps
from railtracks.state._serialization._type_hints import element_of, is_list_class, is_pydantic, is_union, substituted

_MAX_ROUNDS = 10
"""How often data is read anew for a model of pydantic."""


def structure(data: Any, kind: Any) -> Any:
    """Return a value of a type, made of JSON data. ``union_cache`` must be set.

    Raises:
        Exception: Whatever the constructors of the types raise. ``problems_of`` says what it means.
    """
    if isinstance(kind, enum.EnumMeta):  # for enums and scalars cattrs would use its own hooks before ours
        return find_member(data, kind)
    hook = SCALAR_HOOKS.get(kind)
    return hook(data) if hook else _converter().structure(data, kind)


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    for test, hook in _HOOKS:
        converter.register_structure_hook_func(test, hook)
    for test, unfold in _STAND_INS:
        converter.register_structure_hook_factory(test, _structure_as(unfold))
    return converter


def _structure_each(parts: Iterable[tuple[str | int, Any, Any]]) -> list[Any]:
    """Structure the parts of a value, each with its key or index, data and type; raise all problems as one error."""
    values, found = [], []
    for step, data, kind in parts:
        try:
            values.append(structure(data, kind))
        except RecursionError:
            raise
        except Exception as exc:
            found += [((step, *path), text) for path, text in problems_of(exc)]
    if found:
        raise Problems(*found)
    return values


def structure_members(
    data: Mapping[str, Any], fields: list[Field], what: str, rest: Field | None = None
) -> dict[str, Any]:
    """Structure the members of an object.

    Args:
        data: The object.
        fields: The fields that it may have.
        what: What an error calls a member: "argument" or "key".
        rest: The field that stands for all other members. None: there must be no others.

    Returns:
        The values by their keys; without those that are missing and not required.

    Raises:
        Problems: All that is wrong with the members.
    """
    known = {field.key: field for field in fields}
    found: list[tuple[Path, str]] = []
    values: dict[str, Any] = {}
    for key in [*known, *(key for key in data if key not in known)]:
        if key in data and (field := known.get(key, rest)) is not None:
            try:
                values[key] = _structure_each([(key, data[key], field.type)])[0]
            except Problems as exc:
                found += exc.found
        elif key in data:
            found.append(((), f"unknown {what} {format_value(key)} (the {what}s are {', '.join(known) or 'none'})"))
        elif known[key].required:
            found.append(((key,), "missing"))
    if found:
        raise Problems(*found)
    return values


def expect_object(data: Any, what: str = "an object") -> Mapping[str, Any]:
    """Return the data, or what it says as a text, or raise ``Problems`` if that is not a JSON object.

    Args:
        data: JSON data.
        what: What was expected, for the error.
    """
    found: Mapping[str, Any] = or_in_text(lambda each: _object(each, what))(data)
    return found


def _object(data: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise mismatch(what, data)
    return data


def _array(data: Any) -> list[Any]:
    if not isinstance(data, list | tuple):
        raise mismatch("an array", data)
    return list(data)


def _expect_array(data: Any) -> list[Any]:
    found: list[Any] = or_in_text(_array)(data)
    return found


_cached_fields = lru_cache(maxsize=1024)(fields_of)


def _class_with_fields(data: Any, kind: Any) -> Any:
    return instantiate(kind, structure_members(expect_object(data), _cached_fields(kind), "key"))


def _union(data: Any, union: Any) -> Any:
    kinds = get_args(union)
    # The data outlives the cache, so its id is not used again.
    outcomes, key = union_cache.get(), (id(data), is_exact.get(), *kinds)
    if key not in outcomes:
        outcomes[key] = _try_each(data, kinds)
    value, problems = outcomes[key]
    if problems is not None:
        raise problems
    return value


def _try_each(data: Any, kinds: tuple[Any, ...]) -> tuple[Any, Problems | None]:
    """Return the data as the first of the types that it fits, at best as it stands, or what is wrong with it."""
    if not is_exact.get():
        token = is_exact.set(True)
        try:
            value, problems = _try_each_once(data, kinds)
        finally:
            is_exact.reset(token)
        if problems is None:
            return value, None
    return _try_each_once(data, kinds)


def _try_each_once(data: Any, kinds: tuple[Any, ...]) -> tuple[Any, Problems | None]:
    misfits = []
    for kind in kinds:
        try:
            return structure(data, kind), None
        except RecursionError:
            raise
        except Exception as exc:
            if kind is not NoneType:
                misfits.append((kind, tuple(problems_of(exc))))
    if len(misfits) == 1:
        return None, Problems(*misfits[0][1])
    texts = [f"as {_type_name(kind)}: {format_problems(found)[:200]}" for kind, found in misfits]
    return None, Problems(((), f"fits none of {len(texts)} types ({' | '.join(texts)})"))


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _list(data: Any, kind: Any) -> Any:
    element = element_of(kind) if is_list_class(kind) else (get_args(kind) or (Any,))[0]
    values = _structure_each((index, item, element) for index, item in enumerate(_expect_array(data)))
    cls = get_origin(kind) or kind
    return cls(values) if cls in (set, frozenset) or is_list_class(kind) else set(values) if cls in SETS else values


def _tuple(data: Any, kind: Any) -> Any:
    items, args = _expect_array(data), tuple_items(kind)
    if args[-1:] == (Ellipsis,):
        args = args[:1] * len(items)
    if len(args) != len(items):
        raise mismatch(f"an array of {len(args)}", data)
    parts = enumerate(zip(items, args, strict=True))
    return tuple(_structure_each((index, item, kind) for index, (item, kind) in parts))


def _mapping(data: Any, kind: Any) -> Any:
    items = expect_object(data)
    key_kind, value_kind = get_args(kind) or (Any, Any)
    keys = _structure_each((key, key, key_kind) for key in items)
    values = _structure_each((key, value, value_kind) for key, value in items.items())
    return dict(zip(keys, values, strict=True))


def _pydantic(data: Any, kind: Any) -> Any:
    """Apply the model's strict rules for JSON, which differ from those for Python objects: its dates are texts."""
    text, found = dumps(data), []
    while True:
        try:
            return kind.model_validate_json(text, strict=True)
        except ValueError as exc:
            if not hasattr(exc, "errors"):
                raise
            found.append(exc)
        # Each round reads what stands one level deeper within texts.
        other = None if is_exact.get() or len(found) > _MAX_ROUNDS else read_as_pydantic_wants(text, found[-1].errors())
        if other is None:
            first: Any = found[0]
            raise Problems(*((each["loc"], each["msg"]) for each in first.errors())) from first
        text = other


def without_annotated(annotation: Any) -> Any:
    """Return an annotation without any ``Annotated`` in it, at any depth."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    return get_type_hints(holder)["it"]


def _structure_as(unfold: Callable[[Any], Any]) -> Callable[[Any], Callable[[Any, Any], Any]]:
    """Return a factory of hooks that structure data as the type that ``unfold`` returns."""

    def make(kind: Any) -> Callable[[Any, Any], Any]:
        inner = without_annotated(unfold(kind))  # once for each type: this takes longer than structuring most values
        return lambda data, _: structure(data, inner)

    return make


def _is_any_of(kinds: Iterable[Any]) -> Callable[[Any], bool]:
    return lambda kind: any((get_origin(kind) or kind) is each for each in kinds)


_HOOKS: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [
    (_is_any_of((Any, object, MISSING)), lambda data, _: data),
    (_is_any_of(PARSED_TYPES), parse_text),
    (lambda kind: get_origin(kind) is Literal, find_member),
    (_is_any_of((*LISTS, *SETS)), _list),
    (is_list_class, _list),
    (_is_any_of((tuple,)), _tuple),
    (_is_any_of(MAPPINGS), _mapping),
    (is_pydantic, _pydantic),
    (has_fields, _class_with_fields),
    (is_union, _union),
]
"""How data is structured as which types. Where several apply, the last one counts."""
_STAND_INS: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
    (is_alias, alias_value),
    (lambda kind: bool(qualifier(kind)) or get_origin(kind) is Annotated, lambda kind: get_args(kind)[0]),
    (lambda kind: isinstance(kind, NewType), lambda kind: kind.__supertype__),
    (lambda kind: isinstance(kind, TypeVar), lambda kind: substituted(kind, {})),
]
"""What stands for another type, and a function that returns that type. These come before ``_HOOKS``."""
