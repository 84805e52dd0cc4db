"""What is written of a value is all of it, or the form says that it is not."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from railtracks.state import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import form_in, inputs_text, is_lossy, parse_members, result_text
from railtracks.state._serialization._restoring import restore
from tests.effort import examples
from tests.state.seeing import CLASSES, Boxed, Color, extra, seen, values


def text_of(value: Any) -> str:
    return result_text(value, Redactor())


@examples(400)
@given(values)
def test_a_value_comes_back_as_its_owner_knew_it(value):
    text = text_of(value)
    assert form_in(text) in (Form.PLAIN, Form.TYPED)  # nothing that is drawn is lost
    members = parse_members(text)
    restored = restore(members["output"], members.get("output_types"), CLASSES)
    assert seen(restored) == seen(value)
    assert text_of(restored) == text


def test_members_written_alike_are_ordered_by_their_types():
    class Named(enum.Enum):
        X = "X"  # the hash of a member is that of its name, so that the order of the set is the order of insertion

    assert text_of({Named.X, "X"}) == text_of({"X", Named.X})


@examples(200)
@given(st.lists(values, min_size=2, max_size=12))
def test_values_that_differ_are_never_written_alike(several):
    """In anything that their owner can see, at any level."""
    found: dict[str, Any] = {}
    for value in several:
        text = text_of(value)
        if not is_lossy(form_in(text)):
            assert found.setdefault(text, seen(value)) == seen(value)


@examples(100)
@given(values, values)
def test_arguments_are_written_like_results(one, two):
    members = parse_members(inputs_text((one,), {"k": two}, Redactor()))
    data = {name: members[name] for name in ("input_args", "input_kwargs")}
    restored = restore(data, members.get("input_types"), CLASSES)
    assert seen([restored["input_args"], restored["input_kwargs"]]) == seen([[one], {"k": two}])


@examples(200)
@given(values)
@example([Color.PAIR, Color.LIST])
def test_types_stand_at_places_that_exist(value):
    members = parse_members(text_of(value))
    for place in members.get("output_types", {}):
        assert list(parts_at(members["output"], place.split("/")[1:]))


def parts_at(data: Any, segments: list[str]) -> Any:
    """Yield what a place means, as the page on the format says."""
    if not segments:
        yield data
        return
    first, rest = segments[0], segments[1:]
    of_key, name = first.startswith("~3"), first.removeprefix("~3")
    keys = list(range(len(data))) if isinstance(data, list) else list(data)
    for key in keys:
        if name in ("*", str(key).replace("~", "~0").replace("/", "~1").replace("*", "~2" if key == "*" else "*")):
            yield from parts_at(key if of_key else data[key], rest)


def test_ten_thousand_items_of_one_type_have_one_entry():
    from decimal import Decimal

    members = parse_members(text_of([{"at": [Decimal(n)]} for n in range(10_000)]))
    assert members["output_types"] == {"/*/at/0": "decimal.Decimal"}


def test_the_order_of_sets_is_that_of_what_is_written():
    """Sets in sets are ordered by inclusion only, and their reprs differ from process to process."""
    text = text_of({frozenset({"b", "a"}), frozenset({"c"}), frozenset()})
    assert json.loads(f"{{{text}}}")["output"] == [["a", "b"], ["c"], []]


def test_an_attribute_that_cannot_be_written_makes_it_lossy():
    value = extra({"x": 1}, None)
    value._hidden = object()
    assert form_in(text_of(value)) is Form.OPAQUE


def test_a_secret_in_an_attribute_is_masked():
    value = extra({"x": 1, "password": "correct horse"}, {"api_key": "battery staple"})
    text = text_of(value)
    assert form_in(text) is Form.MASKED
    assert "horse" not in text
    assert "staple" not in text


@pytest.mark.parametrize("made", [Boxed(1), Boxed[str]("a")])
def test_an_alias_that_no_annotation_names_is_not_restored(made):
    members = parse_members(text_of(made))
    if isinstance(members["output_types"][""], str):
        assert seen(restore(members["output"], members["output_types"], CLASSES)) == seen(made)
    else:
        with pytest.raises(ValueError, match="which no annotation names"):
            restore(members["output"], members["output_types"], CLASSES)
