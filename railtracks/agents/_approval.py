"""Calls of tools that a person must approve.

Such a call is one of ``approve TOOL``, below which are the question and, once it is approved, the call of the tool. So
each goes on as soon as its own answer has come, and a run that is resumed finds both again.

The texts that a model reads must not change: they are on record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from railtracks._approval_request import ApprovalRequest, Decision, decision_of
from railtracks._calls._ask import ask_for_approval
from railtracks._calls._call import call
from railtracks._policies import OWN_POLICIES
from railtracks._schema._arguments import ArgumentError
from railtracks._schema._lossless import json_in
from railtracks.agents._results import as_text
from railtracks.agents._tools import Arguments, Tool
from railtracks.exceptions import NodeInvocationError
from railtracks.llm._messages import ToolCall, ToolMessage
from railtracks.nodes import FunctionNode
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import Encoder


def approved_call(
    tool: Tool,
    tool_call: ToolCall,
    bound: Arguments,
    agent: str,
    redactor: Redactor,
    answer: Callable[[Any], ToolMessage],
) -> tuple[FunctionNode[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the call that asks a person, and then makes the call of a tool. It returns what the model reads.

    Args:
        tool: The tool.
        tool_call: What the model asks for.
        bound: The arguments for the node of the tool.
        agent: The name of the agent.
        redactor: The secrets that the session knows.
        answer: Turns the result of the tool, or its exception, into what the model reads. What it raises, the agent
            raises.
    """
    given = tool_call.arguments
    arguments = Encoder(redactor).encode(json_in(given) if isinstance(given, str) else given)
    request = ApprovalRequest(agent, tool_call.name, arguments)

    async def approve(tool_name: str, arguments: dict[str, Any]) -> ToolMessage:  # noqa: ARG001 (only recorded)
        args, kwargs = bound
        changed = None
        if await _is_needed(tool, bound):
            decision = _decision(await ask_for_approval(request, functools.partial(_check, tool)))
            if not decision.approved:
                reason = f": {decision.reason}" if decision.reason else ""
                return ToolMessage(f"not run: a person denied it{reason}", tool_call.id, tool_call.name, is_error=True)
            if decision.arguments is not None:
                changed = decision.arguments
                args, kwargs = _bind(tool, changed)
        try:
            result = await call(tool.node, *args, **kwargs)
        except Exception as exc:  # for the model, as that of any tool
            result = exc
        message = answer(result)
        if changed is None:
            return message
        return attrs.evolve(
            message, content=f"(run with other arguments, as a person decided: {as_text(changed)})\n{message.content}"
        )

    node: FunctionNode[..., Any] = FunctionNode(
        approve,
        name=f"approve {tool_call.name}",
        node_type="Other",
        is_async=True,
        origin="railtracks.approve",
        policies=OWN_POLICIES,
    )
    return node, (tool_call.name, arguments), {}


def _check(tool: Tool, answer: object) -> None:
    """Check an answer.

    Raises:
        NodeInvocationError: It says neither yes nor no, or has arguments that do not fit.
    """
    decision = _decision(answer)
    if decision.approved and decision.arguments is not None:
        _bind(tool, decision.arguments)


async def _is_needed(tool: Tool, bound: Arguments) -> bool:
    if isinstance(tool.needs_approval, bool):
        return tool.needs_approval
    needed = await call(tool.needs_approval, *bound[0], **bound[1])
    if not isinstance(needed, bool):
        raise NodeInvocationError(
            f"{tool.needs_approval.name}, the needs_approval of the tool {tool.schema.name}, returned {needed!r}; "
            f"expected True or False"
        )
    return needed


def _bind(tool: Tool, arguments: Mapping[str, Any]) -> Arguments:
    try:
        return tool.bind(dict(arguments))
    except ArgumentError as exc:
        raise NodeInvocationError(
            f"the call of the tool {tool.schema.name} was approved with the arguments {arguments!r}, which do not fit: "
            f"{exc}; answer with all arguments of the tool"
        ) from exc


def _decision(answer: object) -> Decision:
    """Return what an answer says.

    Raises:
        NodeInvocationError: It says neither yes nor no.
    """
    try:
        return decision_of(answer)
    except ValueError as exc:
        raise NodeInvocationError(str(exc)) from None
