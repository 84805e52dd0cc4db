"""Tools: nodes that a model may call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from keyword import iskeyword
from typing import Any, final

import attrs

from railtracks._schema._arguments import arguments_by_schema, arguments_for
from railtracks._schema._fields import Field, parameters_of
from railtracks._schema._validation import without_annotated
from railtracks.agents._hand_off import HandOff
from railtracks.agents._results import as_text
from railtracks.agents._schema_tools import SchemaNode
from railtracks.exceptions import NodeCreationError
from railtracks.llm._messages import UserMessage
from railtracks.llm._model import ToolSchema
from railtracks.llm._tool_schemas import schema_of_fields, tool_schema
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node

REQUEST = "request"
"""The one argument of an agent whose manifest has no parameters."""

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


@attrs.frozen
class Parameter:
    """An argument that an agent takes as a tool.

    Args:
        name: Its name, for the model that calls the tool.
        annotation: Its type.
        description: What to pass.
        required: False if it may be left out.
    """

    name: str
    annotation: Any = str
    description: str = ""
    required: bool = True


def _as_tuple(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """Convert parameters; not ``tuple`` itself, as type checkers take the type of the argument from here."""
    return tuple(parameters)


@attrs.frozen
class ToolManifest:
    """The description of an agent for another agent that has it as a tool.

    Args:
        description: What the agent is good for, and when to ask it.
        parameters: Its arguments. The agent receives them as a message of lines, ``name: value``. Without any it takes
            a text, called ``request``.
    """

    description: str
    parameters: Sequence[Parameter] = attrs.field(default=(), converter=_as_tuple)


def check_manifest(manifest: object) -> None:
    """Raise NodeCreationError unless this is a manifest that can be described to a model."""
    if not isinstance(manifest, ToolManifest) or not isinstance(manifest.description, str):
        raise NodeCreationError(f"manifest is {manifest!r}; expected an rt.ToolManifest('what the agent is for')")
    names: set[str] = set()
    for each in manifest.parameters:
        texts = (each.name, each.description) if isinstance(each, Parameter) else (None,)
        if not all(isinstance(text, str) for text in texts) or not each.name.isidentifier() or iskeyword(each.name):
            raise NodeCreationError(
                f"the manifest has the parameter {each!r}; expected an rt.Parameter('name', str, 'what it is') whose "
                f"name is a Python identifier"
            )
        if isinstance(each.annotation, str):
            raise NodeCreationError(
                f"the annotation of the manifest's parameter {each.name!r} is the text {each.annotation!r}; "
                f"use the type itself"
            )
        if each.name in names:
            raise NodeCreationError(f"the manifest has two parameters called {each.name!r}; rename one of them")
        names.add(each.name)


@final
@attrs.frozen
class ToolNode:
    """A node with what an agent must know of it as a tool; made by ``rt.tool``."""

    node: FunctionNode[..., Any] | Callable[..., Any]
    needs_approval: bool | FunctionNode[..., Any]


def tool(node: Callable[..., Any], /, *, needs_approval: bool | Callable[..., Any]) -> ToolNode:
    """Return a node for the ``tool_nodes`` of an agent, whose calls a person must approve before they are made.

    ::

        rt.agent_node(..., tool_nodes=[search, rt.tool(pay, needs_approval=lambda amount: amount > 100)])

    Args:
        node: Anything that ``rt.call`` takes: a function, a node, another agent.
        needs_approval: True: each call. False: none. Or a sync or async function, which gets the arguments of the
            call as the node would, and returns whether this call needs it. It may be a node, and is a call on record
            in any case.

    A person is asked as by ``rt.ask``: by the ``ask_callback`` of the session, with an ``rt.ApprovalRequest``; without
    one the run of a flow is suspended until the answer comes. Several calls are asked for at once. The answer:

    - True, or a text such as "yes": the tool runs.
    - False, or "no", or any other text: it does not. The model reads the text as the reason.
    - A dict, ``{"approved": True}``, with ``"reason"`` if it is False, and with ``"arguments"`` if the tool is to run
      with others, a dict of all of them. The model reads that they were changed.

    Any other answer is an error, which the agent raises. What an ``ask_callback`` has answered in such a way is
    asked again when the run is resumed.

    Raises:
        NodeCreationError: An argument is something else.
    """
    if isinstance(node, ToolNode):
        raise NodeCreationError(f"rt.tool({node.node!r}) was given to rt.tool again; pass the node itself")
    if isinstance(node, HandOff):
        raise NodeCreationError("rt.tool() was given a hand-off, which needs no approval; pass rt.hand_off(...) itself")
    if isinstance(needs_approval, bool):
        return ToolNode(node, needs_approval)
    if not callable(needs_approval):
        raise NodeCreationError(
            f"needs_approval is {needs_approval!r}; expected True, False, or a function of the arguments of the tool"
        )
    return ToolNode(node, as_node(needs_approval, "rt.tool"))


@attrs.frozen
class Tool:
    """A node, and its description for a model."""

    schema: ToolSchema
    node: FunctionNode[..., Any]
    bind: Callable[[dict[str, Any] | str], Arguments]
    """Turns the arguments that a model wrote into those of the node. Raises an ArgumentError whose text is for it."""
    needs_approval: bool | FunctionNode[..., Any] = False
    """Whether a person must approve each call, or a node that decides it."""


def tools_of(nodes: Iterable[Any], manifest_of: Callable[[Any], ToolManifest | None]) -> dict[str, Tool]:
    """Return the tools by the names under which the model knows them.

    Args:
        nodes: Anything that ``rt.call`` takes. Hand-offs among them are left out.
        manifest_of: Returns the manifest of an agent, and None for any other node.

    Raises:
        NodeCreationError: A node cannot be called or described to a model, or two have the same name.
    """
    tools: dict[str, Tool] = {}
    if not isinstance(nodes, Iterable) or isinstance(nodes, str):
        raise NodeCreationError(f"tool_nodes is {nodes!r}; pass rt.agent_node() a list of nodes: tool_nodes=[...]")
    for each in nodes:
        if isinstance(each, HandOff):
            continue
        given, needs_approval = (each.node, each.needs_approval) if isinstance(each, ToolNode) else (each, False)
        manifest = manifest_of(given)
        node = as_node(given, "tool_nodes", in_list=True)
        tool = _function_tool(node) if manifest is None else _agent_tool(node, manifest)
        if tool.schema.name in tools:
            how = "rt.function_node(..., name='another')" if manifest is None else "rt.agent_node('another', ...)"
            how = node.rename_hint if isinstance(node, SchemaNode) else how
            raise NodeCreationError(f"two tools are called {tool.schema.name!r}; rename one of them: {how}")
        tools[tool.schema.name] = attrs.evolve(tool, needs_approval=needs_approval) if needs_approval else tool
    return tools


def _function_tool(node: FunctionNode[..., Any]) -> Tool:
    if isinstance(node, SchemaNode):
        return Tool(node.tool_schema, node, lambda given: ((), arguments_by_schema(node.parameters, given)))
    return Tool(tool_schema(node), node, functools.partial(arguments_for, parameters_of(node)))


def _agent_tool(node: FunctionNode[..., Any], manifest: ToolManifest) -> Tool:
    # The description is part of a digest that is on record: a changed text makes interrupted agents ask again.
    parameters = manifest.parameters or (Parameter(REQUEST, str, "What to ask of it, with all that it needs to know."),)
    annotated = [Field(each.name, each.name, each.annotation, each.required) for each in parameters]
    described = {each.name: each.description for each in parameters if each.description}
    schema = schema_of_fields(node.name, manifest.description, annotated, described)
    fields = [attrs.evolve(field, type=without_annotated(field.type)) for field in annotated]

    def bind(given: dict[str, Any] | str) -> Arguments:
        values = arguments_for(fields, given)[1]
        lines = [f"{name}: {as_text(value)}" for name, value in values.items()]
        text = "\n".join(lines) if manifest.parameters else as_text(values[REQUEST])
        # A model wrote this, so names in braces must not be filled from the context.
        return (UserMessage(text, inject_prompt=False),), {}

    return Tool(schema, node, bind)
