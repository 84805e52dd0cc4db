"""From JSON data to values of types, strictly: nothing is taken for what it is not."""

from __future__ import annotations

import datetime
import decimal
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import cache, lru_cache
from math import isfinite
from types import NoneType
from typing import Annotated, Any, Literal, NewType, TypeVar, get_args, get_origin, get_type_hints

import cattrs

from railtracks._schema._fields import (
    LISTS,
    MAPPINGS,
    MISSING,
    SCALARS,
    SETS,
    Field,
    alias_value,
    fields_of,
    is_alias,
    is_record,
    make_record,
    qualifier,
    tuple_items,
)
from railtracks._schema._problems import Path, Problems, found_in, shown, told, wrong
from railtracks.state._serialization._record_text import dumps
from railtracks.state._serialization._structuring import PARSERS
from railtracks.state._serialization._type_hints import (
    element_of,
    is_list_class,
    is_pydantic,
    is_union,
    substituted,
)

tried: ContextVar[dict[Any, Any]] = ContextVar("railtracks_tried")
"""What came of values as unions, while one thing is structured: nested unions would try each value very often."""


def structure(data: Any, kind: Any) -> Any:
    """A value of a type from JSON data. Raises anything; :func:`found_in` tells what it means."""
    if isinstance(kind, enum.EnumMeta):  # for these and for scalars cattrs asks its own hooks before any other
        return _choice(data, kind)
    hook = _SCALARS.get(kind)
    return hook(data) if hook else _converter().structure(data, kind)


@cache
def _converter() -> cattrs.Converter:
    made = cattrs.Converter()
    for test, hook in _HOOKS:
        made.register_structure_hook_func(test, hook)
    for test, unfold in _OTHER_NAMES:
        made.register_structure_hook_factory(test, _through(unfold))
    return made


def _each(parts: Iterable[tuple[str | int, Any, Any]]) -> list[Any]:
    """Each part as what it has to be. ``parts``: for each its place, the data, and the type."""
    values, found = [], []
    for step, data, kind in parts:
        try:
            values.append(structure(data, kind))
        except RecursionError:
            raise
        except Exception as exc:
            found += [((step, *path), text) for path, text in found_in(exc)]
    if found:
        raise Problems(*found)
    return values


def members(data: Mapping[str, Any], fields: list[Field], what: str, rest: Field | None = None) -> dict[str, Any]:
    """The members of an object, by key. ``rest``: what all others are; None: there may be no others."""
    known = {field.key: field for field in fields}
    found: list[tuple[Path, str]] = []
    values: dict[str, Any] = {}
    for key in [*known, *(key for key in data if key not in known)]:
        if key in data and (field := known.get(key, rest)) is not None:
            try:
                values[key] = _each([(key, data[key], field.type)])[0]
            except Problems as exc:
                found += exc.found
        elif key in data:
            found.append(((), f"unknown {what} {shown(key)} (the {what}s are {', '.join(known) or 'none'})"))
        elif known[key].required:
            found.append(((key,), "missing"))
    if found:
        raise Problems(*found)
    return values


