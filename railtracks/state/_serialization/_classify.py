"""What kind of value a type has: the one answer for writing values, reading them, and searching them for secrets.

Types that users register with ``register_hooks`` are not classified here, as the registry changes: the encoder looks
them up first.
"""

from __future__ import annotations

import dataclasses
import os
import re
from abc import get_cache_token
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, IntEnum, auto
from functools import lru_cache
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import attrs

from railtracks._mocks import is_mock_type
from railtracks._public_path import public_path
from railtracks.state._redaction._redactor import Secret
from railtracks.state._serialization._parts import parts_type
from railtracks.state._serialization._placeholders import Cut, Ignored, Opaque, RecordedError
from railtracks.state._serialization._standard_types import numpy_scalar

SCALAR_TYPES = frozenset({str, int, float, bool, bytes, type(None)})
"""The types of values that contain no others, and so no key that could name a secret. Their subclasses are not."""
SCALAR_IDS = frozenset(map(id, SCALAR_TYPES))
"""The identities of these types, to look up the type of any value. The types themselves would not do: a metaclass may
define ``==`` and ``hash`` of its classes, and they may raise."""

_UNTAGGED_TYPES = frozenset({dict, list, bytes})


class Kind(IntEnum):
    """How the values of a type are written. A type that is of several kinds counts as the first of them."""

    SECRET = auto()
    PLACEHOLDER = auto()
    """What a loaded state has in place of a value. It is written as it was read."""
    TEXT = auto()
    """A type in ``TEXT_TYPES``, or a subclass."""
    ENUM = auto()
    MAPPING = auto()
    NAMED_TUPLE = auto()
    SEQUENCE = auto()
    """A list, a tuple or a deque."""
    SET = auto()
    EXCEPTION = auto()
    FIELDS = auto()
    """An attrs class, a dataclass or a pydantic model."""
    NAMESPACE = auto()
    """A ``types.SimpleNamespace``. It is written as its attributes."""
    PARTS = auto()
    """A type in ``PARTS_TYPES``, or a subclass. It is written as the parts that it is made of."""
    BYTES = auto()
    PATH = auto()
    SCALAR = auto()
    """A text or a number."""
    OPAQUE = auto()
    """Anything else. It is written as its type and repr."""


class TextType(NamedTuple):
    """How the values of a type are written as texts and read from them."""

    write: Callable[[Any], str]
    read: Callable[[Any, str], Any]
    """Takes the type and a text that ``write`` returned, and returns the value. It may raise anything."""


def _write_iso(value: Any) -> str:
    return value.isoformat()  # type: ignore[no-any-return]


def _read_iso(cls: Any, text: str) -> Any:
    return cls.fromisoformat(text)


def _read_text(cls: Any, text: str) -> Any:
    return cls(text)


def _write_complex(value: complex) -> str:
    return repr(complex(value))


def _read_complex(cls: Any, text: str) -> Any:
    return cls(complex(text))


def _write_range(value: range) -> str:
    return f"{value.start}:{value.stop}:{value.step}"


def _read_range(cls: Any, text: str) -> Any:
    return cls(*map(int, text.split(":")))


def _write_address(value: Any) -> str:
    cls: Any = next(cls for cls in type(value).__mro__ if cls.__module__ == "ipaddress")
    return str(cls.__str__(value))  # that of the library, whatever a subclass makes of it


def _write_zone(value: Any) -> str:
    key, is_from_cache = value.__reduce__()[1]  # it raises for a zone that was read from a file
    if not is_from_cache:
        raise ValueError("a zone that equals no other one")
    return str(key)


def _write_offset(value: Any) -> str:
    return str(value.utcoffset(None))


def _read_offset(cls: Any, text: str) -> Any:
    from datetime import timedelta  # here, as few programs have such values

    return cls(_read_duration(timedelta, text))


def _read_duration(cls: Any, text: str) -> Any:
    match = re.fullmatch(r"(?:(-?\d+) days?, )?(\d+):(\d\d):(\d\d)(?:\.(\d{6}))?", text, re.ASCII)
    if match is None:
        raise ValueError(f"expected a duration such as '1 day, 2:30:00', got {text!r}")
    days, hours, minutes, seconds, microseconds = (int(part or 0) for part in match.groups())
    return cls(days, seconds, microseconds, 0, minutes, hours)


TEXT_TYPES: dict[str, TextType] = {
    "datetime.datetime": TextType(_write_iso, _read_iso),
    "datetime.date": TextType(_write_iso, _read_iso),
    "datetime.time": TextType(_write_iso, _read_iso),
    "datetime.timedelta": TextType(str, _read_duration),
    "decimal.Decimal": TextType(str, _read_text),
    "fractions.Fraction": TextType(str, _read_text),
    "uuid.UUID": TextType(str, _read_text),
    "zoneinfo.ZoneInfo": TextType(_write_zone, _read_text),
    "datetime.timezone": TextType(_write_offset, _read_offset),
    **{
        f"ipaddress.{name}": TextType(_write_address, _read_text)
        for name in ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network", "IPv4Interface", "IPv6Interface")
    },
    "complex": TextType(_write_complex, _read_complex),
    "range": TextType(_write_range, _read_range),
}
"""Types whose values have one obvious text. By module and name, so that the modules need not be imported."""


