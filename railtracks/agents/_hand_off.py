"""``hand_off``: another agent goes on with the conversation, and its answer is the answer."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Union, final, get_args, get_origin

import attrs

from railtracks.exceptions import NodeCreationError, NodeInvocationError
from railtracks.llm._messages import Message, MessageHistory
from railtracks.llm._model import ToolSchema, Usage
from railtracks.llm._tool_schemas import schema_of_fields
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import innermost
from railtracks.nodes._resolve import as_node
from railtracks.state._serialization._classify import OMITTED

HistoryFilter = Callable[[list[Message]], Any]
"""Gets the conversation, and returns the messages that the other agent gets of it, or an awaitable of them."""


SPENT = "spent"
"""The argument of an agent that a conversation was handed over to, on record."""


@attrs.frozen
class Spent:
    """What a conversation has taken before it was handed over, which counts towards the bounds of the next agent.

    Args:
        requests: The requests to models.
        usage: The tokens of all of them.
        cost: What they cost, in dollars. None: that is not known.
    """

    requests: int = 0
    usage: Usage = attrs.field(factory=Usage)
    cost: Decimal | None = attrs.field(default=None, metadata={OMITTED: True})


@final
@attrs.frozen
class HandOff:
    """A hand-off among the ``tool_nodes`` of an agent; made by ``rt.hand_off``.

    Attributes:
        agent: The agent, or a function that returns it.
        schema: The tool by which a model hands the conversation over.
        history_filter: Chooses the messages that the agent gets. None: all.
        is_later: Whether ``agent`` is a function that returns it.
    """

    agent: Callable[..., Any]
    schema: ToolSchema
    history_filter: HistoryFilter | None
    is_later: bool

    def target(self, result_type: Any) -> FunctionNode[..., Any]:
        """Return the node of the agent.

        Args:
            result_type: The type of the content of the agent that hands over.

        Raises:
            NodeCreationError: It is not an agent, or the content of its answers may have another type.
        """
        found = self.agent() if self.is_later else self.agent
        spec = spec_of(found)
        if spec is None:
            raise NodeCreationError(
                f"the function that was passed to rt.hand_off(..., name={self.schema.name!r}) returned {found!r}; "
                f"expected an agent, as rt.agent_node returns it"
            )
        if not _is_part(spec.result_type, result_type):
            raise NodeCreationError(
                f"the agent {spec.name} answers with {_shown(spec.result_type)}, and an agent that hands over to it "
                f"with {_shown(result_type)}; give both the same output_schema, or the first one a union of both"
            )
        return as_node(found, "rt.hand_off")

    async def messages(self, history: Sequence[Message]) -> MessageHistory:
        """Return what the agent gets of a conversation.

        Raises:
            NodeInvocationError: The filter returned something else than messages.
            Exception: What the filter raises.
        """
        if self.history_filter is None:
            return MessageHistory(history)
        given = self.history_filter([*history])
        chosen = await given if inspect.isawaitable(given) else given
        if not isinstance(chosen, Sequence) or not chosen or not all(isinstance(each, Message) for each in chosen):
            name = getattr(self.history_filter, "__name__", self.history_filter)
            raise NodeInvocationError(
                f"the history_filter {name!r} of {self.schema.name} returned {chosen!r}; expected a list of messages "
                f"that is not empty"
            )
        return MessageHistory(chosen)


def hand_off(
    agent: Callable[..., Any],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    history_filter: HistoryFilter | None = None,
) -> HandOff:
    """Return a tool by which the model of an agent hands the conversation over to another agent.

    ::

        Support = rt.agent_node("Support", llm=model, tool_nodes=[rt.hand_off(Billing), rt.hand_off(Returns)])
        response = await rt.call(Support, "I was charged twice.")
        print(response.agent)  # "Billing"

    The other agent goes on with the conversation, under its own system message, with its own model and tools. Its
    answer is the answer of the call: its ``content``, with the whole ``message_history``, and the ``usage`` and
    ``cost`` of all. What came before counts towards its ``max_requests``, ``max_tokens`` and ``max_cost``, so that
    agents which hand over to each other come to an end. What it raises, the call raises.

    The tools that the model asks for at the same time run first. If it asks for several hand-offs, the first one
    counts, and the conversation says so.

    Args:
        agent: The agent, also with ``options(...)``. Or a function without parameters that returns it, for agents that
            hand over to each other: ``rt.hand_off(lambda: Support, name="hand_off_to_Support")``. It is called when
            the conversation is handed over, and which agent it returns is not part of the version.
        name: The name of the tool; ``hand_off_to_`` and the name of the agent by default. Required with a function.
        description: When to hand over, for the model; the description in the ``manifest`` of the agent by default.
        history_filter: A sync or async function of the list of messages so far, the call of this tool and its answer
            included, that returns those which the other agent gets. None: all. The ``message_history`` of the result
            has all in any case.

    The content of an answer has the type that the first agent promises: the ``output_schema`` of the other one is the
    same, or a part of it, if it is a union.

    Raises:
        NodeCreationError: An argument is something else.
    """
    spec = spec_of(agent)
    is_later = spec is None and callable(agent) and not isinstance(agent, type | FunctionNode)
    if spec is None and not is_later:
        raise NodeCreationError(
            f"rt.hand_off() was given {agent!r}; expected an agent, as rt.agent_node returns it, or a function that "
            f"returns one"
        )
    if spec is None and name is None:
        raise NodeCreationError(
            "rt.hand_off() was given a function, and the name of its agent is not known yet; write "
            "rt.hand_off(lambda: Agent, name='hand_off_to_Agent')"
        )
    for label, value in {"name": name, "description": description}.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise NodeCreationError(f"rt.hand_off: {label} is {value!r}; expected a text that is not empty")
    if history_filter is not None and not callable(history_filter):
        raise NodeCreationError(
            f"rt.hand_off: history_filter is {history_filter!r}; expected a function of the list of messages"
        )
    if name is None:
        name = f"hand_off_to_{spec.name}"
    if description is None:
        description = "Hand the conversation over to another agent." if spec is None else _description(agent, spec.name)
    return HandOff(agent, schema_of_fields(name, description, [], {}), history_filter, is_later)


def hand_offs_of(nodes: Iterable[Any], tools: Mapping[str, Any]) -> dict[str, HandOff]:
    """Return the hand-offs among the ``tool_nodes`` of an agent, by the names under which its model knows them.

    Args:
        nodes: All of them.
        tools: The tools among them, by name.

    Raises:
        NodeCreationError: A name is taken.
    """
    found: dict[str, HandOff] = {}
    for each in nodes:
        if isinstance(each, HandOff):
            if each.schema.name in found or each.schema.name in tools:
                raise NodeCreationError(
                    f"two tools are called {each.schema.name!r}; rename one of them: rt.hand_off(..., name='another')"
                )
            found[each.schema.name] = each
    return found


def _description(agent: Any, name: str) -> str:
    given = innermost(agent).manifest.description
    return f"Hand the conversation over to {name}, which then answers." if given == f"Ask the agent {name}." else given


def spec_of(agent: Any) -> Any:
    """Return what an agent is made of; None if it is not an agent. The class of agents is in a module above."""
    cls = innermost(agent)
    is_agent = isinstance(cls, type) and hasattr(cls, "manifest")
    return getattr(cls, "definition", None) if is_agent else None


def _is_part(given: Any, of: Any) -> bool:
    """Return whether each value of a type has another type, too."""
    if given == of or of is Any:
        return True
    members = get_args(of) if get_origin(of) in (Union, types.UnionType) else (of,)
    parts = get_args(given) if get_origin(given) in (Union, types.UnionType) else (given,)
    return all(part in members for part in parts)


def _shown(kind: Any) -> str:
    return "text" if kind is str else getattr(kind, "__name__", str(kind))
