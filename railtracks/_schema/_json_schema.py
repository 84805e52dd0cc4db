"""JSON Schemas as data: references and the definitions that they refer to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

_REF = "#/$defs/"
_SINGLE = frozenset({"items", "additionalProperties", "propertyNames", "not", "if", "then", "else", "contains"})
"""Keywords whose value is a schema."""
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords whose value is an object of schemas. The value of any other keyword is data, even if it looks like one."""

Schema = dict[str, Any]


def inline_single_use(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    """Return the schema with its definitions; those that are referred to once replace their reference.

    Of definitions that refer to each other in a circle, the one where the circle is entered stays a definition.
    """
    counts: Counter[str] = Counter()
    _count_references(schema, defs, counts)
    kept = {name for name, count in counts.items() if count > 1}  # the entry of a circle: the circle refers to it too

    def inline(part: Schema) -> Schema:
        name = referenced_name(part)
        if name is None or name in kept:
            return map_parts(part, inline)
        beside = {key: value for key, value in part.items() if key != "$ref"}
        return {**inline(defs[name]), **beside}

    done = inline(schema)
    if (top := referenced_name(done)) is not None:  # the top level of a schema must not be a reference
        done = {**inline(defs[top]), **{key: value for key, value in done.items() if key != "$ref"}}
    return {**done, "$defs": {name: inline(defs[name]) for name in defs if name in kept}} if kept else done


def rename_references(schema: Schema, names: Mapping[str, str]) -> Schema:
    """Return the schema with references to new names.

    OpenAPI's ``discriminator`` is dropped: it is not part of JSON Schema, and it holds references too.
    """

    def rename(part: Schema) -> Schema:
        name = referenced_name(part)
        own = {key: value for key, value in part.items() if key != "discriminator"}
        return map_parts(own if name is None else {**own, "$ref": _REF + names[name]}, rename)

    return rename(schema)


def reference_to(name: str) -> Schema:
    """Return a schema that refers to a definition."""
    return {"$ref": _REF + name}


def referenced_name(schema: Schema) -> str | None:
    """Return the name of the definition that a schema refers to; None if it is not a reference."""
    ref = schema.get("$ref")
    return ref.removeprefix(_REF) if isinstance(ref, str) else None


def _count_references(schema: Schema, defs: Mapping[str, Schema], counts: Counter[str]) -> None:
    name = referenced_name(schema)
    if name is not None:
        counts[name] += 1
        if counts[name] == 1:
            _count_references(defs[name], defs, counts)

    def visit(part: Schema) -> Schema:
        _count_references(part, defs, counts)
        return part

    map_parts(schema, visit)


def map_parts(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """Return a copy of the schema in which ``change`` replaced each direct part, except in ``$defs``."""
    new = dict(schema)
    for key, value in schema.items():
        if key in _SINGLE and isinstance(value, dict):
            new[key] = change(value)
        elif key in _LISTS:
            new[key] = [change(each) if isinstance(each, dict) else each for each in value]
        elif key in _NAMED:
            new[key] = {name: change(each) if isinstance(each, dict) else each for name, each in value.items()}
    return new
