"""The schemas that a model is given: of its tools, and of the answer that is expected of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from railtracks._schema._builder import SchemaBuilder, is_wrapped, safe_name, type_name
from railtracks._schema._docstrings import node_docs
from railtracks._schema._fields import Field, parameters_of
from railtracks.llm._model import OutputSchema, ToolSchema
from railtracks.nodes import FunctionNode


def tool_schema(node: FunctionNode[..., Any]) -> ToolSchema:
    """Return the schema of a node as a tool, made of its name, its docstring and its signature.

    Raises:
        NodeCreationError: A parameter cannot be described to a model. The text names it, and what to write instead.
    """
    description, described = node_docs(node.target)
    return schema_of_fields(node.name, description, parameters_of(node, extras=True), described)


def schema_of_fields(name: str, description: str, fields: Sequence[Field], described: Mapping[str, str]) -> ToolSchema:
    """Return the schema of a tool with these parameters.

    Args:
        name: The name of the tool; characters that APIs do not accept are replaced.
        description: What the tool does.
        fields: Its parameters. One that stands for all others, if there is one, comes last.
        described: Descriptions by the names of parameters.

    Raises:
        NodeCreationError: A parameter cannot be described to a model. The text names it, and what to write instead.
    """
    builder = SchemaBuilder()
    named = [field for field in fields if field.kind is not inspect.Parameter.VAR_KEYWORD]
    schema = builder.object_of(named, described, lambda parameter: f"parameter {parameter!r} of the tool {name!r}")
    for rest in fields[len(named) :]:
        place = f"parameter '**{rest.name}' of the tool {name!r}"
        schema["additionalProperties"] = builder.of(rest.type, place) or True
    return ToolSchema(safe_name(name), description, builder.finished(schema))


def output_schema(cls: Any) -> OutputSchema:
    """Return the schema of an answer that stands for a value of a type; ``{"value": ...}`` where that is not an object.

    Raises:
        NodeCreationError: The type cannot be described to a model. The text says what to write instead.
    """
    builder = SchemaBuilder()
    name = type_name(cls)
    schema = builder.of(cls, f"the output {name}")
    if is_wrapped(cls):
        schema = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
    return OutputSchema(safe_name(name).strip("_") or "output", builder.finished(schema))
