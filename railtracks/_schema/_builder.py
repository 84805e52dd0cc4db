"""Build JSON Schemas of types and signatures, for the tools that a model may use and the answer that it must give.

Classes stand under ``$defs`` while a schema is built. At the end those that are referred to once replace their
reference: models, and many of the servers that run them, understand plain schemas best.

A schema is part of the digests by which a resumed run finds the requests to a model: what is built for a type must not
change from one release to the next.
"""

from __future__ import annotations

import enum
import re
from collections import abc
from collections.abc import Mapping
from math import isfinite
from types import NoneType
from typing import Annotated, Any, Literal, NewType, TypeVar, get_args, get_origin

from railtracks._schema._docstrings import class_docs
from railtracks._schema._fields import (
    LISTS,
    MAPPINGS,
    MISSING,
    SCALARS,
    SETS,
    Field,
    Unresolved,
    alias_value,
    fields_of,
    has_fields,
    is_alias,
    qualifier,
    tuple_items,
)
from railtracks._schema._json_schema import inline_single_use, reference_to, rename_references
from railtracks.exceptions import NodeCreationError
from railtracks.state._serialization._type_hints import element_of, is_list_class, is_pydantic, is_union, substituted


def is_wrapped(cls: Any) -> bool:
    """Return whether a model writes a value of this type as ``{"value": ...}``: APIs require an object at the top."""
    return not has_fields(cls) and (not is_pydantic(cls) or getattr(cls, "__pydantic_root_model__", False))


