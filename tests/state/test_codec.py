"""Values to plain data and back."""

import base64
import enum
import json
import math
import os
import threading
import uuid
from collections import OrderedDict, UserDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from railtracks.exceptions import ConfigError, StateError
from railtracks.state import ExecutionInfo, Opaque, RecordedError, register_hooks
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._encoder import encode
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._plain_data import MAX_DEPTH, MAX_ITEMS, MAX_PARTS, MAX_REPR, MAX_TEXT
from railtracks.state._transitions import RTState


class Pair(NamedTuple):
    left: object
    right: object


class Colour(enum.Enum):
    RED = "red"


class Word(enum.StrEnum):
    HELLO = "hello"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


@attrs.define
class AnAttrs:
    value: object


@dataclass
class ADataclass:
    value: object
    missing: object = field(init=False)


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    value: object


class BadRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


class BadError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class BadMapping(UserDict):
    def items(self):
        raise RuntimeError("changed under the reader")


class BadAttribute:
    @property
    def __dict__(self):  # type: ignore[override]
        raise RuntimeError("no attributes")


class BytesPath:
    def __fspath__(self):
        return b"folder/file"


def raised(exc):
    try:
        raise exc
    except Exception as caught:
        return caught


def cycle():
    value: list[Any] = [1]
    value.append({"self": value})
    return value


def nested(depth, wrap):
    value = "core"
    for _ in range(depth):
        value = wrap(value)
    return value


numbers = st.integers() | st.floats() | st.sampled_from([2**1023, 2**1024, -(10**400), math.nan, -math.inf])
texts = st.text(st.characters(exclude_categories=[])) | st.sampled_from(["\ud800", "$type", "$cut", "", "a\0b"])
dates = st.datetimes() | st.dates() | st.times() | st.timedeltas()
ODD = [
    Colour.RED, Word.HELLO, Number.ONE, Text("sub"), Path("a/b"), PurePosixPath("/x"), object(), BadRepr(),
    BadMapping(a=1), BadAttribute(), ADataclass(1), ValueError("x"), raised(KeyError("k")), BadError("x"),
    ExceptionGroup("g", [ValueError()]), RecordedError("a.B", "m", "t"), cycle(), len, int,
    Opaque("a.B", {"$type": "a.B", "$repr": "<B>"}),
    lambda: None, threading.Lock(), range(3), (i for i in ()), NotImplemented, ..., 1j, memoryview(b"ab"),
    bytearray(b"x"), datetime(2026, 1, 1, tzinfo=UTC), Model(value=BadRepr()),
]  # fmt: skip
odd = st.integers(0, len(ODD) - 1).map(lambda i: ODD[i])  # sampled_from would print them
plain_keys = st.none() | st.booleans() | numbers | texts | st.binary(max_size=4)
TEXT_LIKE = [Word.HELLO, Text("sub"), Path("a"), uuid.UUID(int=1), Decimal(1), date(2026, 1, 1)]
text_like_keys = st.integers(0, len(TEXT_LIKE) - 1).map(lambda i: TEXT_LIKE[i])
keys = plain_keys | st.tuples(plain_keys) | st.frozensets(plain_keys, max_size=2) | text_like_keys
leaves = (
    st.none() | st.booleans() | numbers | texts | st.binary() | dates | st.uuids() | st.decimals() | st.fractions()
    | odd
)  # fmt: skip


def containers(inner):
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=2).map(UserDict)
        | st.builds(Pair, inner, inner)
        | st.builds(AnAttrs, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Model, value=inner)
        | st.frozensets(plain_keys, max_size=3)
    )


values = st.recursive(leaves, containers, max_leaves=12)


@given(values)
def test_any_value_becomes_json_that_is_read_back_unchanged(value):
    data = encode(value)
    assert json.loads(json.dumps(data, allow_nan=False)) == data


@given(values)
def test_what_was_read_is_written_as_it_was(value):
    data = encode(value)
    assert encode(decode(data)) == data


plain_leaves = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | texts
plain_values = st.recursive(plain_leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text("0123"), inner))


@given(plain_values)
def test_plain_data_comes_back_as_it_was(value):
    assert decode(encode(value)) == value


@given(st.dictionaries(st.sampled_from(["$type", "$repr", "$value", "$cut", "$items", "$traceback"]), texts))
def test_a_mapping_cannot_forge_the_marks_of_the_file(mapping):
    assert decode(encode(mapping)) == mapping


