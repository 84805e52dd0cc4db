"""Classes of all sorts, values of them, and what their owner can see in a value."""

from __future__ import annotations

import datetime
import enum
import math
import re
import signal
import types
import uuid
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from http import HTTPMethod, HTTPStatus
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import attrs
import pydantic
from hypothesis import strategies as st

T = TypeVar("T")


@dataclass
class Plain:
    x: Any
    y: Any = None


@dataclass(frozen=True, slots=True)
class Slotted:
    x: Any


@dataclass
class Late:
    x: Any
    given: Any = field(init=False, default=7)
    missing: Any = field(init=False, repr=False)


@dataclass
class Boxed(Generic[T]):
    x: T


@dataclass(frozen=True)
class Named(str):
    x: Any = 1


@attrs.define
class Attrs:
    x: Any


@attrs.define(slots=False)
class OpenAttrs:
    x: Any


@attrs.frozen(cache_hash=True, hash=True)
class Hashed:
    x: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    x: Any
    y: Any = 1


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    x: Any = None
    _hidden: Any = pydantic.PrivateAttr(default=None)


class Root(pydantic.RootModel[Any]):
    pass


class Aliased(pydantic.BaseModel):
    x: Any = pydantic.Field(alias="xAlias")


class Strange(pydantic.BaseModel):
    """A model whose validator is not idempotent."""

    x: Any

    @pydantic.field_validator("x")
    @classmethod
    def wrap(cls, value):
        return [value]


class Generically(pydantic.BaseModel, Generic[T]):
    x: T


class Pair(NamedTuple):
    left: Any
    right: Any


class OpenPair(Pair):
    pass


class OpenList(list[Any]):
    pass


class OpenDict(dict[Any, Any]):
    pass


class OpenTuple(tuple[Any, ...]):
    pass


class OpenSet(set[Any]):
    pass


class OpenFrozen(frozenset[Any]):
    pass


class OpenText(str):
    pass


class OpenNumber(int):
    pass


class OpenFloat(float):
    pass


class OpenBytes(bytes):
    pass


class OpenOrdered(OrderedDict[Any, Any]):
    pass


class OpenUserDict(UserDict[Any, Any]):
    pass


class OpenDecimal(Decimal):
    pass


class OpenDate(datetime.datetime):
    pass


class OpenAddress(IPv4Address):
    pass


class OpenUserList(UserList[Any]):
    pass


class OpenNamespace(types.SimpleNamespace):
    pass


class SlottedText(str):
    __slots__ = ("note",)


class Table(Mapping[Any, Any]):
    """A mapping of its own, with more state than its items."""

    def __init__(self, content, unit):
        self._content, self.unit = content, unit

    def __getitem__(self, key):
        return self._content[key]

    def __iter__(self):
        return iter(self._content)

    def __len__(self):
        return len(self._content)

    def __repr__(self):
        return f"Table({self._content!r}, {self.unit!r})"


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)
    LIST = [1, 2]
    HALF = 0.5


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


CLASSES = (
    Plain | Slotted | Late | Boxed[int] | Named | Attrs | OpenAttrs | Hashed | Model | Extra | Root | Aliased | Strange
    | Generically[int] | Pair | OpenPair | OpenList | OpenDict | OpenTuple | OpenSet | OpenFrozen | OpenText
    | OpenNumber | OpenFloat | OpenBytes | OpenOrdered | OpenUserDict | OpenAddress | OpenUserList
    | OpenNamespace | OpenDecimal | OpenDate | SlottedText | Table
    | Color | Level | Right
)  # fmt: skip
"""An annotation that names them all."""

ZONES = [
    None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=1)), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"),
    datetime.timezone(datetime.timedelta(hours=1), "CET"), datetime.timezone(datetime.timedelta(0), "UTC"),
    pydantic.TypeAdapter(datetime.datetime).validate_python("2026-01-01T00:00:00Z").tzinfo,
]  # fmt: skip


def with_note(value, note):
    """Return the value with an attribute that is not one of its fields."""
    object.__setattr__(value, "note", note)
    return value


