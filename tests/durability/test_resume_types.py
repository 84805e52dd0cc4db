"""The results of calls come back as what they were, or the call runs again."""

from __future__ import annotations

import datetime
import decimal
import math
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._plain_data import MAX_ITEMS, MAX_TEXT
from tests.durability.values import TYPED, WHEN, Base, Circle, Color, Derived, Holder, Level, Point, Square, Word
from tests.durability.world import failing, failing_once, flow_of, reasons, resumed

pytestmark = pytest.mark.either_backend


async def twice(world, annotation, value):
    """Return the result of a call in a run that resumes one in which it completed, and why it ran, if it did."""

    async def typed():
        world.note("typed")
        return value

    if annotation is not None:
        typed.__annotations__["return"] = annotation
    node = rt.function_node(typed)
    results = []

    async def main():
        results.append(await rt.call(node))
        await rt.call(world.step, "x")

    flow = flow_of(main)
    await failing_once(flow, world, "x")
    _, session = await resumed(flow)
    ran_again = "typed" in world.ran()
    assert ran_again == ("typed" in reasons(session.info))
    return results[-1], reasons(session.info).get("typed")


@pytest.mark.parametrize("name", TYPED)
async def test_a_result_comes_back_as_what_its_annotation_says(world, name):
    annotation, value = TYPED[name]
    result, why = await twice(world, annotation, value)
    assert why is None
    assert (type(result), result, repr(result)) == (type(value), value, repr(value))


PLAIN = [
    None,
    True,
    0,
    -1.5,
    math.inf,
    "",
    "text\x00\u2028\U0001f600",
    [],
    [1, ["a", None]],
    {"a": {"b": 1}},
    b"\xff",
    {1: "a"},
    2**2000,
    -0.0,
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
async def test_a_plain_result_needs_no_annotation(world, value):
    result, why = await twice(world, None, value)
    assert why is None
    assert (type(result), result) == (type(value), value)


@pytest.mark.parametrize("annotation", [None, Any, object], ids=str)
async def test_a_class_without_an_annotation_runs_again_with_a_reason(world, annotation):
    """A call that returns an instance of a user's class without an annotation runs again, and the reason says so."""
    result, why = await twice(world, annotation, Point(1, 2))
    assert result == Point(1, 2)
    assert "type" in why
    assert "annotate" in why
    assert "tests.durability.values.Point" in why


@pytest.mark.parametrize("annotation", [None, Any, object, "NoSuchName"], ids=str)
async def test_a_type_of_the_standard_library_needs_no_annotation(world, annotation):
    value = (1, [WHEN, {Path("a"): deque([2], 3)}])
    result, why = await twice(world, annotation, value)
    assert why is None
    assert repr(result) == repr(value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Point, (1, 2)),
        (int, Point(1, 2)),
        (Square, Point(1, 2)),
        (Color, Point(1, 2)),
        ("NoSuchName", Point(1, 2)),
        (datetime.datetime, Path("x")),
        (Point | Square, Circle(1)),
        (Point, {"x": 1, "y": 2}),
        (datetime.date, "2026-01-02"),
        (list[Point], (Point(1, 2),)),
        (dict[str, float], {"a": decimal.Decimal(1)}),
    ],
    ids=str,
)
async def test_result_that_does_not_fit_its_annotation_runs_again(world, annotation, value):
    result, why = await twice(world, annotation, value)
    assert result == value
    assert "annotation" in why