@pytest.mark.parametrize(
    "value",
    [
        {uuid.UUID(int=1): 1},
        {Word.HELLO: 1},
        {Decimal(1): "a", "1": "b"},
        {(1,): "a", frozenset({1}): "b"},
        {Point(1, 2): "there"},
        {object(): 1},
        {ValueError("x"): 1},
        dict.fromkeys(range(MAX_ITEMS + 1)),
        {str(n): n for n in range(MAX_ITEMS + 1)},
        bytes(MAX_TEXT),
        Decimal("1" * (MAX_TEXT + 1)),
        "x" * (MAX_TEXT + 1),
        list(range(MAX_ITEMS + 1)),
        nested(MAX_DEPTH - 1, lambda inner: {1: inner}),
        [nested(n, lambda inner: {1: inner}) for n in range(70)],
        [dict.fromkeys(range(9_000)) for _ in range(12)],
        [{str(n): n for n in range(9_000)} for _ in range(12)],
        [list(range(9_000)) for _ in range(12)],
    ],
    ids=[
        "uuid-key", "enum-key", "keys-of-one-text", "keys-of-one-list", "dataclass-key", "object-key", "error-key",
        "many-numbers-as-keys", "many-keys", "many-bytes", "long-decimal", "long-text", "long-list", "deep-pairs",
        "all-depths-of-pairs", "too-many-pairs-in-all", "too-many-entries-in-all", "too-many-items-in-all",
    ],
)  # fmt: skip
def test_marks_and_odd_keys_survive_reading_and_writing(value):
    data = encode(value)
    assert encode(decode(data)) == data


@pytest.mark.parametrize(
    "value",
    [BytesPath(), Path("x" * 70_000), RecordedError(int, ValueError(), None)],  # type: ignore[arg-type]
    ids=["path-of-bytes", "long-path", "recorded-error-by-hand"],
)
def test_whatever_it_is_json_can_write_it(value):
    data = encode(value)
    assert json.loads(json.dumps(data)) == data


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, None),
        (Word.HELLO, "hello"),
        (Number.ONE, 1),
        (Text("sub"), "sub"),
        (Pair(1, (2,)), [1, [2]]),
        (deque([1]), [1]),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (time(1, 2), "01:02:00"),
        (timedelta(seconds=1), "0:00:01"),
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b"), "a/b".replace("/", os.sep)),
        (AnAttrs([1]), {"value": [1]}),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Model(value={"a": Point(1, 2)}), {"value": {"a": {"x": 1, "y": 2}}}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (-(2**1100), {"$type": "int", "$repr": hex(-(2**1100))}),
        (math.inf, {"$type": "float", "$repr": "inf"}),
        (3j, "3j"),
        (range(1, 9, 2), "1:9:2"),
        ({uuid.UUID(int=1): 1}, {"00000000-0000-0000-0000-000000000001": 1}),
        (b"ab", {"$type": "bytes", "$base64": base64.b64encode(b"ab").decode()}),
        ({1: "a"}, {"$type": "dict", "$items": [[1, "a"]]}),
    ],
)  # fmt: skip
def test_each_known_type_has_one_form(value, data):
    assert encode(value) == data


@example(cycle())
@given(odd)
def test_one_bad_part_does_not_spoil_the_others(part):
    assert encode(["before", part, {"k": part}, "after"])[0::3] == ["before", "after"]


@pytest.mark.parametrize("number", [2**1024, -(2**1024), 10**5000, -(7**9000)], ids=["1", "2", "3", "4"])
def test_a_number_of_more_digits_than_python_prints_comes_back(number):
    assert encode(number) == {"$type": "int", "$repr": hex(number)}
    assert decode(encode(number)) == number


def test_a_number_that_is_longer_than_any_text_is_cut():
    data = encode(1 << 4 * MAX_TEXT)
    assert data["$type"] == "int"
    assert len(data["$repr"]) == MAX_TEXT
    assert decode(data) == Opaque("int", data)


def test_an_unknown_object_is_written_as_type_and_repr():
    shown = {"$type": "dict_values", "$repr": "dict_values([3])"}
    assert encode({1: 3}.values()) == shown
    assert decode(encode({1: 3}.values())) == Opaque("dict_values", shown)


def test_a_long_repr_is_cut():
    assert len(encode({1: "x" * 2_000}.values())["$repr"]) == MAX_REPR


def test_a_repr_that_raises_is_named():
    data = encode(BadRepr())
    assert data["$type"] == f"{__name__}.BadRepr"
    assert data["$repr"] == "<repr of BadRepr raised RuntimeError>"


def test_an_exception_keeps_its_type_message_and_traceback():
    data = encode(raised(KeyError("k")))
    assert data["$type"] == "KeyError"
    assert data["$message"] == "'k'"
    assert "in raised" in data["$traceback"]
    loaded = decode(data)
    assert isinstance(loaded, RecordedError)
    assert str(loaded) == "KeyError: 'k'"


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: {1: v}, lambda v: (v,), AnAttrs])
def test_nesting_of_any_depth_is_cut_at_one_level(wrap):
    data = encode(nested(500, wrap))
    assert json.dumps(data).count("too deep") == 1
    assert encode(decode(data)) == data


