"""Answers that ended before they were whole, and conversations that reached a bound."""

from __future__ import annotations

from decimal import Decimal

from railtracks.agents._spec import AgentSpec
from railtracks.exceptions import Filtered, LimitExceeded, LLMError, NodeInvocationError, Refused, Truncated
from railtracks.llm._finish import Ending, ending_of
from railtracks.llm._messages import MessageHistory
from railtracks.llm._model import Completion, Usage
from railtracks.llm._prices import show_dollars, unpriced

CUT_CALL = "not run: your answer was cut off at the limit of tokens in the midst of this call; make it again, shorter"
"""What the model reads of a call that was cut off."""
UNREADABLE = "your call of a tool could not be read; make it again, or answer without it"
"""What the model reads if the provider could not read a call of a tool."""


def ending_error(agent: AgentSpec, completion: Completion, history: MessageHistory, usage: Usage) -> LLMError | None:
    """Return the error of an answer that is not whole; None if it is, or if the agent can go on with it.

    Args:
        agent: The agent.
        completion: The answer.
        history: The conversation up to it, and with it.
        usage: The tokens of all requests so far.
    """
    ending, what = ending_of(completion), f"the answer of the model {agent.model.name} to the agent {agent.name}"
    said = f"(finish_reason {completion.finish_reason!r})"
    text = completion.message.content
    match ending:
        case Ending.CUT if not completion.message.tool_calls:
            return truncated(agent, completion, history, usage)
        case Ending.FILTERED:
            message = f"{what} was withheld by the provider's filter {said}; change what is asked, or ask another model"
            return Filtered(message, history, usage)
        case Ending.REFUSED:
            because = f": {text}" if text else ""
            message = f"the model {agent.model.name} refused to answer the agent {agent.name} {said}{because}"
            return Refused(message, history, usage)
        case Ending.BROKEN_OFF:
            message = f"{what} was broken off by the provider {said}; ask again, as the agent does with retries=..."
            return LLMError(message, history, usage)
    return None


def truncated(agent: AgentSpec, completion: Completion, history: MessageHistory, usage: Usage) -> LLMError:
    """Return the error of an answer that was cut off. The arguments are those of ``ending_error``."""
    counted = completion.usage
    after = f" after {counted.output_tokens} tokens" if counted is not None and counted.output_tokens else ""
    return Truncated(
        f"the answer of the model {agent.model.name} to the agent {agent.name} was cut off{after} (finish_reason "
        f"{completion.finish_reason!r}); give the model a higher limit, such as max_tokens=..., or ask for less. "
        f"The error has the conversation (message_history), with what came",
        history,
        usage,
    )


def bound_error(
    agent: AgentSpec, requests: int, history: MessageHistory, usage: Usage, cost: Decimal | None
) -> LLMError | None:
    """Return the error of an agent that may make no other request; None if it may.

    Args:
        agent: The agent.
        requests: How many it has made.
        history: The conversation.
        usage: The tokens that were used.
        cost: What they cost; None if that is not known.

    Raises:
        NodeInvocationError: The agent has a ``max_cost``, and the price of its model is not known.
    """
    tokens = usage.input_tokens + usage.output_tokens
    if agent.max_cost is not None and not requests and (problem := unpriced(agent.model)):
        raise NodeInvocationError(f"the agent {agent.name} has max_cost, and {problem}")
    if agent.max_requests is not None and requests >= agent.max_requests:
        bound = "max_requests"
        reached = f"made {requests} requests, as many as max_requests={agent.max_requests} allows"
    elif agent.max_tokens is not None and tokens >= agent.max_tokens:
        bound = "max_tokens"
        reached = f"used {tokens} tokens, and max_tokens={agent.max_tokens} allows no other request"
    elif agent.max_cost is not None and (cost is None or cost >= agent.max_cost):
        bound = "max_cost"
        spent = "requests whose cost is not known" if cost is None else show_dollars(cost)
        reached = f"used {spent}, and max_cost={agent.max_cost} allows no other request"
    else:
        return None
    return LimitExceeded(
        f"the agent {agent.name} has {reached}, and its model {agent.model.name} has not answered yet; write "
        f"rt.agent_node(..., {bound}=...) for another bound, or "
        f"None for none. The error has the conversation (message_history), the usage and the cost",
        history,
        usage,
        cost,
    )
