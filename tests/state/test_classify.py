"""What kind of value each type has: a table, and that writing, reading and the search for secrets agree with it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
import re
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks._public_path import public_path
from railtracks.llm import MessageHistory
from railtracks.state import Cut, Form, Opaque, RecordedError, Secret
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_TYPES, TEXT_TYPES, Kind, classify, classify_value
from railtracks.state._serialization._contents import members_of
from railtracks.state._serialization._encoder import Encoder, encode
from railtracks.state._serialization._secret_search import register_secrets
from railtracks.state._serialization._structuring import PARSERS
from railtracks.state._serialization._type_hints import is_named_tuple

SECRET = "Qz7-hunter2"


class Pair(NamedTuple):
    left: object
    password: object


@attrs.define
class AnAttrs:
    password: object


@dataclasses.dataclass
class ADataclass:
    password: object


class Model(pydantic.BaseModel):
    password: object


@attrs.define
class AnAttrsError(Exception):
    password: object


class Colour(enum.Enum):
    RED = "red"
    LOGIN = {"password": SECRET}


class Word(enum.StrEnum):
    HELLO = "hello"


class Money(Decimal):
    pass


class Text(str):
    __slots__ = ()


class TextWithFields(str):
    __slots__ = ()
    _fields = ("password",)


class Names(list):
    pass


class Lookup(dict):
    pass


class Queue(deque):
    pass


class APath:
    def __fspath__(self):
        return "a/b"


@attrs.frozen
class AnAttrsPath(os.PathLike):
    path: str

    def __fspath__(self):
        return self.path


KINDS: dict[Kind, list[type]] = {
    Kind.SECRET: [Secret, type("ASecret", (Secret,), {})],
    Kind.PLACEHOLDER: [Opaque, Cut, RecordedError],
    Kind.TEXT: [complex, range,
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, Decimal, Fraction, UUID, Money,
        ZoneInfo, datetime.timezone, IPv4Address, IPv6Address, IPv4Network, IPv6Network, IPv4Interface, IPv6Interface,
    ],
    Kind.ENUM: [Colour, Word, enum.Flag],
    Kind.MAPPING: [dict, Lookup, OrderedDict, Counter, ChainMap, UserDict, MappingProxyType, type(os.environ)],
    Kind.NAMED_TUPLE: [Pair],
    Kind.SEQUENCE: [list, tuple, deque, Names, MessageHistory],
    Kind.SET: [set, frozenset, type({}.keys())],
    Kind.EXCEPTION: [ValueError, KeyboardInterrupt, ExceptionGroup, AnAttrsError],
    Kind.FIELDS: [AnAttrs, ADataclass, Model, AnAttrsPath],
    Kind.NAMESPACE: [SimpleNamespace, type("ANamespace", (SimpleNamespace,), {})],
    Kind.PARTS: [slice, array, re.Pattern, UserList, UserString, type("Items", (UserList,), {})],
    Kind.BYTES: [bytes, bytearray, memoryview],
    Kind.PATH: [Path, PurePosixPath, APath],
    Kind.SCALAR: [str, int, float, bool, Text, TextWithFields],
    Kind.OPAQUE: [object, Ellipsis.__class__, type, type(None), Queue, type({}.values())],
}  # fmt: skip


def test_the_table_has_all_kinds():
    assert list(KINDS) == list(Kind)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [(kind, cls) for kind, types in KINDS.items() for cls in types],
    ids=lambda each: getattr(each, "__name__", str(each)),
)
def test_each_type_is_of_one_kind(kind, cls):
    classified = classify(cls)
    assert classified.kind is kind
    assert (classified.text is not None) == (kind is Kind.TEXT)


@pytest.mark.parametrize("cls", [AnAttrs, ADataclass, Model, AnAttrsError])
def test_fields_are_those_of_the_class(cls):
    assert classify(cls).fields == ("password",)


@pytest.mark.parametrize("cls", [dict, list, bytes])
def test_types_that_need_no_tag(cls):
    assert classify(cls).is_untagged


@pytest.mark.parametrize(
    "cls", [tuple, set, Lookup, Names, AnAttrs, MessageHistory, type("Sub", (MessageHistory,), {})]
)
def test_types_that_need_a_tag(cls):
    """A subclass of one that needs none is among them."""
    assert not classify(cls).is_untagged


def test_a_conversation_is_not_written_like_a_list():
    encoder = Encoder(Redactor())
    assert encoder.encode(MessageHistory([])) == []
    assert encoder.form is Form.TYPED
    assert encoder.notes == [("", "railtracks.llm.MessageHistory")]


# ---- classes that are not what they seem


class Proxy:
    def __init__(self, wrapped):
        self.wrapped = wrapped

    @property  # type: ignore[misc]
    def __class__(self):
        return type(self.wrapped)

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def __iter__(self):
        return iter(self.wrapped)


@pytest.mark.parametrize("wrapped", [{"a": 1}, [1], (1,), {1}, Secret(SECRET), ValueError("x"), Colour.RED, Path("a")])
def test_a_proxy_is_of_the_kind_of_what_it_stands_for(wrapped):
    assert classify_value(Proxy(wrapped)).kind is classify_value(wrapped).kind


@pytest.mark.parametrize("wrapped", [AnAttrs(1), Decimal(1), deque([1]), SimpleNamespace(a=1)])
def test_a_proxy_is_opaque_where_isinstance_does_not_decide(wrapped):
    assert classify_value(Proxy(wrapped)).kind is Kind.OPAQUE


def test_a_value_that_claims_a_class_that_is_none_is_of_its_type():
    assert classify_value(type("Odd", (list,), {"__class__": 5})()).kind is Kind.SEQUENCE


def test_a_class_whose_metaclass_raises_is_opaque():
    class Meta(type):
        def __getattr__(cls, name):
            raise RuntimeError(name)

    assert classify(Meta("Odd", (str,), {})).kind is Kind.OPAQUE


def test_a_class_registered_as_a_mapping_later_is_one_then():
    class Table:
        def items(self):
            return {"a": 1}.items()

    assert classify(Table).kind is Kind.OPAQUE
    Mapping.register(Table)
    assert classify(Table).kind is Kind.MAPPING
    assert encode(Table()) == {"a": 1}


# ---- members


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ({"a": 1, 2: "b"}, [("a", 1), (2, "b")]),
        (UserDict(a=1), [("a", 1)]),
        (Pair(1, 2), [("left", 1), ("password", 2)]),
        ([1, 2], [(None, 1), (None, 2)]),
        (deque([1]), [(None, 1)]),
        ({1}, [(None, 1)]),
        (SimpleNamespace(a=1), [("a", 1)]),
        (slice(1, 2), [(None, 1), (None, 2), (None, None)]),
        (UserList([1]), [(None, [1])]),
        (re.compile("a"), [(None, "a"), (None, 32)]),
        (array("b", [1]), [(None, "b"), (None, [1])]),
        (Colour.RED, [(None, "red")]),
        (AnAttrs(1), [("password", 1)]),
        (ADataclass(1), [("password", 1)]),
        (Model(password=1), [("password", 1)]),
        (AnAttrsError(1), [("password", 1)]),
        (ValueError("x"), []),
        ("text", []),
        (b"bytes", []),
        (Path("a"), []),
        (Decimal(1), []),
        (object(), []),
    ],
)
def test_members_of_each_kind(value, members):
    assert list(members_of(value, classify_value(value))) == members


def test_a_named_tuple_with_other_names_has_unnamed_items():
    odd = type("Odd", (Pair,), {"_fields": ("password",)})(1, SECRET)
    assert list(members_of(odd, classify_value(odd))) == [(None, 1), (None, SECRET)]


@pytest.mark.parametrize(
    "value",
    [
        {"password": SECRET}, Lookup(password=SECRET), UserDict(password=SECRET), Pair(1, SECRET), AnAttrs(SECRET),
        ADataclass(SECRET), Model(password=SECRET), Secret(SECRET), Colour.LOGIN, Proxy({"password": SECRET}),
        MappingProxyType({"password": SECRET}), SimpleNamespace(password=SECRET), UserList([{"password": SECRET}]),
        slice({"password": SECRET}), slice(Secret(SECRET)),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: (v,), lambda v: deque([v]), AnAttrs, Names])
def test_the_search_finds_the_secrets_that_the_encoder_masks(value, wrap):
    encoded, searched = Redactor(), Redactor()
    wrapped = wrap([value])
    Encoder(encoded).encode(wrapped)
    register_secrets(wrapped, searched)
    assert SECRET in encoded.known
    assert searched.known == encoded.known


@pytest.mark.parametrize("value", ["text", 1, 1.5, True, b"bytes", None])
def test_scalar_types_have_no_members(value):
    assert type(value) in SCALAR_TYPES
    assert list(members_of(value, classify_value(value))) == []


# ---- texts

DAY = datetime.timedelta(days=1) - datetime.timedelta(microseconds=1)
TEXTS = {
    datetime.datetime: st.datetimes() | st.datetimes(timezones=st.just(datetime.UTC)),
    datetime.date: st.dates(),
    datetime.time: st.times(),
    datetime.timedelta: st.timedeltas(),
    Decimal: st.decimals(allow_nan=False),
    Fraction: st.fractions(),
    UUID: st.uuids(),
    ZoneInfo: st.sampled_from(["UTC", "Europe/Berlin"]).map(ZoneInfo),
    datetime.timezone: st.timedeltas(-DAY, DAY).map(datetime.timezone),
    IPv4Address: st.ip_addresses(v=4),
    IPv6Address: st.ip_addresses(v=6),
    IPv4Network: st.builds(lambda at, size: IPv4Network((at, size), False), st.ip_addresses(v=4), st.integers(0, 32)),
    IPv6Network: st.builds(lambda at, size: IPv6Network((at, size), False), st.ip_addresses(v=6), st.integers(0, 128)),
    IPv4Interface: st.builds(lambda *parts: IPv4Interface(parts), st.ip_addresses(v=4), st.integers(0, 32)),
    IPv6Interface: st.builds(lambda *parts: IPv6Interface(parts), st.ip_addresses(v=6), st.integers(0, 128)),
    complex: st.complex_numbers(allow_nan=False),
    range: st.builds(range, st.integers(), st.integers(), st.integers(min_value=1) | st.integers(max_value=-1)),
}


def test_every_text_type_is_tried():
    assert {public_path(cls) for cls in TEXTS} == set(TEXT_TYPES)


@pytest.mark.parametrize("cls", TEXTS)
@given(st.data())
def test_what_a_text_type_writes_it_reads(cls, data):
    value = data.draw(TEXTS[cls])
    read = PARSERS[cls](encode(value))
    assert type(read) is cls
    assert read == value


@pytest.mark.parametrize("text", ["", "1 day", "P1D", "0:00", "1:2:3", "1 day, 0:00:00.5", "x 0:00:00"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a duration"):
        PARSERS[datetime.timedelta](text)


@pytest.mark.parametrize("hint", [Pair, tuple, list, list[int], None, "text", 5, AnAttrs, int | None])
def test_the_reader_of_annotations_agrees(hint):
    assert is_named_tuple(hint) == (hint is Pair)
