"""What an agent returns, and what it streams."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import attrs

from railtracks.llm._messages import AssistantMessage, MessageHistory
from railtracks.llm._model import Usage

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
        finish_reason: Why the last answer ended, in the provider's words, such as "stop"; None if it does not say.
    """

    content: T_co
    message_history: MessageHistory = attrs.field(factory=MessageHistory, repr=False)
    usage: Usage = attrs.field(factory=Usage, repr=False)
    finish_reason: str | None = attrs.field(default=None, kw_only=True, repr=False)

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


@attrs.frozen
class Chunk:
    """A piece of what the agents of a streamed call write.

    Args:
        text: The next piece of a model's text; "" in the last chunk.
        agent: The name of the agent that wrote it; in the last chunk, of the node that was streamed.
        node_id: The node identifier of that agent's call, as in records and events: it distinguishes agents that run
            at the same time. None in the last chunk.
        response: In the last chunk, the result of the call: for an agent, its ``LLMResponse``. None in all others.
    """

    text: str
    agent: str
    node_id: str | None = None
    response: Any = None