def safe_name(name: str) -> str:
    """Return a name that the APIs of models accept: letters, digits, "_" and "-"; no more than 64 characters."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64]


def type_name(kind: Any) -> str:
    """Return the name of a type without its module, such as ``list[Place]``."""
    if get_args(kind) or not isinstance(kind, type):
        return re.sub(r"(\w+\.|<locals>\.)+", "", str(kind))
    return kind.__name__


class SchemaBuilder:
    """Builds one schema.

    The methods take a ``place``, which says in errors where the type is written, such as "parameter 'city' of the tool
    'forecast'".

    Attributes:
        defs: The schemas of the classes in it, by name.
    """

    def __init__(self) -> None:
        self.defs: dict[str, Any] = {}
        self._named: list[tuple[Any, str]] = []  # types and their names in defs; not all types can be hashed
        self._foreign: dict[str, tuple[Any, str]] = {}  # pydantic's names, their schemas and their names in defs

    def finished(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema that this builder made, together with its definitions."""
        return inline_single_use(schema, self.defs)

    def of(self, kind: Any, place: str) -> dict[str, Any]:
        """Return the schema of a type.

        Raises:
            NodeCreationError: The type, or one in it, has no schema.
        """
        origin = get_origin(kind)
        if kind in (Any, object) or kind is MISSING:
            return {}
        if isinstance(kind, Unresolved | str):
            raise _unsupported(
                place,
                f"is annotated as {str(kind)!r}, which names nothing at run time",
                "import it outside of `if TYPE_CHECKING:`, and define it at the top of a module",
            )
        if origin is Annotated:
            inner = self.of(kind.__origin__, place)
            texts = [text for text in map(_description_in, kind.__metadata__) if text]
            return {**inner, "description": texts[0]} if texts else inner
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
        if _is_hashable(kind) and kind in SCALARS:
            return dict(SCALARS[kind])
        return self._of_class(kind, origin or kind, place)

    def _of_class(self, kind: Any, cls: Any, place: str) -> dict[str, Any]:
        if has_fields(kind):
            return self._defined(kind, lambda: self._class_with_fields(kind))
        if is_pydantic(kind):
            return self._pydantic(kind, place)
        if _is_enum(cls):
            return self._defined(
                cls, lambda: {**_choices(list(cls), place, cls.__name__), **_described(class_docs(cls)[0])}
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
            raise _unsupported(place, f"is of the type {type_name(kind)}, which JSON does not have", "use str")
        raise _unsupported(
            place,
            f"is of the type {type_name(kind)}, which cannot be described to a model",
            "use an attrs class, a dataclass, a TypedDict or a pydantic model, or a type such as str, int, float, "
            "bool, list, dict, Literal or an Enum",
        )

    def _defined(self, kind: Any, make: abc.Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a reference to the schema of a type, which ``make`` returns when it is first needed."""
        for known, name in self._named:
            if known == kind:
                return reference_to(name)
        name = self._free_name(safe_name(type_name(kind)).strip("_"))
        self._named.append((kind, name))
        self.defs[name] = {}  # first, because the type may refer to itself
        self.defs[name] = make()
        return reference_to(name)

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.defs:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def _class_with_fields(self, kind: Any) -> dict[str, Any]:
        cls = get_origin(kind) or kind
        description, described = class_docs(cls)
        schema = self.object_of(
            fields_of(kind, extras=True), described, lambda name: f"field {name!r} of {cls.__name__}"
        )
        return {**schema, **_described(description)}

    def object_of(
        self, fields: list[Field], described: Mapping[str, str], place: abc.Callable[[str], str]
    ) -> dict[str, Any]:
        """Return the schema of an object with these fields.

        Args:
            fields: The fields.
            described: Descriptions by the names of fields, for those whose type has none.
            place: Returns the place of a field for errors, given its name.
        """
        properties: dict[str, Any] = {}
        for field in fields:
            schema = self.of(field.type, place(field.name))
            if field.name in described and "description" not in schema:
                schema["description"] = described[field.name]
            default = field.default.value if isinstance(field.default, enum.Enum) else field.default
            if default is not MISSING and is_json_data(default):
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
        key = inline_single_use(self.of(args[0], place), self.defs)
        choices = key.get("enum", ())
        if key and key.get("type") != "string":
            raise _unsupported(
                place, f"has keys of the type {type_name(args[0])}, but keys in JSON are texts", "use dict[str, ...]"
            )
        schema = {"type": "object", "additionalProperties": self.of(args[1], place) or True}
        return {**schema, "propertyNames": {"enum": choices}} if choices else schema

    def _pydantic(self, kind: Any, place: str) -> dict[str, Any]:
        """Add a pydantic model's own schema. Models that have the same name and the same schema are one."""
        try:
            schema = kind.model_json_schema()
        except Exception as exc:  # its fields have types that JSON does not have; pydantic raises errors of its own
            problem = f"is the pydantic model {kind.__name__}, which has no JSON Schema ({exc})"
            raise _unsupported(place, problem, "use only types that JSON has in it") from exc
        models = schema.pop("$defs", {})
        if "$ref" not in schema:
            models[kind.__name__] = schema
            schema = reference_to(kind.__name__)
        names = {}
        for name, model in models.items():
            known, known_name = self._foreign.get(name, (None, ""))
            names[name] = known_name if known == model else self._free_name(safe_name(name))
            self._foreign[name] = model, names[name]
            self.defs.setdefault(names[name], {})
        for name, model in models.items():
            self.defs[names[name]] = rename_references(model, names)
        return rename_references(schema, names)


def is_json_data(value: Any) -> bool:
    """Return whether a value survives being written as JSON and read back."""
    if type(value) in (list, dict):
        keys, items = (value.keys(), value.values()) if type(value) is dict else ((), value)
        return all(type(key) is str for key in keys) and all(map(is_json_data, items))
    return type(value) in (str, int, bool, NoneType) or (type(value) is float and isfinite(value))


def _choices(members: Any, place: str, what: str) -> dict[str, Any]:
    values = [each.value if isinstance(each, enum.Enum) else each for each in members]
    if not values or not all(is_json_data(each) for each in values):
        raise _unsupported(
            place, f"is of {what}, whose values JSON cannot hold", "use values that are texts or numbers"
        )
    types = {SCALARS.get(type(each), {}).get("type") for each in values}
    return {"type": types.pop(), "enum": values} if len(types) == 1 and None not in types else {"enum": values}


def _is_enum(cls: Any) -> bool:
    return isinstance(cls, enum.EnumMeta) and not issubclass(cls, enum.Flag)


def _described(description: str | None) -> dict[str, str]:
    return {"description": description} if description else {}


def _description_in(metadata: Any) -> str | None:
    text = metadata if isinstance(metadata, str) else getattr(metadata, "description", None)
    return text if isinstance(text, str) else None


def _is_hashable(kind: Any) -> bool:
    try:
        hash(kind)
    except TypeError:  # Annotated with metadata that has no hash, or a type with such an argument
        return False
    return True


def _unsupported(place: str, problem: str, repair: str) -> NodeCreationError:
    return NodeCreationError(f"{place} {problem}; {repair}")