@attrs.frozen
class Classification:
    """What the type of a value says about how to write the value.

    Attributes:
        kind: The kind.
        is_untagged: Whether plain data in a record needs no type beside it.
        text: How to write a value as text. None unless ``kind`` is ``TEXT``.
        fields: The names of the fields. Exceptions and placeholders may have some as well; other kinds have none.
        omitted: The defaults of fields that are left out where they have it, by their names; see ``OMITTED``.
    """

    kind: Kind
    is_untagged: bool
    text: Callable[[Any], str] | None
    fields: tuple[str, ...]
    omitted: Mapping[str, Any] = MappingProxyType({})


OMITTED = "railtracks.omitted"
"""In the metadata of a field of an attrs class of the library: it is not written where it has its default.

So records that are older than the field say what they would say now.
"""
_BASES: dict[Kind, tuple[type, ...]] = {
    Kind.SECRET: (Secret,),
    Kind.PLACEHOLDER: (Opaque, Cut, Ignored, RecordedError),
    Kind.ENUM: (Enum,),
    Kind.MAPPING: (Mapping,),
    Kind.SEQUENCE: (list, tuple),
    Kind.SET: (AbstractSet,),
    Kind.EXCEPTION: (BaseException,),
    Kind.BYTES: (bytes, bytearray, memoryview),
    Kind.PATH: (os.PathLike,),
    Kind.SCALAR: (str, int, float),
}
"""Kinds whose types are subclasses of these."""
_TESTS: dict[Kind, Callable[[Any], bool]] = {
    Kind.TEXT: lambda cls: _text_type(cls) is not None,
    Kind.NAMED_TUPLE: lambda cls: issubclass(cls, tuple) and hasattr(cls, "_fields"),
    Kind.SEQUENCE: lambda cls: cls is deque,
    Kind.FIELDS: lambda cls: _field_names(cls) is not None,
    Kind.NAMESPACE: lambda cls: issubclass(cls, SimpleNamespace),
    Kind.PARTS: lambda cls: parts_type(cls) is not None,
    Kind.SCALAR: lambda cls: numpy_scalar(cls) is not None,
}
"""Kinds whose types fulfil a condition."""


def classify(cls: type) -> Classification:
    """Return the classification of the values of a type."""
    return _classify(cls, cls, get_cache_token())


def classify_value(value: Any) -> Classification:
    """Return the classification of a value.

    A proxy, such as a lazy object of a web framework, claims by its ``__class__`` to be of the type of what it stands
    for. ``isinstance`` believes that, and so does this.

    Raises:
        Exception: Whatever the ``__class__`` of the value raises.
    """
    cls: Any = type(value)
    claimed: Any = value.__class__
    if claimed is not cls and not isinstance(claimed, type):
        claimed = cls
    return _classify(cls, claimed, get_cache_token())


@lru_cache(maxsize=4096)
def _classify(cls: type, claimed: type, token: object) -> Classification:  # noqa: ARG001 - a key of the cache
    """``token``: changes when a class is registered with an abstract one, such as ``Mapping``."""
    if is_mock_type(cls):
        return Classification(Kind.OPAQUE, False, None, ())
    try:
        kind = next((kind for kind in Kind if _is_of_kind(kind, cls, claimed)), Kind.OPAQUE)
    except Exception:  # a metaclass may do anything
        kind = Kind.OPAQUE
    text_type = _text_type(cls) if kind is Kind.TEXT else None
    fields = _field_names(cls) if kind in (Kind.FIELDS, Kind.EXCEPTION, Kind.PLACEHOLDER) else None
    is_untagged = cls in _UNTAGGED_TYPES
    write = None if text_type is None else text_type.write
    return Classification(kind, is_untagged, write, fields or (), _omitted(cls) if fields else {})


def _is_of_kind(kind: Kind, cls: type, claimed: type) -> bool:
    bases, test = _BASES.get(kind, ()), _TESTS.get(kind)
    return issubclass(cls, bases) or issubclass(claimed, bases) or (test is not None and test(cls))


def _text_type(cls: type) -> TextType | None:
    found = (TEXT_TYPES.get(public_path(base)) for base in cls.__mro__)
    return next((text_type for text_type in found if text_type is not None), None)


def _omitted(cls: Any) -> Mapping[str, Any]:
    fields = attrs.fields(cls) if attrs.has(cls) else ()
    return {field.name: field.default for field in fields if OMITTED in field.metadata}


def _field_names(cls: Any) -> tuple[str, ...] | None:
    if attrs.has(cls):
        return tuple(field.name for field in attrs.fields(cls))
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if isinstance(pydantic_fields := getattr(cls, "model_fields", None), Mapping):
        return tuple(pydantic_fields)
    return None