def late(x, given, missing):
    value = Late(x)
    if given is not None:
        value.given = given
    if missing is not None:
        value.missing = missing
    return value


def extra(fields, hidden):
    value = Extra(**fields)
    if hidden is not None:
        value._hidden = hidden
    return value


numbers = st.sampled_from([0, 1, -1, True, False, 0.0, -0.0, 1.0, 0.5, math.inf, -math.inf, math.nan, 2**70, 2**1100])
texts = st.sampled_from(["", "a", "1", "0.5", "red", "1:3:1", "*", "a/b", "~", "~3", "$type", "1j", "é", "2026-01-01"])
moments = st.builds(
    lambda zone, fold, day: datetime.datetime(2026, 10, day, 2, 30, tzinfo=zone, fold=fold),
    st.sampled_from(ZONES), st.integers(0, 1), st.sampled_from([1, 25]),
)  # fmt: skip
times = st.builds(
    lambda zone, fold: datetime.time(1, 2, tzinfo=zone, fold=fold), st.sampled_from(ZONES), st.integers(0, 1)
)
others = st.sampled_from([
    Decimal(1), Decimal("1.0"), Decimal("-0"), Decimal("NaN"), Decimal("1E+2"), Fraction(1, 2), Fraction(1),
    uuid.UUID(int=1), 1j, complex(-0.0, -0.0), range(1, 3), range(0), datetime.date(2026, 1, 1),
    datetime.timedelta(-1, 5, 7), Path("a/b"), PurePosixPath("a"), PureWindowsPath("a"), b"a", b"",
    Color.RED, Color.PAIR, Color.LIST, Color.HALF, Level.LOW, Right.READ, Right.READ | Right.WRITE,
    ip_address("10.0.0.1"), ip_address("fe80::1%eth0"), ip_network("10.0.0.0/31"), ip_network("fe80::/10"),
    ip_interface("10.0.0.1/8"), ip_interface("10.0.0.1/9"), ip_interface("fe80::1%eth0/10"),
    re.compile("a"), re.compile("a", re.IGNORECASE), re.compile(b"a"), re.compile("(?i)a"),
    *ZONES[1:7], HTTPStatus.OK, HTTPMethod.GET, re.RegexFlag.DOTALL, re.IGNORECASE | re.MULTILINE, signal.SIGINT,
    urlsplit("http://a/b"), OpenAddress("10.0.0.1"),
])  # fmt: skip
hashables = numbers | texts | others
leaves = (
    st.none() | hashables | moments | times | st.sampled_from([bytearray, OpenBytes]).map(lambda cls: cls(b"a"))
    | st.sampled_from([array("i", [1]), array("h", [1]), array("d", [1, -0.0, math.nan]), array("d"), array("u", "a")])
    | st.builds(UserString, texts)
    | st.sampled_from([OpenNumber(1), OpenFloat(0.5), OpenFloat("nan"), OpenDecimal(1), OpenDate(2026, 1, 1)])
    | st.builds(OpenText, texts) | st.builds(Named, st.just("a")) | st.builds(SlottedText, texts)
)  # fmt: skip


