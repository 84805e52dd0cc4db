"""The parameters of a tool as the APIs of models take them: one object at the top, without alternatives.

OpenAI and Anthropic refuse a request in which the schema of a tool has ``anyOf`` and the like at the top level, and
tools of other people have that: "either a path or an address". So the model is shown the parameters of all of them.
What it then writes is checked against the whole schema, and so it reads what does not go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COMBINING = ("allOf", "anyOf", "oneOf")
_REFUSED = (*COMBINING, "not", "enum", "const", "if", "then", "else", "$ref")
MAX_NOTE = 2000
"""Characters of what cannot be sent as a schema that are sent as a text."""


def flattened(schema: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a schema of an object as it can be sent, and a note on what is left out; "" if nothing is.

    Args:
        schema: JSON Schema of an object.
    """
    left_out = {name: schema[name] for name in _REFUSED if name in schema}
    if not left_out:
        return {**schema, "type": "object", "properties": schema.get("properties", {})}, ""
    kept = {name: value for name, value in schema.items() if name not in _REFUSED}
    properties, required = _members(schema, schema, 0)
    kept |= {"type": "object", "properties": properties, **({"required": required} if required else {})}
    from json import dumps  # here, because importing it takes time

    text = dumps(left_out, ensure_ascii=False)
    return kept, f"The arguments must also fit this JSON Schema: {text}" if len(text) <= MAX_NOTE else ""


def _members(schema: Any, root: Mapping[str, Any], depth: int) -> tuple[dict[str, Any], list[str]]:
    """Return the properties of an object that a schema describes, in any of its alternatives, and the required ones."""
    if not isinstance(schema, Mapping) or depth > 20:  # a reference to itself
        return {}, []
    properties, required = dict(_mapping(schema.get("properties"))), list(_list(schema.get("required")))
    for keyword in COMBINING:
        found = [_members(each, root, depth + 1) for each in _list(schema.get(keyword))]
        for others, _ in found:
            for name, other in others.items():
                properties[name] = _either(properties[name], other) if name in properties else other
        names = [set(needed) for _, needed in found]
        if names:
            always = set.union(*names) if keyword == "allOf" else set.intersection(*names)
            required += sorted(always - {*required})
    if "$ref" in schema:
        others, needed = _members(_target(schema["$ref"], root), root, depth + 1)
        properties = {**others, **properties}
        required += [name for name in needed if name not in required]
    return properties, required


def _either(one: Any, other: Any) -> Any:
    """Return the schema of what fits one of two schemas."""
    if one == other:
        return one
    known = one["anyOf"] if isinstance(one, Mapping) and [*one] == ["anyOf"] else [one]
    return one if other in known else {"anyOf": [*known, other]}


def _target(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return what a reference within the schema stands for; None if it leads elsewhere."""
    found: Any = root
    steps = str(reference).split("/")
    for step in steps[1:] if steps[0] == "#" else ["#"]:
        found = _mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
