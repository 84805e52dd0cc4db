"""Readings of data that lose nothing: JSON text in place of what it says, and numbers in place of decimals.

Models write ``"5"`` for 5, and a list or an object as a text. Where only one type is expected, that can mean one thing.
In a union, data that fits one of the types as it stands comes first: ``"5"`` is a text for ``int | str``.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

union_cache: ContextVar[dict[Any, Any]] = ContextVar("railtracks_union_cache")
"""The outcomes of structuring data as unions, and what texts say, for the time of one ``structure``.

Without it nested unions would structure the same data a number of times that grows exponentially with their depth.
What a text says stays alive in it: outcomes are found by the identity of the data.
"""
is_exact: ContextVar[bool] = ContextVar("railtracks_is_exact", default=False)
"""Whether data must fit as it stands."""
NOT_JSON = object()


def json_in(text: str) -> Any:
    """Return the JSON data that a text is; ``NOT_JSON`` if it is none, or a text again."""
    known = union_cache.get({})
    if text not in known:
        known[text] = _parse(text)
    return known[text]


def _parse(text: str) -> Any:
    from json import loads  # here, because importing it takes time

    try:
        value = loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return NOT_JSON
    return NOT_JSON if isinstance(value, str) else value


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def or_in_text(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that also takes a text which is the JSON of what ``check`` takes.

    Args:
        check: Returns the value that data stands for, or raises.
    """

    def read(data: Any) -> Any:
        try:
            return check(data)
        except Exception:
            if is_exact.get() or not isinstance(data, str) or (said := json_in(data)) is NOT_JSON:
                raise
            with contextlib.suppress(Exception):  # the error of what was given says more
                return check(said)
            raise

    return read


def midnight_date(text: str) -> datetime.date:
    """Return the date of a text that has a time of 00:00 and no time zone.

    Raises:
        ValueError: It is another text.
    """
    value = datetime.datetime.fromisoformat(text)
    if value.tzinfo is not None or value.time() != datetime.time():
        raise ValueError(text)
    return value.date()


# ---- models of pydantic, which are checked strictly, and whose errors say where a reading may help

_LISTS = ("list_type", "tuple_type", "set_type", "frozen_set_type")
_OBJECTS = ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type")
_TYPES: dict[str, tuple[type, ...]] = {
    "int_type": (int, float),
    "float_type": (int, float),
    "bool_type": (bool,),
    "none_required": (type(None),),
    "enum": (int, float, bool),
    "literal_error": (int, float, bool),
    **dict.fromkeys(_LISTS, (list,)),
    **dict.fromkeys(_OBJECTS, (dict,)),
}
"""What a text may say where pydantic has raised an error of one of these types."""


def read_as_pydantic_wants(text: str, errors: Sequence[Any]) -> str | None:
    """Return JSON text with lossless readings where errors of pydantic say that they may help; None if none may.

    Args:
        text: The JSON text.
        errors: What ``errors()`` of the exception returns.
    """
    from json import dumps, loads

    data, has_changed = [loads(text)], False
    for error in errors:
        if "[key]" not in error["loc"]:
            holder, place = _find(data, error["loc"])
            better = _better(holder[place], error["type"])
            if better is not NOT_JSON:
                holder[place], has_changed = better, True
    return dumps(data[0]) if has_changed else None


def _find(data: Any, path: Sequence[Any]) -> tuple[Any, Any]:
    """Return what holds the value at a path, and its place in there. Names of the members of unions are passed over."""
    holder, place = data, 0
    for step in path:
        value = holder[place]
        is_key = isinstance(value, dict) and step in value
        if is_key or (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            holder, place = value, step
    return holder, place


def _better(value: Any, problem: str) -> Any:
    if problem == "int_type" and isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return NOT_JSON
    if problem in ("datetime_parsing", "date_parsing", "datetime_from_date_parsing", "date_from_datetime_parsing"):
        return _other_date(value, problem)
    said = _parse(value)
    if said is None and problem in _TYPES:
        return None
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    if problem == "int_type" and not (is_number and said == said // 1):
        return NOT_JSON
    if problem == "float_type" and not is_number:
        return NOT_JSON
    return said if isinstance(said, _TYPES.get(problem, ())) else NOT_JSON


def _other_date(text: str, problem: str) -> Any:
    """Return a date as a date and time, or the other way round, as ISO 8601 has it."""
    try:
        if problem.startswith("datetime"):
            return f"{datetime.date.fromisoformat(text).isoformat()}T00:00:00"
        return midnight_date(text).isoformat()
    except ValueError:
        return NOT_JSON
