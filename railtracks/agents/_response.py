"""What an agent returns, and what it streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

import attrs

from railtracks.llm._messages import AssistantMessage, Message, MessageHistory, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import Usage
from railtracks.llm._output import REJECTED
from railtracks.state._serialization._classify import OMITTED

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class LLMResponse(Generic[T_co]):
    """The result of an agent. Printing it prints its content.

    Args:
        content: The text of the model's last message; with an ``output_schema``, an object of that class.
        message_history: What the agent was given, and the messages of the model and of the tools, in order. Without
            the agent's own system message, so that it can be continued:
            ``[*response.message_history, UserMessage(...)]``.
        usage: The tokens of all requests of this agent, as far as the provider counted them; without those of agents
            that it called as tools.
        agent: The name of the agent that has answered: the one that was called, or one that it handed the conversation
            over to. None in results that earlier releases recorded.
        finish_reason: Why the last answer ended, in the provider's words, such as "stop"; None if it does not say.
        cost: What these requests cost, in dollars. None: the cost of one of them is not known.
    """

    content: T_co
    message_history: MessageHistory = attrs.field(factory=MessageHistory, repr=False)
    usage: Usage = attrs.field(factory=Usage, repr=False)
    finish_reason: str | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})
    agent: str | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})
    cost: Decimal | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})

    @property
    def reasoning(self) -> str:
        """What the model has thought before its last message, as far as its provider shows that."""
        last = self.message_history[-1] if self.message_history else None
        return last.reasoning if isinstance(last, AssistantMessage) else ""

    @property
    def text(self) -> str:
        """The text of the model's last message, even if ``content`` is an object."""
        return self.message_history[-1].content if self.message_history else str(self.content)

    def __str__(self) -> str:
        return str(self.content)


Kind = Literal["text", "reasoning", "partial", "tool_call", "tool_result", "rejected", "final"]
"""What a chunk is."""


@attrs.frozen
class Chunk:
    """A piece of what happens in the agents of a streamed call.

    ==============  ==================================================================================================
    kind            what came
    ==============  ==================================================================================================
    "text"          ``text``, the next piece of what a model writes
    "reasoning"     ``text``, the next piece of what a model thinks, as far as its provider shows it
    "partial"       ``partial``: what has come of the object, for an agent with an ``output_schema``
    "tool_call"     ``tool_call``: the model asks for a tool; the text before it was a remark, and not the answer
    "tool_result"   ``tool_result``: what the model reads of that call
    "rejected"      ``reason``: the answer before it, its text and its object, was not what was asked for
    "final"         ``response``: the result of the call that is streamed; the last chunk
    ==============  ==================================================================================================

    Args:
        text: See above; "" in chunks of other kinds.
        agent: The name of the agent that it came from; in the last chunk, of the node that was streamed.
        node_id: The node identifier of that agent's call, as in records and events: it distinguishes agents that run
            at the same time. None in the last chunk.
        response: In the last chunk, the result of the call: for an agent, its ``LLMResponse``. None in all others.
        kind: What it is.
        partial: See above; None in chunks of other kinds. For a class, a dict of the fields that have come, by their
            names: those that are whole as values of their types, a text also while it grows, a list with the items
            that have come, and the fields of an object that is not whole as a dict again. What does not fit is left
            out. What a class itself checks, it checks when it is whole.
        tool_call: See above; None in chunks of other kinds.
        tool_result: See above; None in chunks of other kinds.
        reason: See above; "" in chunks of other kinds.
    """

    text: str
    agent: str
    node_id: str | None = None
    response: Any = None
    kind: Kind = attrs.field(default="text", kw_only=True)
    partial: Any = attrs.field(default=None, kw_only=True)
    tool_call: ToolCall | None = attrs.field(default=None, kw_only=True)
    tool_result: ToolMessage | None = attrs.field(default=None, kw_only=True)
    reason: str = attrs.field(default="", kw_only=True)


def chunks_of_answer(answer: AssistantMessage, agent: str, node: str) -> Iterator[Chunk]:
    """Yield the chunks of what a model thought and wrote, as of an answer that comes as a whole.

    Args:
        answer: The answer.
        agent: The name of the agent.
        node: The node identifier of its call.
    """
    if answer.reasoning:
        yield Chunk(answer.reasoning, agent, node, kind="reasoning")
    if answer.content:
        yield Chunk(answer.content, agent, node)


def chunks_of_round(messages: Iterable[Message | ToolCall], agent: str, node: str) -> Iterator[Chunk]:
    """Yield the chunks of what follows an answer: the calls of tools, their results, or that it was rejected.

    Args:
        messages: The calls, or the messages after the answer.
        agent: The name of the agent.
        node: The node identifier of its call.
    """
    for message in messages:
        if isinstance(message, ToolCall):
            yield Chunk("", agent, node, kind="tool_call", tool_call=message)
        elif isinstance(message, ToolMessage):
            yield Chunk("", agent, node, kind="tool_result", tool_result=message)
        elif isinstance(message, UserMessage) and message.content.startswith(REJECTED):
            yield Chunk("", agent, node, kind="rejected", reason=message.content.removeprefix(REJECTED))
