"""JSON Schema of types and signatures: what a model is told of a tool, and of the answer that it has to give.

Classes stand under ``$defs`` while a schema is made. At the end those that are referred to once take the place of
the reference: models, and many of the servers that run them, know plain schemas best.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections import abc
from collections.abc import Mapping, Sequence
from math import isfinite
from types import NoneType
from typing import Annotated, Any, Literal, NewType, TypeVar, get_args, get_origin

from railtracks.exceptions import NodeCreationError
from railtracks.llm._docs import class_docs, node_docs
from railtracks.llm._fields import (
    LISTS,
    MAPPINGS,
    MISSING,
    SCALARS,
    SETS,
    Field,
    Unresolved,
    alias_value,
    fields_of,
    is_alias,
    is_record,
    parameters_of,
    qualifier,
    tuple_items,
)
from railtracks.llm._inline import compact, renamed
from railtracks.llm._model import OutputSchema, ToolSchema
from railtracks.nodes import FunctionNode
from railtracks.state._typed import element_of, is_list_class, is_pydantic, is_union, substituted


def tool_schema(node: FunctionNode[..., Any]) -> ToolSchema:
    """What a model is told of a node: its name, and what its docstring and its signature say.

    Raises:
        NodeCreationError: a parameter cannot be told; the text names it, and what to write instead.
    """
    description, described = node_docs(node.target)
    return schema_of_fields(node.name, description, parameters_of(node, extras=True), described)


def schema_of_fields(name: str, description: str, fields: Sequence[Field], described: Mapping[str, str]) -> ToolSchema:
    """What a model is told of a tool that takes these. ``described``: what is said of them, by name.

    Raises:
        NodeCreationError: one cannot be told; the text names it, and what to write instead.
    """
    schemas = _Schemas()
    named = [field for field in fields if field.kind is not inspect.Parameter.VAR_KEYWORD]
    schema = schemas.object_of(named, described, lambda parameter: f"parameter {parameter!r} of the tool {name!r}")
    for rest in fields[len(named) :]:
        place = f"parameter '**{rest.name}' of the tool {name!r}"
        schema["additionalProperties"] = schemas.of(rest.type, place) or True
    return ToolSchema(safe_name(name), description, schemas.finished(schema))


def output_schema(cls: Any) -> OutputSchema:
    """What a model's answer has to be to stand for a value of a type. What is no object is told as ``{"value": ...}``.

    Raises:
        NodeCreationError: a model cannot be told of the type; the text says what to write instead.
    """
    schemas = _Schemas()
    shown = _shown(cls)
    schema = schemas.of(cls, f"the output {shown}")
    if is_wrapped(cls):
        schema = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
    return OutputSchema(safe_name(shown).strip("_") or "output", schemas.finished(schema))


def is_wrapped(cls: Any) -> bool:
    """Does a model give a value of this type as ``{"value": ...}``? APIs insist on an object at the top."""
    return not is_record(cls) and (not is_pydantic(cls) or getattr(cls, "__pydantic_root_model__", False))


def safe_name(name: str) -> str:
    """A name as models' APIs take it: letters, digits, "_" and "-"; 64 at the most."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]