def noted(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few = st.lists(inner, max_size=3)
    return st.builds(
        with_note,
        st.builds(Plain, inner) | st.builds(OpenAttrs, inner) | st.builds(OpenPair, inner, inner)
        | st.builds(OpenList, few) | st.builds(OpenTuple, few) | st.builds(OpenSet, st.sets(hashables, max_size=2))
        | st.builds(OpenDict, st.dictionaries(texts, inner, max_size=2)) | st.builds(OpenText, texts)
        | st.builds(OpenNumber, st.integers(0, 1)) | st.builds(OpenFrozen, st.sets(hashables, max_size=2))
        | st.builds(OpenOrdered, st.dictionaries(texts, inner, max_size=2)) | st.builds(SlottedText, texts)
        | st.builds(OpenDecimal, st.just("1.0")) | st.builds(OpenBytes, st.just(b"a"))
        | st.builds(OpenUserDict, st.dictionaries(texts, inner, max_size=2))
        | st.builds(OpenUserList, few) | st.builds(OpenAddress, st.just("10.0.0.1"))
        | st.builds(OpenNamespace, x=inner),
        inner,
    )  # fmt: skip


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few, named = st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)
    keyed = st.dictionaries(hashables | st.tuples(hashables), inner, max_size=3)
    hashed = st.sets(hashables | st.frozensets(hashables, max_size=2) | st.tuples(hashables), max_size=3)
    return st.one_of(
        few, few.map(tuple), named, keyed, hashed, hashed.map(frozenset), noted(inner),
        st.builds(deque, few, st.none() | st.integers(3, 4)),
        st.builds(OrderedDict, keyed), st.builds(OpenOrdered, named), st.builds(UserDict, named),
        st.builds(Counter, st.dictionaries(hashables, st.integers(0, 2), max_size=2)),
        st.builds(defaultdict, st.sampled_from([None, int, list, deque]), named),
        st.builds(ChainMap, named, named), st.builds(types.MappingProxyType, named | named.map(OrderedDict)),
        st.builds(Table, named, inner), st.builds(slice, inner, inner, inner), st.builds(UserList, few),
        named.map(lambda each: types.SimpleNamespace(**each)), named.map(lambda each: OpenNamespace(**each)),
        st.builds(Pair, inner, inner), st.builds(Plain, inner, inner), st.builds(Slotted, inner),
        st.builds(late, inner, inner, inner), st.builds(Boxed, inner), st.builds(Boxed[int], inner),
        st.builds(Attrs, inner), st.builds(OpenAttrs, inner), st.builds(Hashed, hashables),
        st.builds(Model, x=inner), st.builds(Model, x=inner, y=inner), st.builds(Root, inner),
        st.builds(Aliased, xAlias=inner), st.builds(Strange, x=inner), st.builds(Generically[int], x=st.integers(0, 1)),
        st.builds(extra, st.dictionaries(st.sampled_from(["x", "y", "a/b", "$type", "*"]), inner, max_size=3), inner),
    )  # fmt: skip


values = st.recursive(leaves, containers, max_leaves=8)


def seen(value: Any) -> Any:
    """Return what the owner of a value can see in it, at every level, as something that can be compared."""
    cls = type(value)
    parts: list[Any] = [cls.__module__, cls.__qualname__]
    if isinstance(value, Mapping):
        parts.append([[seen(key), seen(item)] for key, item in value.items()])
        parts.append([seen(getattr(value, name, None)) for name in ("maxlen", "maps")])
        parts.append(repr(getattr(value, "default_factory", None)))
    elif isinstance(value, list | tuple | deque):
        parts.append([*map(seen, value), getattr(value, "maxlen", None)])
    elif isinstance(value, set | frozenset):
        parts.append(sorted(map(repr, map(seen, value))))
    elif isinstance(value, slice | UserList):
        parts.append([*map(seen, value.data if isinstance(value, UserList) else (value.start, value.stop, value.step))])
    elif isinstance(value, types.SimpleNamespace):
        parts.append(list(vars(value)))
    elif not isinstance(value, pydantic.BaseModel) and not hasattr(cls, "__dataclass_fields__") and not attrs.has(cls):
        parts.append(repr(value))
    if isinstance(value, pydantic.BaseModel):
        parts.append([sorted(value.model_fields_set), seen(value.__pydantic_private__), seen(value.__pydantic_extra__)])
    if isinstance(value, datetime.datetime | datetime.time):
        parts.append([repr(value.tzinfo), value.fold])
    if isinstance(value, str | int | float | bytes):
        parts.append(
            [repr(base(value)) for base in (str, int, float, bytes) if cls is not base and isinstance(value, base)]  # type: ignore[arg-type]
        )
    held = {} if isinstance(value, enum.Enum) else dict(getattr(value, "__dict__", {}))
    held.update((name, getattr(value, name)) for name in ("x", "note") if hasattr(value, name))
    for hidden in ("_attrs_cached_hash", "data", "maps"):
        held.pop(hidden, None)
    parts.append(sorted((name, repr(each) if name == "__orig_class__" else seen(each)) for name, each in held.items()))
    return parts
