"""Types of the standard library whose values are written as the few parts that they are made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from railtracks._public_path import public_path


class PartsType(NamedTuple):
    """How the values of a type are taken apart and made again."""

    split: Callable[[Any], list[Any]]
    """Returns the parts of a value. It may raise anything, if they do not say all."""
    join: Callable[[Any, list[Any]], Any]
    """Takes the type and the parts, and returns the value. It may raise anything."""


def _split_pattern(pattern: re.Pattern[Any]) -> list[Any]:
    if pattern.flags & re.DEBUG:
        raise ValueError("a pattern that prints something each time it is compiled")
    return [pattern.pattern, pattern.flags]


def _split_array(array: Any) -> list[Any]:
    is_text = array.typecode in "uw"
    return [array.typecode, array.tounicode() if is_text else array.tolist()]


def _wrapping(cls: Any, parts: list[Any]) -> Any:
    value = object.__new__(cls)
    value.data = parts[0]
    return value


PARTS_TYPES: dict[str, PartsType] = {
    "re.Pattern": PartsType(_split_pattern, lambda _, parts: re.compile(*parts)),
    "slice": PartsType(lambda value: [value.start, value.stop, value.step], lambda _, parts: slice(*parts)),
    "array.array": PartsType(_split_array, lambda cls, parts: cls.__new__(cls, *parts)),
    "collections.UserList": PartsType(lambda value: [value.data], _wrapping),
    "collections.UserString": PartsType(lambda value: [value.data], _wrapping),
}
"""By module and name, so that the modules need not be imported."""

FORMERLY_OPAQUE = frozenset({
    *PARTS_TYPES, "datetime.timezone", "ipaddress.IPv4Address", "ipaddress.IPv4Interface", "ipaddress.IPv4Network",
    "ipaddress.IPv6Address", "ipaddress.IPv6Interface", "ipaddress.IPv6Network", "types.SimpleNamespace",
    "zoneinfo.ZoneInfo",
})  # fmt: skip
"""Types of which earlier releases recorded only the type and the ``repr``."""


def parts_type(cls: type) -> PartsType | None:
    """Return how the values of a class are taken apart; None for others."""
    found = (PARTS_TYPES.get(public_path(base)) for base in cls.__mro__)
    return next((each for each in found if each is not None), None)