def as_object(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise wrong("an object", data)
    return data


def _array(data: Any) -> list[Any]:
    if not isinstance(data, list | tuple):
        raise wrong("an array", data)
    return list(data)


_fields = lru_cache(maxsize=1024)(fields_of)


def _record(data: Any, kind: Any) -> Any:
    return make_record(kind, members(as_object(data), _fields(kind), "key"))


def _integer(data: Any) -> int:
    if isinstance(data, int) and not isinstance(data, bool):
        return data
    if isinstance(data, float) and data.is_integer():
        return int(data)
    raise wrong("an integer", data)


def _number(data: Any) -> float:
    if isinstance(data, int | float) and not isinstance(data, bool) and isfinite(data):
        return float(data)
    raise wrong("a number", data)


def _exactly(plain: type, expected: str) -> Callable[[Any], Any]:
    def hook(data: Any) -> Any:
        if not isinstance(data, plain):
            raise wrong(expected, data)
        return data

    return hook


def _parsed(data: Any, kind: Any) -> Any:
    expected = _TEXTS.get(kind, f"the text of a {kind.__name__}")
    if not isinstance(data, str):
        raise wrong(expected, data)
    try:
        value: Any = _duration(data) if kind is datetime.timedelta else PARSERS[kind](data)
        if kind is decimal.Decimal and not value.is_finite():
            raise wrong(expected, data)
        return value
    except Exception as exc:  # decimal's errors are no ValueError
        raise wrong(expected, data) from exc


_TEXTS = {
    decimal.Decimal: "the text of a decimal number, such as 12.50",
    datetime.datetime: "the text of a date and time, such as 2024-12-31T23:59:00+00:00",
    datetime.date: "the text of a date, such as 2024-12-31",
    datetime.time: "the text of a time, such as 23:59:00",
    datetime.timedelta: "the text of a duration, such as P1DT2H30M or PT0.5S",
}
_DURATION = re.compile(
    r"(?P<sign>-?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)


def _duration(text: str) -> datetime.timedelta:
    """ISO 8601, without years and months, which have no fixed length."""
    match = _DURATION.fullmatch(text)
    if match is None or not text[-1].isalpha() or text[-1] in "PT":
        raise ValueError(text)
    parts = {name: value for name, value in match.groupdict().items() if value and name != "sign"}
    seconds = Fraction(parts.pop("seconds", "0"))
    length = datetime.timedelta(**{name: int(value) for name, value in parts.items()})
    length += datetime.timedelta(seconds=int(seconds), microseconds=int(seconds % 1 * 1_000_000))
    return -length if match["sign"] else length


def _choice(data: Any, kind: Any) -> Any:
    """A member of an Enum by its value, or one of a Literal."""
    literal = get_origin(kind) is Literal
    values = []
    for member in get_args(kind) if literal else kind:
        value = member.value if isinstance(member, enum.Enum) else member
        if value == data and isinstance(value, bool) == isinstance(data, bool):
            return member
        values.append(value)
    raise wrong(f"one of {', '.join(map(shown, values))}", data)


def _first_that_fits(data: Any, union: Any) -> Any:
    kinds = get_args(union)
    known, key = tried.get(), (id(data), *kinds)  # the data outlives the table, so that no other gets its id
    if key not in known:
        known[key] = _try(data, kinds)
    value, problems = known[key]
    if problems is not None:
        raise problems
    return value


def _try(data: Any, kinds: tuple[Any, ...]) -> tuple[Any, Problems | None]:
    misfits = []
    for kind in kinds:
        try:
            return structure(data, kind), None
        except RecursionError:
            raise
        except Exception as exc:
            if kind is not NoneType:
                misfits.append((kind, tuple(found_in(exc))))
    if len(misfits) == 1:
        return None, Problems(*misfits[0][1])
    texts = [f"as {_name(kind)}: {told(found)[:200]}" for kind, found in misfits]
    return None, Problems(((), f"fits none of {len(texts)} types ({' | '.join(texts)})"))


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)


def _list(data: Any, kind: Any) -> Any:
    element = element_of(kind) if is_list_class(kind) else (get_args(kind) or (Any,))[0]
    values = _each((place, item, element) for place, item in enumerate(_array(data)))
    cls = get_origin(kind) or kind
    return cls(values) if cls in (set, frozenset) or is_list_class(kind) else set(values) if cls in SETS else values


def _tuple(data: Any, kind: Any) -> Any:
    items, args = _array(data), tuple_items(kind)
    if args[-1:] == (Ellipsis,):
        args = args[:1] * len(items)
    if len(args) != len(items):
        raise wrong(f"an array of {len(args)}", data)
    return tuple(_each((place, item, kind) for place, (item, kind) in enumerate(zip(items, args, strict=True))))


def _mapping(data: Any, kind: Any) -> Any:
    items = as_object(data)
    key_kind, value_kind = get_args(kind) or (Any, Any)
    keys = _each((key, key, key_kind) for key in items)
    return dict(zip(keys, _each((key, value, value_kind) for key, value in items.items()), strict=True))


def _pydantic(data: Any, kind: Any) -> Any:
    """By the model's own rules for JSON, which are not those for Python objects: its dates are texts."""
    text = dumps(data)
    try:
        return kind.model_validate_json(text)
    except ValueError as exc:
        if not hasattr(exc, "errors"):
            raise
        raise Problems(*((each["loc"], each["msg"]) for each in exc.errors())) from exc


def plain(annotation: Any) -> Any:
    """The annotation without what ``Annotated`` says, however deep it stands."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    return get_type_hints(holder)["it"]


def _through(unfold: Callable[[Any], Any]) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def make(kind: Any) -> Callable[[Any, Any], Any]:
        inner = plain(unfold(kind))  # once for each type: it takes longer than most values
        return lambda data, _: structure(data, inner)

    return make


def _among(kinds: Iterable[Any]) -> Callable[[Any], bool]:
    return lambda kind: any((get_origin(kind) or kind) is each for each in kinds)


_SCALARS: dict[Any, Callable[[Any], Any]] = {
    str: _exactly(str, "a text"),
    bool: _exactly(bool, "true or false"),
    int: _integer,
    float: _number,
    NoneType: _exactly(NoneType, "null"),
    None: _exactly(NoneType, "null"),
}
_HOOKS: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [
    (_among((Any, object, MISSING)), lambda data, _: data),
    (_among((*(kind for kind in PARSERS if kind in SCALARS), datetime.timedelta)), _parsed),
    (lambda kind: get_origin(kind) is Literal, _choice),
    (_among((*LISTS, *SETS)), _list),
    (is_list_class, _list),
    (_among((tuple,)), _tuple),
    (_among(MAPPINGS), _mapping),
    (is_pydantic, _pydantic),
    (is_record, _record),
    (is_union, _first_that_fits),
]
"""How values of which types are made: the last that applies."""
_OTHER_NAMES: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
    (is_alias, alias_value),
    (lambda kind: bool(qualifier(kind)) or get_origin(kind) is Annotated, lambda kind: get_args(kind)[0]),
    (lambda kind: isinstance(kind, NewType), lambda kind: kind.__supertype__),
    (lambda kind: isinstance(kind, TypeVar), lambda kind: substituted(kind, {})),
]
"""What stands for another type, and for which; these come before the others."""
