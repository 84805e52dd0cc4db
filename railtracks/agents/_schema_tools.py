"""``tool_from_schema``: a function as a node whose parameters a JSON Schema describes, instead of its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, Unpack

from railtracks._policies import PolicyOptions
from railtracks._schema._builder import safe_name
from railtracks._schema._docstrings import node_docs
from railtracks._schema._flat_schema import flattened
from railtracks._schema._problems import format_value
from railtracks.exceptions import NodeCreationError
from railtracks.llm._model import ToolSchema
from railtracks.nodes import FunctionNode, function_node

P = ParamSpec("P")
T = TypeVar("T")
_EXAMPLE = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'


class SchemaNode(FunctionNode[P, T]):
    """A node with a description for models that was not made of its signature.

    Attributes:
        tool_schema: That description.
        parameters: The JSON Schema that arguments must fit. It may say more than what is sent to a model.
        rename_hint: What to write to give it another name.
    """

    tool_schema: ToolSchema
    parameters: Mapping[str, Any]
    rename_hint: str


def tool_from_schema(
    func: Callable[P, T],
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, Any],
    key: str | None = None,
    version: str | None = None,
    memo: bool = True,
    **policies: Unpack[PolicyOptions],
) -> FunctionNode[P, T]:
    """Make a tool of a function whose parameters a JSON Schema describes, such as one from an OpenAPI document.

    ::

        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        forecast = rt.tool_from_schema(call_service, name="forecast", description="The weather.", parameters=schema)

    What a model writes is checked against the schema before the function is called, and it reads what does not fit.
    Readings that lose nothing are taken, as for other tools. Left to the function are ``format``, conditions (``if``),
    and other rare keywords. Code that calls the node by ``rt.call`` is not checked.

    Args:
        func: An async or sync function; it gets the arguments as keywords.
        name: The name for the model, and in records and logs; by default that of the function.
        description: What it does, for the model; by default its docstring.
        parameters: The JSON Schema of an object. The model gets it as it is, but for alternatives at the top, such as
            ``anyOf``, which providers refuse there: it gets the parameters of all of them, and these as a text.
        key: See ``rt.function_node``, as for all that follows.
        version: See there.
        memo: See there.
        **policies: See there: ``timeout``, ``retries``, ``limit``, ``cache``, ``where``.

    Returns:
        The node, to be listed in the ``tool_nodes`` of an agent, or called as any node.

    Raises:
        NodeCreationError: ``parameters`` is not the schema of an object, or the function does not take what it
            describes; or as ``rt.function_node``.
        ConfigError: A policy has a value that is not allowed.
    """
    node: FunctionNode[P, T] = function_node(func, name=name, key=key, version=version, memo=memo, **policies)
    if description is None:
        description = node_docs(node.target)[0]
    elif not isinstance(description, str):
        raise NodeCreationError(f"the description of the tool {node.name!r} is {description!r}; expected a text")
    schema = _checked_schema(parameters, node.name)
    _check_signature(func, schema, node.name)
    return schema_node(node, description, schema, "rt.tool_from_schema(..., name=...)")


def schema_node(
    node: FunctionNode[P, T], description: str, parameters: Mapping[str, Any], rename_hint: str
) -> SchemaNode[P, T]:
    """Return a node with a description of its own.

    Args:
        node: The node. It is pickled with what is given here, unless it says itself how it is.
        description: What it does, for models.
        parameters: The JSON Schema that its arguments must fit.
        rename_hint: What to write to give it another name.
    """
    own: SchemaNode[P, T] = object.__new__(SchemaNode)
    own.__dict__.update(node.__dict__)
    sent, note = flattened(parameters)
    own.tool_schema = ToolSchema(safe_name(node.name), "\n\n".join(filter(None, (description, note))), sent)
    own.parameters, own.rename_hint = parameters, rename_hint
    own.reduced = node.reduced or (schema_node, (node, description, parameters, rename_hint))
    return own


def _checked_schema(parameters: object, tool: str) -> dict[str, Any]:
    """Return a copy of a schema."""
    from json import dumps, loads  # here, because importing it takes time

    try:
        schema = loads(dumps(parameters, allow_nan=False)) if isinstance(parameters, Mapping) else None
    except (TypeError, ValueError, RecursionError) as exc:
        raise NodeCreationError(f"the parameters of the tool {tool!r} are no JSON Schema: {exc}") from exc
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise NodeCreationError(
            f"the parameters of the tool {tool!r} are {format_value(parameters)}; expected the JSON Schema of an "
            f"object, such as {_EXAMPLE}"
        )
    if not isinstance(schema.get("properties", {}), dict):
        raise NodeCreationError(
            f"the 'properties' of the tool {tool!r} are {format_value(schema['properties'])}; expected an object with "
            f"a schema for each parameter, such as {_EXAMPLE}"
        )
    return schema


def _check_signature(func: Callable[..., Any], schema: Mapping[str, Any], tool: str) -> None:
    """Raise NodeCreationError if the function cannot be called with what the schema describes."""
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return
    keywords = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    properties = flattened(schema)[0]["properties"]
    for name in properties:
        if not takes_any and name not in keywords:
            raise NodeCreationError(
                f"the tool {tool!r} has the parameter {name!r} in its schema, which its function does not take as a "
                f"keyword; add it to the function, or let it take **arguments"
            )
    has_others = bool(schema.get("additionalProperties", False)) or "patternProperties" in schema
    for each in parameters:
        is_needed = each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if is_needed and not has_others and each.name not in properties:
            raise NodeCreationError(
                f"the function of the tool {tool!r} needs {each.name!r}, which is not in its schema; add it to the "
                f"'properties', or give it a default"
            )
