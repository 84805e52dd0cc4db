"""JSON Schemas as data: references, and what they refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

_REF = "#/$defs/"
_ONE = frozenset({"items", "additionalProperties", "propertyNames", "not", "if", "then", "else", "contains"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords under which schemas stand: one, a list, or by name. Anything else is data, whatever it looks like."""

Schema = dict[str, Any]


def compact(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    """The schema with its definitions: those that are referred to once in place of that."""
    counts: Counter[str] = Counter()
    _count(schema, defs, counts)
    kept = {name for name, count in counts.items() if count > 1}  # in each circle one: where it is entered, and closed

    def placed(part: Schema) -> Schema:
        name = target_of(part)
        if name is None or name in kept:
            return map_parts(part, placed)
        beside = {key: value for key, value in part.items() if key != "$ref"}
        return {**placed(defs[name]), **beside}

    done = placed(schema)
    if (top := target_of(done)) is not None:  # what is asked for has to be there itself
        done = {**placed(defs[top]), **{key: value for key, value in done.items() if key != "$ref"}}
    return {**done, "$defs": {name: placed(defs[name]) for name in defs if name in kept}} if kept else done


def renamed(schema: Schema, names: Mapping[str, str]) -> Schema:
    """The schema with its references to other names; without what is no JSON Schema and has references too."""

    def change(part: Schema) -> Schema:
        name = target_of(part)
        own = {key: value for key, value in part.items() if key != "discriminator"}
        return map_parts(own if name is None else {**own, "$ref": _REF + names[name]}, change)

    return change(schema)


def target_of(schema: Schema) -> str | None:
    """The name of the definition that it refers to."""
    ref = schema.get("$ref")
    return ref.removeprefix(_REF) if isinstance(ref, str) else None


def _count(schema: Schema, defs: Mapping[str, Schema], counts: Counter[str]) -> None:
    name = target_of(schema)
    if name is not None:
        counts[name] += 1
        if counts[name] == 1:
            _count(defs[name], defs, counts)

    def look(part: Schema) -> Schema:
        _count(part, defs, counts)
        return part

    map_parts(schema, look)


def map_parts(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A copy of the schema with its direct parts changed, but for its definitions."""
    new = dict(schema)
    for key, value in schema.items():
        if key in _ONE and isinstance(value, dict):
            new[key] = change(value)
        elif key in _LISTS:
            new[key] = [change(each) if isinstance(each, dict) else each for each in value]
        elif key in _NAMED:
            new[key] = {name: change(each) if isinstance(each, dict) else each for name, each in value.items()}
    return new