async def test_the_type_on_record_decides_between_members_of_a_union(world):
    result, why = await twice(world, Point | Square | Circle, Circle(1))
    assert why is None
    assert type(result) is Circle


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict[str, Any], {"when": WHEN}),
        (dict, {"a": (1, 2)}),
        (list, [(1, 2)]),
        (list[Any], [Color.RED]),
        (tuple, ((1, 2), [3])),
        (Holder, Holder(WHEN)),
        (Base, Derived(1)),
        (list[Base], [Base(1), Derived(2)]),
        (str | Path, Path("a")),
        (str | datetime.datetime, WHEN),
        (str | Color, Color.RED),
        (float, Level.LOW),
        (str, Word.ONE),
        (Sequence[int], (1, 2)),
        (Sequence[int], deque([1, 2])),
        (tuple[float, ...], (1, 2.0)),
        (PurePosixPath, Path("a")),
        (list[int] | tuple[int, ...], (1, 2)),
        (set[float], {1, 2}),
    ],
    ids=repr,
)
async def test_a_result_is_never_of_another_type_than_it_was(world, annotation, value):
    """Where an annotation says less than the value was, the call may run again, but nothing else may come back."""
    result, _ = await twice(world, annotation, value)
    assert (type(result), result, repr(result)) == (type(value), value, repr(value))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (threading.Lock(), "a value has no written form"),
        ([object()], "a value has no written form"),
        ({"api_key": "sk-123456"}, "a secret is masked"),
        (rt.Secret("hidden-text"), "a secret is masked"),
        ("x" * (MAX_TEXT + 1), "too large, or nested too deeply"),
        (list(range(MAX_ITEMS + 1)), "too large, or nested too deeply"),
        (1 << 4 * MAX_TEXT, "too large, or nested too deeply"),
    ],
    ids=["lock", "object", "api key", "secret", "long text", "long list", "huge number"],
)
async def test_result_that_is_not_all_on_record_runs_again(world, value, why, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_MAX_VALUE_BYTES", "10000")
    result, reason = await twice(world, Any, value)
    assert result is value
    assert f"not all on record ({why})" in reason


async def test_a_registered_type_comes_back_by_its_hooks(world):
    class Money:
        def __init__(self, cents):
            self.cents = cents

    rt.state.register_hooks(Money, lambda m: m.cents, Money)
    result, why = await twice(world, None, Money(5))
    assert why is None
    assert (type(result), result.cents) == (Money, 5)


async def test_type_not_registered_in_this_process_runs_again(world):
    """A result of a registered type runs again in a process in which the type is not registered."""

    class Money:
        pass

    async def make():
        return Money()

    async def main():
        result = await rt.call(make)
        await rt.call(world.step, "x")
        results.append(result)

    rt.state.register_hooks(Money, lambda m: 5, lambda data: Money())
    results = []
    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow)
    world.broken.clear()
    registered_types.reset()
    connection = flow.connect()
    await connection.aresume("run")
    assert type(results[-1]) is Money
    assert "make" in reasons(connection.session.info)


@pytest.mark.parametrize("name", ["float64", "float32", "int32", "uint8", "bool_", "str_", "bytes_", "complex128"])
async def test_a_scalar_of_numpy_needs_no_annotation(world, name):
    numpy = pytest.importorskip("numpy")
    value = [getattr(numpy, name)("1" if name == "str_" else b"1" if name == "bytes_" else 1)] * 2
    result, why = await twice(world, None, value)
    assert why is None
    assert [(type(each), repr(each)) for each in result] == [(type(each), repr(each)) for each in value]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is new in Python 3.12")
@pytest.mark.parametrize(
    ("statement", "hint", "value"),
    [
        ("type Alias = Point", "Alias", Point(1, 2)),
        ("type Alias[T] = dict[str, T]", "Alias[Point]", {"a": Point(1, 2)}),
        ("type Alias = Point | list[Alias]", "Alias", [Point(1, 2), [Point(3, 4)]]),
    ],
)
async def test_an_alias_of_a_type_statement_names_what_it_is_for(world, statement, hint, value):
    namespace: dict[str, Any] = {"Point": Point}
    exec(statement, namespace)
    result, why = await twice(world, eval(hint, namespace), value)
    assert why is None
    assert result == value


class Animal(pydantic.BaseModel):
    name: str


class Dog(Animal):
    collar: Square


@pytest.mark.parametrize(("annotation", "value"), [(Animal, Dog), (list[Animal], lambda **kwargs: [Dog(**kwargs)])])
async def test_a_subclass_of_what_the_annotation_names_comes_back(world, annotation, value):
    """And so does what the fields of the subclass name."""
    made = value(name="Rex", collar=Square(1))
    result, why = await twice(world, annotation, made)
    assert why is None
    assert repr(result) == repr(made)


def changed(fields):
    """Return a class that is on record under one name, whatever its fields are."""
    made = attrs.make_class("Changed", fields)
    made.__module__, made.__qualname__ = __name__, "Changed"
    return made


@pytest.mark.parametrize(
    "fields",
    [{"x": attrs.field(type=int), "y": attrs.field()}, {}, {"x": attrs.field(type=str)}],
    ids=["one more without a default", "one less", "another type"],
)
async def test_a_class_whose_fields_have_changed_runs_its_call_again(world, fields):
    before, after = changed({"x": attrs.field(type=int)}), changed(fields)

    async def give():
        world.note("give")
        return before(1)

    async def main():
        await rt.call(rt.function_node(give))
        await rt.call(world.step, "x")

    flow = flow_of(main)
    give.__annotations__["return"] = before
    await failing_once(flow, world, "x")
    give.__annotations__["return"] = after
    _, session = await resumed(flow)
    assert world.ran() == ["give", "x"]
    assert reasons(session.info)["give"]
