"""System messages: as they are given, or made by a function at the start of each run of an agent."""

from __future__ import annotations

from typing import Any

from railtracks.exceptions import NodeCreationError, NodeInvocationError
from railtracks.llm._messages import SystemMessage
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import required_parameters
from railtracks.nodes._identity import definition_path
from railtracks.nodes._resolve import as_node

_ORIGIN = "railtracks.system_message"


def system_of(given: Any) -> tuple[SystemMessage | None, FunctionNode[..., Any] | None]:
    """Return the system message that was given, or the node that makes it; None for both if there is none.

    Raises:
        NodeCreationError: It is something else, or the function cannot be called without arguments.
    """
    if isinstance(given, str):
        return SystemMessage(given), None
    if given is None or (isinstance(given, SystemMessage) and isinstance(given.content, str)):
        return given, None
    if not callable(given):
        raise NodeCreationError(
            f"system_message is {given!r}; expected a text, a SystemMessage whose content is a text, or a function "
            f"that returns one of them"
        )
    node = as_node(given, "system_message").options()  # a copy
    if needed := required_parameters(node.target):
        raise NodeCreationError(
            f"the function {node.name}, a system_message, has the parameters {', '.join(needed)}, and is called "
            f"without arguments; read rt.context.get(...) in it, or give them defaults"
        )
    node.node_type = "Other"
    if definition_path(node.func).endswith("<lambda>") and node.origin is None:
        node.name = "system_message"
        node.origin = _ORIGIN  # so that what it returned is found when a run is resumed: an agent has only one
    return None, node


def returned_message(result: object, function: str, agent: str) -> SystemMessage:
    """Return what the function of a system message has returned as a message.

    Raises:
        NodeInvocationError: It is something else.
    """
    if isinstance(result, str):
        return SystemMessage(result)
    if isinstance(result, SystemMessage) and isinstance(result.content, str):
        return result
    raise NodeInvocationError(
        f"the function {function}, the system_message of the agent {agent}, returned {result!r}; expected a text, or a "
        f"SystemMessage whose content is a text"
    )
