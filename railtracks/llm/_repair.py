"""Conversations as providers take them.

A conversation that was broken off, cut, or held with another provider may have what an API refuses: calls of tools
without an answer, names that are none, identifiers that repeat. What can be put right without changing what was said is
put right here, each time that a request is sent; the messages of the user stay as they are.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import attrs

from railtracks._schema._builder import safe_name
from railtracks.exceptions import LLMError
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage

LONGEST_IDENTIFIER = 40
"""Characters of the identifier of a call that OpenAI takes, the fewest of those that take various lengths."""
INTERRUPTED = "no result: the call was interrupted"
"""What the model reads in place of the answer of a tool that there is none of."""


@attrs.frozen
class ConversationRules:
    """What a provider demands of a conversation beyond what all do.

    Args:
        identifier_length: How many letters and digits the identifier of a call has, and nothing else. None: up to
            ``LONGEST_IDENTIFIER`` of these, "_" and "-".
        bridge: What the model is made to say between the answer of a tool and a message of the user. None: nothing.
    """

    identifier_length: int | None = None
    bridge: str | None = None


ANY_PROVIDER = ConversationRules()
MISTRAL = ConversationRules(identifier_length=9, bridge="OK.")
"""https://github.com/langchain-ai/langchain/pull/24668 and https://github.com/avante-corp/avante.nvim/issues/2562"""


def repaired(
    messages: Sequence[Message],
    model: str,
    left_out: Callable[[ToolMessage], object],
    rules: ConversationRules = ANY_PROVIDER,
) -> list[Message]:
    """Return a conversation in which each call of a tool has a name, an identifier of its own, and one answer.

    Arguments that are not a JSON object become one, and answers follow their calls in the order of these. A call that
    has no answer gets one that says so. An answer without a call is left out.

    Args:
        messages: The conversation.
        model: The name of the model, for errors.
        left_out: Called with each answer that is left out.
        rules: What the provider demands.

    Raises:
        LLMError: There is nothing to answer.
    """
    if all(isinstance(each, SystemMessage) for each in messages):
        raise LLMError(
            f"the model {model} was to answer a conversation without a message of the user; add rt.llm.UserMessage(...)"
        )
    found: list[Message] = []
    identifiers: set[str] = set()
    rest = deque(messages)
    while rest:
        message = rest.popleft()
        if isinstance(message, ToolMessage):
            left_out(message)
        elif isinstance(message, AssistantMessage) and message.tool_calls:
            answers = _take_answers(rest)
            calls = [_repaired_call(call, identifiers, rules) for call in message.tool_calls]
            found.append(message if calls == [*message.tool_calls] else attrs.evolve(message, tool_calls=calls))
            found += map(_answer, message.tool_calls, calls, _matched(message.tool_calls, answers))
            rest.extendleft(reversed([each for each in answers if not isinstance(each, _Taken)]))
        else:
            if rules.bridge is not None and found and _needs_bridge(found[-1], message):
                found.append(AssistantMessage(rules.bridge))
            found.append(message)
    return found


def _needs_bridge(before: Message, message: Message) -> bool:
    return isinstance(before, ToolMessage) and isinstance(message, UserMessage)


class _Taken:
    """Stands where an answer was that has found its call."""


def _take_answers(rest: deque[Message]) -> list[Message | _Taken]:
    """Take the messages up to the next one of the model."""
    taken: list[Message | _Taken] = []
    while rest and not isinstance(rest[0], AssistantMessage):
        taken.append(rest.popleft())
    return taken


def _matched(calls: Iterable[ToolCall], messages: list[Message | _Taken]) -> list[ToolMessage | None]:
    """Take the answer of each call out of the messages; None for a call that has none."""
    found: list[ToolMessage | None] = []
    for call in calls:
        places = (
            place
            for place, each in enumerate(messages)
            if isinstance(each, ToolMessage) and each.tool_call_id == call.id
        )
        place = next(places, None)
        message = None if place is None else messages[place]
        if place is not None:
            messages[place] = _Taken()
        found.append(message if isinstance(message, ToolMessage) else None)
    return found


def _answer(given: ToolCall, sent: ToolCall, answer: ToolMessage | None) -> ToolMessage:
    if answer is None:
        return ToolMessage(INTERRUPTED, sent.id, sent.name, is_error=True)
    is_same = (given.id, given.name) == (sent.id, sent.name)
    return answer if is_same else attrs.evolve(answer, tool_call_id=sent.id, name=sent.name)


def _repaired_call(call: ToolCall, identifiers: set[str], rules: ConversationRules) -> ToolCall:
    identifier = _unused(re.sub(r"[^a-zA-Z0-9_-]", "_", call.id)[:LONGEST_IDENTIFIER] or "call", identifiers)
    if rules.identifier_length is not None:
        identifier = _of_length(rules.identifier_length, call.id, identifiers)
    identifiers.add(identifier)
    name, arguments = safe_name(call.name) or "unknown", call.arguments
    if isinstance(arguments, str):
        arguments = _as_object(arguments)
    if (identifier, name) == (call.id, call.name) and arguments is call.arguments:
        return call
    return attrs.evolve(call, id=identifier, name=name, arguments=arguments)


def _unused(identifier: str, used: set[str]) -> str:
    number, found = 1, identifier
    while found in used:
        number += 1
        end = f"_{number}"
        found = identifier[: LONGEST_IDENTIFIER - len(end)] + end
    return found


def _of_length(length: int, identifier: str, used: set[str]) -> str:
    """Return the identifier if it has that many letters and digits, or else always the same one in its place."""
    found = identifier
    while found in used or not re.fullmatch(r"[a-zA-Z0-9]+", found) or len(found) != length:
        identifier += "+"
        found = sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:length]
    return found


def _as_object(arguments: str) -> dict[str, object]:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"malformed": arguments}