class _Schemas:
    """One schema that is being made. ``defs``: the classes in it, by name."""

    def __init__(self) -> None:
        self.defs: dict[str, Any] = {}
        self._named: list[tuple[Any, str]] = []
        self._foreign: dict[str, tuple[Any, str]] = {}

    def finished(self, schema: dict[str, Any]) -> dict[str, Any]:
        return compact(schema, self.defs)

    def of(self, kind: Any, place: str) -> dict[str, Any]:
        origin = get_origin(kind)
        if kind in (Any, object) or kind is MISSING:
            return {}
        if isinstance(kind, Unresolved | str):
            raise _refused(
                place,
                f"is annotated as {str(kind)!r}, which names nothing at run time",
                "import it outside of `if TYPE_CHECKING:`, and define it at the top of a module",
            )
        if origin is Annotated:
            inner = self.of(kind.__origin__, place)
            said = [text for text in map(_said, kind.__metadata__) if text]
            return {**inner, "description": said[0]} if said else inner
        if qualifier(kind):
            return self.of(get_args(kind)[0], place)
        if isinstance(kind, NewType):
            return self.of(kind.__supertype__, place)
        if isinstance(kind, TypeVar):
            return self.of(substituted(kind, {}), place)
        if is_alias(kind):
            return self._defined(kind, lambda: self.of(alias_value(kind), place))
        if is_union(kind):
            return {"anyOf": [self.of(each, place) for each in get_args(kind)]}
        if origin is Literal:
            return _choices(get_args(kind), place, "Literal")
        if _hashable(kind) and kind in SCALARS:
            return dict(SCALARS[kind])
        return self._of_class(kind, origin or kind, place)

    def _of_class(self, kind: Any, cls: Any, place: str) -> dict[str, Any]:
        if is_record(kind):
            return self._defined(kind, lambda: self._record(kind))
        if is_pydantic(kind):
            return self._pydantic(kind, place)
        if _is_enum(cls):
            return self._defined(
                cls, lambda: {**_choices(list(cls), place, cls.__name__), **_titled(class_docs(cls)[0])}
            )
        if cls is tuple:
            return self._tuple(tuple_items(kind), place)
        if cls in LISTS or is_list_class(kind):
            element = element_of(kind) if is_list_class(kind) else (get_args(kind) or (Any,))[0]
            return {"type": "array", "items": self.of(element, place)}
        if cls in SETS:
            return {"type": "array", "items": self.of((get_args(kind) or (Any,))[0], place), "uniqueItems": True}
        if cls in MAPPINGS:
            return self._mapping(get_args(kind) or (Any, Any), place)
        if cls in (bytes, bytearray, memoryview):
            raise _refused(place, f"is of the type {_shown(kind)}, which JSON does not have", "write str")
        raise _refused(
            place,
            f"is of the type {_shown(kind)}, which a model cannot be told of",
            "write an attrs class, a dataclass, a TypedDict or a pydantic model, or a type such as str, int, float, "
            "bool, list, dict, Literal or an Enum",
        )

    def _defined(self, kind: Any, make: abc.Callable[[], dict[str, Any]]) -> dict[str, Any]:
        for known, name in self._named:
            if known == kind:
                return {"$ref": f"#/$defs/{name}"}
        name = self._free(safe_name(_shown(kind)).strip("_"))
        self._named.append((kind, name))
        self.defs[name] = {}
        self.defs[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def _free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.defs:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def _record(self, kind: Any) -> dict[str, Any]:
        cls = get_origin(kind) or kind
        description, described = class_docs(cls)
        schema = self.object_of(
            fields_of(kind, extras=True), described, lambda name: f"field {name!r} of {cls.__name__}"
        )
        return {**schema, **_titled(description)}

    def object_of(
        self, fields: list[Field], described: Mapping[str, str], place: abc.Callable[[str], str]
    ) -> dict[str, Any]:
        """The schema of an object that has these fields. ``described``: what is said of them elsewhere, by name."""
        properties: dict[str, Any] = {}
        for field in fields:
            schema = self.of(field.type, place(field.name))
            if field.name in described and "description" not in schema:
                schema["description"] = described[field.name]
            default = field.default.value if isinstance(field.default, enum.Enum) else field.default
            if default is not MISSING and is_plain(default):
                schema["default"] = default
            properties[field.key] = schema
        required = [field.key for field in fields if field.required]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _tuple(self, args: tuple[Any, ...], place: str) -> dict[str, Any]:
        if args[-1:] == (Ellipsis,):
            return {"type": "array", "items": self.of(args[0], place)}
        items = [self.of(each, place) for each in args]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(args), "maxItems": len(args)}

    def _mapping(self, args: tuple[Any, Any], place: str) -> dict[str, Any]:
        key = compact(self.of(args[0], place), self.defs)
        choices = key.get("enum", ())
        if key and key.get("type") != "string":
            raise _refused(
                place, f"has keys of the type {_shown(args[0])}, and those of JSON are texts", "write dict[str, ...]"
            )
        schema = {"type": "object", "additionalProperties": self.of(args[1], place) or True}
        return {**schema, "propertyNames": {"enum": choices}} if choices else schema

    def _pydantic(self, kind: Any, place: str) -> dict[str, Any]:
        """A pydantic model says its own. Models of one name that say the same are the same."""
        try:
            schema = kind.model_json_schema()
        except Exception as exc:  # fields of types that JSON does not have; and pydantic has errors of its own
            wrong = f"is the pydantic model {kind.__name__}, which has no JSON Schema ({exc})"
            raise _refused(place, wrong, "write types that JSON has in it") from exc
        models = schema.pop("$defs", {})
        if "$ref" not in schema:
            models[kind.__name__] = schema
            schema = {"$ref": f"#/$defs/{kind.__name__}"}
        names = {}
        for name, one in models.items():
            known, given = self._foreign.get(name, (None, ""))
            names[name] = given if known == one else self._free(safe_name(name))
            self._foreign[name] = one, names[name]
            self.defs.setdefault(names[name], {})
        for name, one in models.items():
            self.defs[names[name]] = renamed(one, names)
        return renamed(schema, names)


def is_plain(value: Any) -> bool:
    """Can JSON say it, and say it back?"""
    if type(value) in (list, dict):
        keys, items = (value.keys(), value.values()) if type(value) is dict else ((), value)
        return all(type(key) is str for key in keys) and all(map(is_plain, items))
    return type(value) in (str, int, bool, NoneType) or (type(value) is float and isfinite(value))


def _choices(members: Any, place: str, what: str) -> dict[str, Any]:
    values = [each.value if isinstance(each, enum.Enum) else each for each in members]
    if not values or not all(is_plain(each) for each in values):
        raise _refused(place, f"is of {what}, whose values JSON cannot say", "give it values that are texts or numbers")
    types = {SCALARS.get(type(each), {}).get("type") for each in values}
    return {"type": types.pop(), "enum": values} if len(types) == 1 and None not in types else {"enum": values}


def _is_enum(cls: Any) -> bool:
    return isinstance(cls, enum.EnumMeta) and not issubclass(cls, enum.Flag)


def _titled(description: str | None) -> dict[str, str]:
    return {"description": description} if description else {}


def _said(metadata: Any) -> str | None:
    text = metadata if isinstance(metadata, str) else getattr(metadata, "description", None)
    return text if isinstance(text, str) else None


def _hashable(kind: Any) -> bool:
    try:
        hash(kind)
    except TypeError:  # Annotated, and what has such an argument
        return False
    return True


def _shown(kind: Any) -> str:
    if get_args(kind) or not isinstance(kind, type):
        return re.sub(r"(\w+\.|<locals>\.)+", "", str(kind))
    return kind.__name__


def _refused(place: str, wrong: str, repair: str) -> NodeCreationError:
    return NodeCreationError(f"{place} {wrong}; {repair}")
