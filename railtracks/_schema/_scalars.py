"""Values without parts from JSON data: numbers, texts that stand for other types, members of enums."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import re
from collections.abc import Callable
from fractions import Fraction
from math import isfinite
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from railtracks._schema._fields import SCALARS
from railtracks._schema._lossless import is_exact, midnight_date, or_in_text
from railtracks._schema._problems import format_value, mismatch
from railtracks.state._serialization._structuring import PARSERS


def _integer(data: Any) -> int:
    if isinstance(data, int) and not isinstance(data, bool):
        return data
    if isinstance(data, float) and data.is_integer():
        return int(data)
    raise mismatch("an integer", data)


def _number(data: Any) -> float:
    if isinstance(data, int | float) and not isinstance(data, bool) and isfinite(data):
        return float(data)
    raise mismatch("a number", data)


def _instance_of(kind: type, expected: str) -> Callable[[Any], Any]:
    def check(data: Any) -> Any:
        if not isinstance(data, kind):
            raise mismatch(expected, data)
        return data

    return check


SCALAR_HOOKS: dict[Any, Callable[[Any], Any]] = {
    str: _instance_of(str, "a text"),
    bool: or_in_text(_instance_of(bool, "true or false")),
    int: or_in_text(_integer),
    float: or_in_text(_number),
    NoneType: or_in_text(_instance_of(NoneType, "null")),
    None: or_in_text(_instance_of(NoneType, "null")),
}
"""The functions that check the types that JSON has itself."""
PARSED_TYPES = (*(kind for kind in PARSERS if kind in SCALARS), datetime.timedelta)
"""The types that a text stands for."""
_EXPECTED = {
    decimal.Decimal: "the text of a decimal number, such as 12.50",
    datetime.datetime: "the text of a date and time, such as 2024-12-31T23:59:00+00:00",
    datetime.date: "the text of a date, such as 2024-12-31",
    datetime.time: "the text of a time, such as 23:59:00",
    datetime.timedelta: "the text of a duration, such as P1DT2H30M or PT0.5S",
}


def parse_text(data: Any, kind: Any) -> Any:
    """Return the value of one of ``PARSED_TYPES`` that a text stands for.

    Raises:
        Problems: The data is not a text, or not one of this type; nor, for a decimal, a number.
    """
    expected = _EXPECTED.get(kind, f"the text of a {kind.__name__}")
    is_number = kind is decimal.Decimal and type(data) in (int, float) and not is_exact.get()
    text = repr(data) if is_number else data
    if not isinstance(text, str):
        raise mismatch(expected, data)
    try:
        value: Any = _parse_duration(text) if kind is datetime.timedelta else PARSERS[kind](text)
        if kind is decimal.Decimal and not value.is_finite():
            raise mismatch(expected, data)
        return value
    except Exception as exc:  # decimal's errors are not ValueErrors
        if kind is datetime.date and not is_exact.get():
            with contextlib.suppress(ValueError):
                return midnight_date(text)
        raise mismatch(expected, data) from exc


_DURATION = re.compile(
    r"(?P<sign>-?)P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,6})?)S)?)?",
    re.ASCII,
)


def _parse_duration(text: str) -> datetime.timedelta:
    """Parse an ISO 8601 duration without years and months, which have no fixed length."""
    match = _DURATION.fullmatch(text)
    if match is None or not text[-1].isalpha() or text[-1] in "PT":
        raise ValueError(text)
    parts = {name: value for name, value in match.groupdict().items() if value and name != "sign"}
    seconds = Fraction(parts.pop("seconds", "0"))
    length = datetime.timedelta(**{name: int(value) for name, value in parts.items()})
    length += datetime.timedelta(seconds=int(seconds), microseconds=int(seconds % 1 * 1_000_000))
    return -length if match["sign"] else length


def find_member(data: Any, kind: Any) -> Any:
    """Return the member of an Enum that has this value, or the value of a Literal.

    Raises:
        Problems: There is no such member.
    """
    return or_in_text(lambda given: _find_member(given, kind))(data)


def _find_member(data: Any, kind: Any) -> Any:
    literal = get_origin(kind) is Literal
    values = []
    for member in get_args(kind) if literal else kind:
        value = member.value if isinstance(member, enum.Enum) else member
        if value == data and isinstance(value, bool) == isinstance(data, bool):
            return member
        values.append(value)
    raise mismatch(f"one of {', '.join(map(format_value, values))}", data)
