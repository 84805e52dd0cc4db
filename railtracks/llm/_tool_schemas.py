"""What a model is shown of tools, and of the answer that is expected of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from railtracks._schema._docstrings import node_docs
from railtracks._schema._fields import Field, parameters_of
from railtracks._schema._schema import SchemaBuilder, is_wrapped, safe_name, type_name
from railtracks.llm._model import OutputSchema, ToolSchema
from railtracks.nodes import FunctionNode


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
    schemas = SchemaBuilder()
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
    schemas = SchemaBuilder()
    shown = type_name(cls)
    schema = schemas.of(cls, f"the output {shown}")
    if is_wrapped(cls):
        schema = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
    return OutputSchema(safe_name(shown).strip("_") or "output", schemas.finished(schema))
