"""Tools: nodes that a model may call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from keyword import iskeyword
from typing import Any

import attrs

from railtracks._schema._arguments import arguments_for
from railtracks._schema._fields import Field, parameters_of
from railtracks._schema._validation import plain
from railtracks.agents._response import LLMResponse
from railtracks.exceptions import NodeCreationError
from railtracks.llm._messages import UserMessage
from railtracks.llm._model import ToolSchema
from railtracks.llm._tool_schemas import schema_of_fields, tool_schema
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state._serialization._encoder import encode_shown
from railtracks.state._serialization._record_text import dumps

REQUEST = "request"
"""The one argument of an agent without parameters of its own."""

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


@attrs.frozen
class Parameter:
    """An argument that an agent takes as a tool.

    Args:
        name: As the calling model sees it.
        annotation: Its type.
        description: What to give.
        required: False: it may be left out.
    """

    name: str
    annotation: Any = str
    description: str = ""
    required: bool = True


def _as_tuple(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    return tuple(parameters)


@attrs.frozen
class ToolManifest:
    """How an agent looks to another agent that has it as a tool.

    Args:
        description: What it is good for, and when to ask it.
        parameters: What it is given; the agent gets them as a message of lines, ``name: value``. None at all: it takes
            a text, called ``request``.
    """

    description: str
    parameters: Sequence[Parameter] = attrs.field(default=(), converter=_as_tuple)


def check_manifest(manifest: object) -> None:
    """NodeCreationError unless this is a manifest that can be told to a model."""
    if not isinstance(manifest, ToolManifest) or not isinstance(manifest.description, str):
        raise NodeCreationError(f"manifest is {manifest!r}; give rt.agent_node() an rt.ToolManifest('what it is for')")
    names: set[str] = set()
    for each in manifest.parameters:
        texts = (each.name, each.description) if isinstance(each, Parameter) else (None,)
        if not all(isinstance(text, str) for text in texts) or not each.name.isidentifier() or iskeyword(each.name):
            raise NodeCreationError(
                f"the manifest has the parameter {each!r}; give an rt.Parameter('name', str, 'what it is'), "
                f"whose name is a Python identifier"
            )
        if isinstance(each.annotation, str):
            raise NodeCreationError(
                f"the manifest's parameter {each.name!r} has the text {each.annotation!r} for an annotation; "
                f"give the type itself"
            )
        if each.name in names:
            raise NodeCreationError(f"the manifest has two parameters called {each.name!r}; give one another name")
        names.add(each.name)


@attrs.frozen
class Tool:
    """A node, and how a model is told of it."""

    schema: ToolSchema
    node: FunctionNode[..., Any]
    bind: Callable[[dict[str, Any] | str], Arguments]
    """From what the model gave to the arguments of the node. The text of an ArgumentError is for the model."""


def tools_of(nodes: Iterable[Any], manifest_of: Callable[[Any], ToolManifest | None]) -> dict[str, Tool]:
    """The tools by the names that the model knows them by.

    Args:
        nodes: Anything that ``rt.call`` takes.
        manifest_of: Of an agent, its manifest; None for other nodes.

    Raises:
        NodeCreationError: one cannot be called, or cannot be told to a model, or two have one name.
    """
    tools: dict[str, Tool] = {}
    if not isinstance(nodes, Iterable) or isinstance(nodes, str):
        raise NodeCreationError(f"tool_nodes is {nodes!r}; give rt.agent_node() a list of nodes: tool_nodes=[...]")
    for given in nodes:
        manifest = manifest_of(given)
        node = as_node(given, "tool_nodes")
        tool = _function_tool(node) if manifest is None else _agent_tool(node, manifest)
        if tool.schema.name in tools:
            how = "rt.function_node(..., name='another')" if manifest is None else "rt.agent_node('another', ...)"
            raise NodeCreationError(f"two tools are called {tool.schema.name!r}; give one another name: {how}")
        tools[tool.schema.name] = tool
    return tools


def _function_tool(node: FunctionNode[..., Any]) -> Tool:
    return Tool(tool_schema(node), node, functools.partial(arguments_for, parameters_of(node)))


def _agent_tool(node: FunctionNode[..., Any], manifest: ToolManifest) -> Tool:
    parameters = manifest.parameters or (Parameter(REQUEST, str, "What to ask of it, with all that it needs to know."),)
    told = [Field(each.name, each.name, each.annotation, each.required) for each in parameters]
    described = {each.name: each.description for each in parameters if each.description}
    schema = schema_of_fields(node.name, manifest.description, told, described)
    fields = [attrs.evolve(field, type=plain(field.type)) for field in told]

    def bind(given: dict[str, Any] | str) -> Arguments:
        values = arguments_for(fields, given)[1]
        lines = [f"{name}: {as_text(value)}" for name, value in values.items()]
        text = "\n".join(lines) if manifest.parameters else as_text(values[REQUEST])
        # A model wrote this, so no name in it is to be filled from the context.
        return (UserMessage(text, inject_prompt=False),), {}

    return Tool(schema, node, bind)


def as_text(result: object) -> str:
    """A result as a model reads it: a text as it is, anything else as JSON; of an agent, its content."""
    content = result.content if isinstance(result, LLMResponse) else result
    return content if isinstance(content, str) else dumps(encode_shown(content))
