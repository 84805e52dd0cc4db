"""Messages between users, models and tools, in a form that belongs to no provider.

Their ``repr`` is part of digests that are on record: names stay as they are, and so do the fields that it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import attrs

Extra = dict[str, dict[str, Any]]
"""What a provider has sent beyond what is said in common terms, by the name of the provider."""


@attrs.frozen
class SystemMessage:
    """What the model must know, and how it must behave.

    Args:
        content: The text. ``{name}`` in it is filled from the context of the session; see ``rt.escape_braces``.
        inject_prompt: False to send the text as it stands.
    """

    role: Literal["system"] = attrs.field(default="system", init=False)
    content: str
    inject_prompt: bool = attrs.field(default=True, kw_only=True)


@attrs.frozen
class UserMessage:
    """A message of the user. The arguments are those of :class:`SystemMessage`."""

    role: Literal["user"] = attrs.field(default="user", init=False)
    content: str
    inject_prompt: bool = attrs.field(default=True, kw_only=True)


@attrs.frozen
class ToolCall:
    """A model's request to call a tool.

    Args:
        id: The provider's identifier of the request; the ``ToolMessage`` that answers it repeats it.
        name: The name of the tool.
        arguments: The values by the names of parameters, as the model wrote them. A text if they are not the JSON
            object that they should be.
        extra: See :class:`AssistantMessage`.
    """

    id: str
    name: str
    arguments: dict[str, Any] | str = attrs.field(factory=dict)
    extra: Extra | None = attrs.field(default=None, kw_only=True, repr=False)


def _as_tuple(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Convert tool calls; not ``tuple`` itself, as type checkers take the type of the argument from here."""
    return tuple(calls)


@attrs.frozen
class AssistantMessage:
    """A message of the model: its text, and the tools that it asks for.

    Args:
        content: The text.
        tool_calls: The tools.
        reasoning: What the model has thought before, as far as its provider shows that. It is for people: a provider
            gets back what is in ``extra``.
        extra: What else the provider has sent with the message, such as signatures, by the name of the provider. It
            is opaque, and plain data as JSON has it. Only that provider gets it back.
    """

    role: Literal["assistant"] = attrs.field(default="assistant", init=False)
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_as_tuple)
    reasoning: str = attrs.field(default="", kw_only=True, repr=False)
    extra: Extra | None = attrs.field(default=None, kw_only=True, repr=False)


@attrs.frozen
class ToolMessage:
    """The answer of a tool.

    Args:
        content: Its result or its error, as text.
        tool_call_id: The ``id`` of the ``ToolCall`` that this answers.
        name: The name of the tool.
        is_error: True if the call failed, or could not be made.
    """

    role: Literal["tool"] = attrs.field(default="tool", init=False)
    content: str
    tool_call_id: str
    name: str
    is_error: bool = False


Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage


class MessageHistory(list[Message]):
    """A conversation: a list of messages, oldest first."""

    def __str__(self) -> str:
        return "\n".join(map(_format_message, self))


def _format_message(message: Message) -> str:
    parts = [message.content] if message.content else []
    if isinstance(message, AssistantMessage):
        parts += map(_format_call, message.tool_calls)
    return f"{message.role}: {'; '.join(parts)}"


def _format_call(call: ToolCall) -> str:
    if isinstance(call.arguments, str):
        return f"{call.name}({call.arguments})"
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
