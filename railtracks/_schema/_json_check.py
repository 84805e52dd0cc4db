"""JSON data against a JSON Schema that came from elsewhere, such as the parameters of a tool of a server.

Checked are the keywords in which such schemas are written: types, values, bounds, members and items, combinations, and
references within the schema. What else there is, such as ``format`` and ``if``, is left to whoever gets the data. So
are patterns that Python does not know and references that lead elsewhere.

As for annotated types, readings that lose nothing are taken: ``"5"`` where only an integer can stand, and so on.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from railtracks._schema._lossless import NOT_JSON, json_in
from railtracks._schema._problems import Path, Problems, format_value

Found = Iterator[tuple[Path, str]]

_KINDS: dict[str, str] = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


def fitted(data: Any, schema: Any) -> Any:
    """Return data as a schema wants it: as it was given, but for readings that lose nothing.

    Args:
        data: JSON data.
        schema: The schema, whose references are resolved in itself.

    Raises:
        Problems: The data does not fit.
    """
    return _Checker(schema).fitted(data)


class _Checker:
    def __init__(self, root: Any) -> None:
        self._root = root

    def fitted(self, data: Any) -> Any:
        value = self._read(data, self._root)
        problems = list(self._problems(value, self._root, ()))
        if problems:
            raise Problems(*problems)
        return value

    # ---- readings

    def _read(self, data: Any, schema: Any) -> Any:
        """Return the data with the readings that the schema asks for. It may still not fit."""
        schema = self._resolved(schema)
        if not isinstance(schema, Mapping):
            return data
        for keyword in ("anyOf", "oneOf"):
            data = self._read_union(data, schema.get(keyword))
        for each in _list(schema.get("allOf")):
            data = self._read(data, each)
        data = _read_text(data, schema)
        if isinstance(data, float) and data.is_integer() and _types(schema) == ["integer"]:
            return int(data)
        if isinstance(data, Mapping):
            return {name: self._read(value, _member(schema, name)) for name, value in data.items()}
        if isinstance(data, list):
            return [self._read(value, _item(schema, place)) for place, value in enumerate(data)]
        return data

    def _read_union(self, data: Any, alternatives: Any) -> Any:
        """Return the data as the first alternative reads it that it fits; as it stands, if it does so for any."""
        choices = _list(alternatives)
        exact = [each for each in choices if self._fits(data, each)]
        for each in exact or choices:
            value = self._read(data, each)
            if self._fits(value, each):
                return value
        return data

    # ---- problems

    def _fits(self, data: Any, schema: Any) -> bool:
        return next(self._problems(data, schema, ()), None) is None

    def _problems(self, data: Any, schema: Any, path: Path) -> Found:
        """Yield all that is wrong with the data, which has the place ``path``."""
        schema = self._resolved(schema)
        if schema is False:
            yield path, f"nothing may stand here, got {format_value(data)}"
        if not isinstance(schema, Mapping):
            return
        wanted = _types(schema)
        if wanted and not any(_is_of(data, each) for each in wanted):
            kinds = " or ".join(_KINDS.get(each, each) for each in wanted)
            yield path, f"expected {kinds}, got {format_value(data)}"
            return
        yield from _problems_of_value(data, schema, path)
        yield from self._problems_of_combinations(data, schema, path)
        if isinstance(data, Mapping):
            for name, value in data.items():
                if (member := _member(schema, name)) is not False:
                    yield from self._problems(value, member, (*path, name))
                    continue
                known = ", ".join(schema.get("properties", ())) or "none"
                yield (*path, name), f"there is nothing of this name; the names are {known}"
        elif isinstance(data, list):
            for place, value in enumerate(data):
                yield from self._problems(value, _item(schema, place), (*path, place))

    def _problems_of_combinations(self, data: Any, schema: Mapping[str, Any], path: Path) -> Found:
        for each in _list(schema.get("allOf")):
            yield from self._problems(data, each, path)
        for keyword in ("anyOf", "oneOf"):
            choices = _list(schema.get(keyword))
            found = [list(self._problems(data, each, path)) for each in choices]
            if found and all(found):
                closest = min(found, key=len)
                yield from closest if len(found) == 1 else _as_one(closest, path, len(found))
            elif keyword == "oneOf" and found.count([]) > 1:
                yield path, f"fits more than one of the {len(found)} alternatives, got {format_value(data)}"
        if "not" in schema and self._fits(data, schema["not"]):
            yield path, f"this value is excluded, got {format_value(data)}"

    def _resolved(self, schema: Any) -> Any:
        """Return what a reference stands for, with what is written beside it; True if it leads elsewhere."""
        if not isinstance(schema, Mapping) or not isinstance(reference := schema.get("$ref"), str):
            return schema
        target: Any = self._root
        if not reference.startswith("#"):
            target = True
        for step in reference.split("/")[1:] if target is not True else ():
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or name not in target:
                target = True
                break
            target = target[name]
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        if target is True or not beside.keys() - {"title", "description", "default", "examples", "$defs"}:
            return beside if target is True else self._resolved(target)
        return {**beside, "allOf": [*_list(beside.get("allOf")), target]}


def _as_one(problems: list[tuple[Path, str]], path: Path, count: int) -> Found:
    where, text = problems[0]
    yield where, text if where != path else f"{text}, and none of the other alternatives fits ({count} in all)"


# ---- one value, without what it holds


def _problems_of_value(data: Any, schema: Mapping[str, Any], path: Path) -> Found:
    values = [_list(schema[each]) if each == "enum" else [schema[each]] for each in ("enum", "const") if each in schema]
    for allowed in values:
        if not any(_equal(data, each) for each in allowed):
            yield path, f"expected {' or '.join(map(format_value, allowed)) or 'no value'}, got {format_value(data)}"
    if isinstance(data, str):
        yield from _sized(len(data), schema, "Length", "characters", path)
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not _matches(pattern, data):
            yield path, f"expected a text that matches {pattern}, got {format_value(data)}"
    elif _is_number(data):
        yield from _problems_of_number(data, schema, path)
    elif isinstance(data, list):
        yield from _sized(len(data), schema, "Items", "items", path)
        if schema.get("uniqueItems") is True and any(
            _equal(one, other) for place, one in enumerate(data) for other in data[:place]
        ):
            yield path, "the items must differ from each other"
    elif isinstance(data, Mapping):
        yield from _sized(len(data), schema, "Properties", "members", path)
        for name in _list(schema.get("required")):
            if name not in data:
                yield (*path, name), "missing"


_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda data, bound: data >= bound),
    "maximum": ("at most", lambda data, bound: data <= bound),
    "exclusiveMinimum": ("more than", lambda data, bound: data > bound),
    "exclusiveMaximum": ("less than", lambda data, bound: data < bound),
}


def _problems_of_number(data: Any, schema: Mapping[str, Any], path: Path) -> Found:
    for keyword, (words, holds) in _BOUNDS.items():
        bound = schema.get(keyword)
        if _is_number(bound) and not holds(data, bound):
            yield path, f"expected a number that is {words} {bound}, got {format_value(data)}"
    step = schema.get("multipleOf")
    if _is_number(step) and step > 0 and not _is_multiple(data, step):
        yield path, f"expected a multiple of {step}, got {format_value(data)}"


def _sized(size: int, schema: Mapping[str, Any], keyword: str, unit: str, path: Path) -> Found:
    least, most = schema.get(f"min{keyword}"), schema.get(f"max{keyword}")
    if _is_number(least) and size < least:
        yield path, f"expected at least {least} {unit}, got {size}"
    if _is_number(most) and size > most:
        yield path, f"expected at most {most} {unit}, got {size}"


# ---- parts of schemas


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    return [kind] if isinstance(kind, str) else [each for each in _list(kind) if isinstance(each, str)]


def _member(schema: Mapping[str, Any], name: str) -> Any:
    """Return the schema of a member of an object; False where none may be."""
    properties, patterns = schema.get("properties"), schema.get("patternProperties")
    found = [properties[name]] if isinstance(properties, Mapping) and name in properties else []
    if isinstance(patterns, Mapping):
        found += [each for pattern, each in patterns.items() if _matches(pattern, name)]
    if not found:
        return schema.get("additionalProperties", True)
    return found[0] if len(found) == 1 else {"allOf": found}


def _item(schema: Mapping[str, Any], place: int) -> Any:
    """Return the schema of an item of an array; in drafts before 2020 a list of ``items`` is a prefix."""
    items = schema.get("items", True)
    first, rest = (items, schema.get("additionalItems", True)) if isinstance(items, list) else ((), items)
    prefix = _list(schema.get("prefixItems", first))
    return prefix[place] if place < len(prefix) else rest


# ---- JSON values


def _is_number(data: Any) -> TypeGuard[int | float]:
    return isinstance(data, int | float) and not isinstance(data, bool)


def _is_of(data: Any, kind: str) -> bool:
    if kind == "integer":
        return _is_number(data) and (isinstance(data, int) or data.is_integer())
    if kind == "number":
        return _is_number(data)
    types: dict[str, Any] = {
        "string": str, "boolean": bool, "null": type(None), "array": list, "object": Mapping,
    }  # fmt: skip
    return isinstance(data, types.get(kind, object))


def _equal(one: Any, other: Any) -> bool:
    """Return whether two values are the same in JSON, where 1 is 1.0 and not true."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_multiple(data: float, step: float) -> bool:
    try:
        return decimal.Decimal(str(data)) % decimal.Decimal(str(step)) == 0
    except decimal.InvalidOperation:  # numbers too far apart
        return True


def _matches(pattern: Any, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except (re.error, TypeError):  # the regular expressions of JSON Schema are those of JavaScript
        return True


def _read_text(data: Any, schema: Mapping[str, Any]) -> Any:
    """Return what a text says as JSON, if the schema has no place for the text, but one for that."""
    if not isinstance(data, str) or (said := json_in(data)) is NOT_JSON:
        return data
    wanted, values = _types(schema), _list(schema.get("enum"))
    if wanted and "string" not in wanted:
        return said if any(_is_of(said, each) for each in wanted) else data
    is_value = not wanted and values and not any(_equal(data, each) for each in values)
    return said if is_value and any(_equal(said, each) for each in values) else data
