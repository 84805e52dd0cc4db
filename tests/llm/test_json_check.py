"""JSON data against JSON Schemas, as the jsonschema package sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks._schema._json_check import fitted
from railtracks._schema._problems import Problems

NAMES = st.sampled_from(["a", "b", "c"])
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, "", "a", "abc", "1", "[1]", "true"])
)
DATA = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
SMALL = st.integers(0, 3)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])


def members(inner):
    return st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
            "enum": st.lists(DATA, min_size=1, max_size=3),
            "const": PLAIN,
            "minimum": st.integers(-3, 3), "exclusiveMaximum": st.integers(-3, 3), "multipleOf": st.integers(1, 3),
            "minLength": SMALL, "maxLength": SMALL, "pattern": st.sampled_from(["^a", "b", "^$"]),
            "items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "minItems": SMALL, "maxItems": SMALL, "uniqueItems": st.booleans(),
            "properties": st.dictionaries(NAMES, inner, max_size=2),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": inner, "patternProperties": st.dictionaries(st.just("^[ab]"), inner),
            "minProperties": SMALL, "maxProperties": SMALL,
            **{each: st.lists(inner, min_size=1, max_size=2) for each in ("anyOf", "oneOf", "allOf")},
            "not": inner,
            "$ref": st.just("#/$defs/small"),
        },
    )  # fmt: skip


SCHEMAS = st.recursive(st.booleans(), members, max_leaves=6)
DEFS = {"small": {"type": ["integer", "string"], "maximum": 1}}


@given(DATA, SCHEMAS)
def test_it_agrees_with_jsonschema(data, schema):
    whole = {**schema, "$defs": DEFS} if isinstance(schema, dict) else schema
    validator = pytest.importorskip("jsonschema").Draft202012Validator(whole)
    try:
        value = fitted(data, whole)
    except Problems:
        assert not validator.is_valid(data)
    else:
        assert validator.is_valid(value)
        if validator.is_valid(data):
            assert value == data


@pytest.mark.parametrize(
    ("data", "schema", "value"),
    [
        ("5", {"type": "integer"}, 5),
        (5.0, {"type": "integer"}, 5),
        ("5", {"type": ["integer", "string"]}, "5"),
        ("5", {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "5"),
        ("5", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 5),
        ('{"a": "1"}', {"type": "object", "properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ("[1, 2]", {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array"}}}, [1, 2]),
        ("2", {"enum": [1, 2]}, 2),
    ],
)
def test_readings_that_lose_nothing_are_taken(data, schema, value):
    read = fitted(data, schema)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("data", "schema", "problem"),
    [
        (1, {"type": "string"}, "expected a string, got 1"),
        (True, {"type": "integer"}, "expected an integer, got true"),
        ("abc", {"maxLength": 2}, "expected at most 2 characters, got 3"),
        (1, {"anyOf": [{"type": "string"}, {"type": "null"}]},
         "expected a string, got 1, and none of the other alternatives fits (2 in all)"),
        ([1, 1], {"uniqueItems": True}, "the items must differ from each other"),
    ],
)  # fmt: skip
def test_problems_say_what_was_expected(data, schema, problem):
    with pytest.raises(Problems) as caught:
        fitted(data, schema)
    assert [text for _, text in caught.value.found] == [problem]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/other.json"},
        {"$ref": "#/$defs/missing"},
        {"pattern": r"\p{L}"},
        {"format": "email"},
        {"if": {"type": "string"}, "then": False},
    ],
)
def test_what_cannot_be_checked_is_passed_on(schema):
    assert fitted("text", schema) == "text"
