"""Schemas within the limits of the providers that enforce them.

What a provider does not know of stands in the descriptions, for the model to read: the answer is checked in any case.
Each rule has its source beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from railtracks._schema._entries import value_schema
from railtracks._schema._json_schema import referenced_name

Schema = dict[str, Any]

_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_NEVER_SAID = {"title", "$schema", "discriminator", "examples", "$defs"}
"""Keywords that say nothing which a model has to follow."""


class UnfitError(ValueError):
    """A provider cannot enforce a schema. The text says what in it."""


@attrs.frozen
class Limits:
    """What the schemas of a provider may hold.

    Args:
        is_all_required: Whether all properties must be required.
        has_recursion: Whether a schema may refer to itself.
        formats: The formats of texts.
    """

    is_all_required: bool
    has_recursion: bool
    formats: frozenset[str]


OPENAI = Limits(is_all_required=True, has_recursion=True, formats=_FORMATS)
"""https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"""
ANTHROPIC = Limits(is_all_required=False, has_recursion=False, formats=_FORMATS | {"uri"})
"""https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs#json-schema-limitations"""


def fitted(schema: Mapping[str, Any], limits: Limits) -> Schema:
    """Return a schema within the limits, whose values are values of the given one.

    Maps become lists of entries; ``railtracks._schema._entries`` reads them.

    Raises:
        UnfitError: There is none.
    """
    definitions = schema.get("$defs", {})
    if not limits.has_recursion and any(_reaches(name, definitions[name], definitions, set()) for name in definitions):
        raise UnfitError("a type in it refers to itself")
    fitter = _Fitter(limits, definitions)
    done = fitter.of(schema)
    if definitions:
        done["$defs"] = {name: fitter.of(each) for name, each in definitions.items()}
    return done


def _reaches(name: str, schema: Any, definitions: Mapping[str, Any], seen: set[str]) -> bool:
    """Return whether a schema refers to the definition ``name``, by others or directly."""
    if isinstance(schema, list):
        return any(_reaches(name, each, definitions, seen) for each in schema)
    if not isinstance(schema, dict):
        return False
    target = referenced_name(schema)
    if target == name:
        return True
    if target is not None and target not in seen:
        seen.add(target)
        if _reaches(name, definitions.get(target), definitions, seen):
            return True
    return any(_reaches(name, each, definitions, seen) for each in schema.values())


class _Fitter:
    """Fits the parts of one schema."""

    def __init__(self, limits: Limits, definitions: Mapping[str, Any]) -> None:
        self._limits, self._definitions = limits, definitions

    def of(self, given: Any) -> Schema:
        """Return a part of the schema within the limits."""
        if not isinstance(given, Mapping) or not given:
            raise UnfitError("it allows any value")
        rest = {name: value for name, value in given.items() if name not in _NEVER_SAID}
        done = self._core(rest)  # takes out of `rest` what it has used
        description = rest.pop("description", None)
        more = "{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}" if rest else None
        if texts := [text for text in (description, done.pop("description", None), more) if text]:
            if "$ref" in done:  # nothing may stand beside a reference
                done = {"anyOf": [done]}
            done["description"] = "\n\n".join(texts)
        return done

    def _core(self, rest: Schema) -> Schema:
        if "$ref" in rest:
            return {"$ref": rest.pop("$ref")}
        if len(rest.get("allOf", ())) == 1:
            [inner] = rest.pop("allOf")
            return self.of(inner)
        alternatives = rest.pop("anyOf", None) or rest.pop("oneOf", None)
        if alternatives is not None:
            return self._union(alternatives)
        if "const" in rest or "enum" in rest:
            rest.pop("type", None)
            return _choices([rest.pop("const")] if "const" in rest else rest.pop("enum"))
        kind = rest.pop("type", None)
        if isinstance(kind, list):
            parts = {name: rest.pop(name) for name in list(rest) if name != "description"}
            return {"anyOf": [self.of({**(parts if each != "null" else {}), "type": each}) for each in kind]}
        if kind == "object":
            return self._object(rest)
        if kind == "array":
            return self._array(rest)
        if kind not in _TYPES.values():
            raise UnfitError("it allows any value")
        done = {"type": kind}
        if rest.get("format") in self._limits.formats:
            done["format"] = rest.pop("format")
        return done

    def _union(self, alternatives: Any) -> Schema:
        targets = [self._resolved(each) for each in alternatives]
        is_map = any(value_schema(each) is not None for each in targets)
        if is_map and any(each.get("type") == "array" for each in targets):
            raise UnfitError("it has a union of a list and of an object with any keys")
        return {"anyOf": [self.of(each) for each in alternatives]}

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        name = referenced_name(schema) if isinstance(schema, dict) else None
        found = schema if name is None else self._definitions.get(name)
        return found if isinstance(found, Mapping) else {}

    def _object(self, rest: Schema) -> Schema:
        values = value_schema({**rest, "type": "object"})
        if values is not None:
            return self._map(rest, values)
        named, others = rest.pop("properties", {}), rest.pop("additionalProperties", None)
        if isinstance(others, dict) or "patternProperties" in rest or (not named and others is not False):
            raise UnfitError("it has an object with any keys")
        required = rest.pop("required", [])
        return {
            "type": "object",
            "properties": {name: self.of(each) for name, each in named.items()},
            "required": list(named) if self._limits.is_all_required else required,
            "additionalProperties": False,
        }

    def _map(self, rest: Schema, values: Schema) -> Schema:
        for name in ("additionalProperties", "patternProperties", "properties", "required"):
            rest.pop(name, None)
        names = self._resolved(rest.pop("propertyNames", {}))
        key = {"type": "string", "enum": names["enum"]} if "enum" in names else {"type": "string"}
        entry = {
            "type": "object",
            "properties": {"key": key, "value": self.of(values)},
            "required": ["key", "value"],
            "additionalProperties": False,
        }
        return {"type": "array", "items": entry, "description": "A list of entries: each key once, with its value."}

    def _array(self, rest: Schema) -> Schema:
        places = rest.pop("prefixItems", None)
        if places is None:
            return {"type": "array", "items": self.of(rest.pop("items", None))}
        rest.pop("items", None)
        kinds: list[Schema] = []
        for each in map(self.of, places):
            if each not in kinds:
                kinds.append(each)
        if not kinds:
            raise UnfitError("it has an empty tuple")
        note = f"Exactly {len(places)} items" + (", each of another type, in this order." if len(kinds) > 1 else ".")
        for name in ("minItems", "maxItems"):
            rest.pop(name, None)
        return {"type": "array", "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}, "description": note}


def _choices(values: list[Any]) -> Schema:
    """Return the schema of one of some values, which have one type in each alternative."""
    by_type: dict[str, list[Any]] = {}
    for each in values:
        if type(each) not in _TYPES:
            raise UnfitError("it has a choice of values that are neither texts nor numbers")
        by_type.setdefault(_TYPES[type(each)], []).append(each)
    parts = [{"type": kind, "enum": found} for kind, found in by_type.items()]
    return parts[0] if len(parts) == 1 else {"anyOf": parts}
