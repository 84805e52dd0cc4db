"""Maps as lists of entries, ``[{"key": ..., "value": ...}]``, for providers that refuse objects with any keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railtracks._schema._json_schema import map_parts, referenced_name

_ENTRY = {"key", "value"}


def value_schema(schema: Mapping[str, Any]) -> Any:
    """Return the schema of the values of a map; None if this is not the schema of a map, or of one with any values."""
    if schema.get("type") != "object" or schema.get("properties"):
        return None
    patterns = list(schema.get("patternProperties", {}).values())
    values = schema.get("additionalProperties") or (patterns[0] if len(patterns) == 1 else None)
    return values if isinstance(values, dict) and values else None


def maps_of_entries(data: Any, schema: Mapping[str, Any]) -> Any:
    """Return data with its lists of entries as objects, where its schema has maps. All else stays as it is.

    Args:
        data: JSON data.
        schema: The schema, with maps as objects.
    """
    definitions = schema.get("$defs", {})
    return _read(data, schema, definitions) if has_maps(schema) or any(map(has_maps, definitions.values())) else data


def has_maps(schema: Mapping[str, Any]) -> bool:
    """Return whether there is a map in a schema, but for its definitions."""
    found = [value_schema(schema) is not None]

    def visit(part: dict[str, Any]) -> dict[str, Any]:
        found.append(has_maps(part))
        return part

    map_parts(dict(schema), visit)
    return any(found)


def _read(data: Any, schema: Any, definitions: Mapping[str, Any]) -> Any:
    if not isinstance(schema, Mapping) or not isinstance(data, list | dict):
        return data
    if (name := referenced_name(dict(schema))) is not None:
        return _read(data, definitions.get(name), definitions)
    for word in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(word, ()):
            data = _read(data, each, definitions)
    if (values := value_schema(schema)) is not None:
        data = _as_map(data)
        return {key: _read(each, values, definitions) for key, each in data.items()} if isinstance(data, dict) else data
    if isinstance(data, list):
        items = schema.get("items")
        places = schema.get("prefixItems") or [items] * len(data)
        parts = zip(data, [*places, *[items] * (len(data) - len(places))], strict=False)
        return [_read(each, part, definitions) for each, part in parts]
    named = schema.get("properties", {})
    return {key: _read(each, named.get(key), definitions) for key, each in data.items()}


def _as_map(data: Any) -> Any:
    """Return the object that a list of entries stands for; the list itself if it is something else."""
    if not isinstance(data, list):
        return data
    if not all(isinstance(each, dict) and each.keys() == _ENTRY and isinstance(each["key"], str) for each in data):
        return data
    found = {each["key"]: each["value"] for each in data}
    return found if len(found) == len(data) else data
