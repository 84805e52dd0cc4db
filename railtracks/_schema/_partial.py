"""Values of types of which only the beginning has come, as a model writes them.

A class cannot be made of a part of its fields, and a class with other fields would be another one. So an object of a
class is a dict of its fields until it is whole, and an instance from then on.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, NewType, Union, get_args, get_origin

import attrs

from railtracks._schema._builder import is_wrapped
from railtracks._schema._entries import has_maps, maps_of_entries, value_schema
from railtracks._schema._fields import (
    LISTS,
    MAPPINGS,
    alias_value,
    fields_of,
    has_fields,
    is_alias,
    qualifier,
)
from railtracks._schema._json_prefix import Node, PrefixReader
from railtracks._schema._json_schema import referenced_name
from railtracks._schema._lossless import union_cache
from railtracks._schema._validation import structure, without_annotated
from railtracks.state._serialization._type_hints import is_pydantic

ABSENT = object()
"""In place of a value that has not come, or does not fit."""


@attrs.frozen
class _Done:
    """What a whole node stands for."""

    value: Any


class PartialOutput:
    """Reads an answer while it comes.

    Args:
        kind: The type of the answer, as ``structured_output`` takes it.
        schema: The schema that the model was given for it.
    """

    def __init__(self, kind: Any, schema: Mapping[str, Any]) -> None:
        definitions = schema.get("$defs", {})
        self._maps = definitions if has_maps(schema) or any(map(has_maps, definitions.values())) else None
        self._kind, self._schema, self._is_wrapped = without_annotated(kind), schema, is_wrapped(kind)
        self._reader = PrefixReader()
        self._value: Any = ABSENT if self._is_wrapped else {}

    def feed(self, text: str) -> Any:
        """Add a piece of the answer, and return the value so far, or ``ABSENT`` if that has not changed.

        What does not fit is left out, with all that comes after it in a list.
        """
        reader = self._reader
        reader.feed(text)
        if reader.top is None or not reader.has_changed:
            return ABSENT
        reader.has_changed = False
        value = self._read(reader.top)
        if value is ABSENT or value == self._value:
            return ABSENT
        self._value = value
        return value

    def _read(self, top: Node) -> Any:
        if not self._is_wrapped:
            return self._open(top, self._kind, self._schema)
        node = top.value.get("value")
        return ABSENT if node is None else self._of(node, self._kind, self._inner(self._schema, "value"))

    def _of(self, node: Node, kind: Any, schema: Any) -> Any:
        if not node.is_whole:
            return self._open(node, kind, schema)
        if not isinstance(node.cache, _Done):
            node.cache = _Done(self._whole(node, kind, schema))
        return node.cache.value

    def _whole(self, node: Node, kind: Any, schema: Any) -> Any:
        data = node.data()
        if self._maps is not None and schema is not None:
            data = maps_of_entries(data, {**schema, "$defs": self._maps})
        return _structured(data, kind)

    def _open(self, node: Node, kind: Any, schema: Any) -> Any:
        kind = _bare(kind)
        if kind in (Any, object):
            return node.data()
        if node.is_text:
            return node.text if kind is str else ABSENT
        if isinstance(node.value, dict):
            return self._object(node.value, kind, schema)
        if isinstance(node.value, list):
            return self._array(node, kind, schema)
        return ABSENT

    def _object(self, nodes: Mapping[str, Node], kind: Any, schema: Any) -> Any:
        if _is_any_of(kind, MAPPINGS):
            names, values = get_args(kind) or (str, Any)
            known = {key: _structured(key, names) for key in nodes}
            return self._members(
                {key: (name, values) for key, name in known.items() if name is not ABSENT}, nodes, schema
            )
        fields = _fields(kind)
        return ABSENT if fields is None else self._members(fields, nodes, schema)

    def _members(self, members: Mapping[str, tuple[Any, Any]], nodes: Mapping[str, Node], schema: Any) -> Any:
        found = {
            name: self._of(nodes[key], kind, self._inner(schema, key))
            for key, (name, kind) in members.items()
            if key in nodes
        }
        return {name: value for name, value in found.items() if value is not ABSENT}

    def _array(self, array: Node, kind: Any, schema: Any) -> Any:
        nodes: list[Node] = array.value
        if _is_any_of(kind, MAPPINGS):  # a list of entries, for providers that know no maps
            entries = [node.value for node in nodes if isinstance(node.value, dict)]
            pairs = {
                entry["key"].text: entry["value"]
                for entry in entries
                if {"key", "value"} <= entry.keys() and entry["key"].is_text and entry["key"].is_whole
            }
            return self._object(pairs, kind, schema)
        item = _item_type(kind)
        if item is ABSENT:
            return ABSENT
        done = array.cache = array.cache or []  # the whole items, which stay as they are
        for place in range(len(done), len(nodes)):
            value = self._of(nodes[place], item, self._inner(schema, place))
            if value is ABSENT:
                break
            if not nodes[place].is_whole:
                return [*done, value]
            done.append(value)
        return [*done]

    def _inner(self, schema: Any, step: str | int) -> Any:
        """Return the schema of a part; None if it is not known, or not needed."""
        if self._maps is None or not isinstance(schema, Mapping):
            return None
        if (name := referenced_name(dict(schema))) is not None:
            return self._inner(self._maps.get(name), step)
        if (values := value_schema(schema)) is not None:
            return values
        for word in ("anyOf", "oneOf", "allOf"):
            for each in schema.get(word, ()):
                if (found := self._inner(each, step)) is not None:
                    return found
        return schema.get("properties", {}).get(step) if isinstance(step, str) else schema.get("items")


def members_of(value: Any) -> Any:
    """Return a whole value as its last part would be: of an object, a dict of its fields."""
    if isinstance(value, Mapping):
        return dict(value)
    kind: Any = type(value)
    fields = _fields(kind)
    return value if fields is None else {name: getattr(value, name) for name, _ in fields.values()}


def _structured(data: Any, kind: Any) -> Any:
    token = union_cache.set({})
    try:
        return structure(data, kind)
    except Exception:  # what is wrong with it is reported when the answer is whole
        return ABSENT
    finally:
        union_cache.reset(token)


@lru_cache(maxsize=256)
def _item_type(kind: Any) -> Any:
    """Return the type of the items of a list; ABSENT if the type is not one whose items may come one by one."""
    arguments = get_args(kind)
    is_list = _is_any_of(kind, LISTS) and (get_origin(kind) is not tuple or arguments[1:] == (Ellipsis,))
    return (arguments[0] if arguments else Any) if is_list else ABSENT


@lru_cache(maxsize=256)
def _bare(kind: Any) -> Any:
    """Return the type that data must have: without names for it, qualifiers, and None beside it."""
    while True:
        if is_alias(kind):
            kind = alias_value(kind)
        elif get_origin(kind) is Annotated or qualifier(kind):
            kind = get_args(kind)[0]
        elif isinstance(kind, NewType):
            kind = kind.__supertype__
        elif get_origin(kind) in (Union, types.UnionType):
            others = [each for each in get_args(kind) if each is not type(None)]
            if len(others) != 1:
                return kind
            kind = others[0]
        else:
            return kind


def _is_any_of(kind: Any, kinds: Sequence[Any]) -> bool:
    return any((get_origin(kind) or kind) is each for each in kinds)


@lru_cache(maxsize=256)
def _fields(kind: Any) -> dict[str, tuple[str, Any]] | None:
    """Return the names and the types of the fields of a class by their keys in JSON; None if it has none."""
    if has_fields(kind):
        return {field.key: (field.name, field.type) for field in fields_of(kind)}
    model = get_origin(kind) or kind
    if not isinstance(model, type) or not is_pydantic(model) or getattr(model, "__pydantic_root_model__", False):
        return None
    own: Any = kind if hasattr(kind, "model_fields") else model
    return {
        next((each for each in (field.validation_alias, field.alias) if isinstance(each, str)), name): (
            name,
            without_annotated(field.annotation),
        )
        for name, field in own.model_fields.items()
    }