def test_a_value_that_occurs_twice_is_not_a_cycle():
    shared = {"a": 1}
    assert encode([shared, shared]) == [{"a": 1}, {"a": 1}]


def test_a_cycle_is_marked_where_it_closes():
    value = {}
    value["self"] = value
    assert encode(value) == {"self": {"$type": "dict", "$repr": "<cycle or too deep>"}}


@given(st.integers(0, 100))
def test_long_text_is_cut_to_the_limit_with_a_mark_of_its_length(excess):
    data = encode("x" * (MAX_TEXT + excess))
    assert len(data) == MAX_TEXT
    assert data.endswith(f"[{MAX_TEXT + excess} characters in all]") == (excess > 0)


@pytest.mark.parametrize("value", [Decimal("1" * 70_000), Path("x" * 70_000), Text("x" * 70_000)], ids=type)
def test_whatever_becomes_text_is_cut_like_text(value):
    assert len(encode(value)) <= MAX_TEXT


def test_a_long_list_is_cut_with_a_mark_of_what_is_missing():
    data = encode(list(range(MAX_ITEMS + 5)))
    assert data == [*range(MAX_ITEMS), {"$cut": 5}]


def test_many_parts_in_all_are_cut_wherever_they_are():
    text = json.dumps(encode([[0] * 1_000 for _ in range(500)]))
    assert text.count("0,") <= MAX_PARTS
    assert "$cut" in text


# ---- hooks


class Money:
    def __init__(self, cents):
        self.cents = cents

    def __eq__(self, other):
        return isinstance(other, Money) and self.cents == other.cents

    __hash__ = None  # type: ignore[assignment]


def info_of(result):
    state = RTState()
    state.succeeded(state.created("node", "Tool", (result,), {}, None, 0.0), result, 1.0)
    return ExecutionInfo("s", records=state.snapshot())


def test_a_registered_type_is_written_and_brought_back(tmp_path):
    register_hooks(Money, lambda money: {"cents": money.cents}, lambda data: Money(data["cents"]))
    info = info_of([Money(5)])
    info.save(tmp_path / "state.json")
    loaded = ExecutionInfo.load(tmp_path / "state.json")
    assert loaded.answer == [Money(5)]
    assert loaded == info


def test_a_hook_serves_the_subclasses_too():
    register_hooks(Money, lambda money: money.cents, Money)
    assert decode(encode(type("Euro", (Money,), {})(7))) == Money(7)


def test_what_a_hook_returns_is_encoded_in_turn():
    register_hooks(Money, lambda money: {"at": date(2026, 1, 2), "cents": money.cents}, lambda data: data)
    assert encode(Money(1))["$value"] == {"at": "2026-01-02", "cents": 1}


def test_a_registered_type_without_its_hook_stays_as_written():
    register_hooks(Money, lambda money: [money.cents], lambda data: Money(*data))
    data = encode(Money(5))
    registered_types.reset()
    assert decode(data) == Opaque(f"{__name__}.Money", data)
    assert encode(decode(data)) == data


def test_a_hook_that_raises_when_writing_gives_type_and_repr():
    register_hooks(Money, lambda money: 1 / 0, Money)
    money = Money(1)
    assert encode([money, 2]) == [{"$type": f"{__name__}.Money", "$repr": repr(money)}, 2]


def test_a_hook_that_raises_on_reading_is_a_state_error(tmp_path):
    """The error names the file and the place in it."""
    register_hooks(Money, lambda money: money.cents, lambda data: 1 / 0)  # type: ignore[arg-type, return-value]
    info_of(Money(5)).save(tmp_path / "state.json")
    with pytest.raises(StateError, match=r"state\.json: input_args of .*-e0") as caught:
        ExecutionInfo.load(tmp_path / "state.json")
    assert "division by zero" in str(caught.value)


def test_a_registered_value_is_masked_and_cut_like_any_other():
    register_hooks(Money, lambda money: {"token": "t", "text": "x" * (MAX_TEXT + 1)}, Money)
    data = encode(Money(1))["$value"]
    assert data["token"] == "***"
    assert len(data["text"]) == MAX_TEXT


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((Money(1), str, str), "expected a class, got"),
        ((Money, None, str), "unstructure must be a function of one argument, got None"),
        ((Money, str, 5), "structure must be a function of one argument, got 5"),
    ],
)
def test_wrong_hooks_are_refused_with_their_name(arguments, named):
    with pytest.raises(ConfigError, match=named):
        register_hooks(*arguments)
