"""Messages: what is said between people, models and tools, in no provider's form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import attrs


@attrs.frozen
class SystemMessage:
    """What the model is to know and how it is to behave.

    Args:
        content: The text. ``{name}`` in it is filled from the context of the session; see ``rt.escape_braces``.
        inject_prompt: False: the text is sent as it stands.
    """

    role: Literal["system"] = attrs.field(default="system", init=False)
    content: str
    inject_prompt: bool = attrs.field(default=True, kw_only=True)


@attrs.frozen
class UserMessage:
    """What a user says. The arguments are those of :class:`SystemMessage`."""

    role: Literal["user"] = attrs.field(default="user", init=False)
    content: str
    inject_prompt: bool = attrs.field(default=True, kw_only=True)


@attrs.frozen
class ToolCall:
    """A model asks for a tool.

    Args:
        id: Of the call, by which its answer is known; the provider's.
        name: Of the tool.
        arguments: By name, as the model gave them. A text, where they are not the JSON object that they should be.
    """

    id: str
    name: str
    arguments: dict[str, Any] | str = attrs.field(factory=dict)


def _as_tuple(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    return tuple(calls)


@attrs.frozen
class AssistantMessage:
    """What a model says, and which tools it asks for."""

    role: Literal["assistant"] = attrs.field(default="assistant", init=False)
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_as_tuple)


@attrs.frozen
class ToolMessage:
    """What a tool answered.

    Args:
        content: Its result as text, or its error.
        tool_call_id: Of the ``ToolCall`` that this answers.
        name: Of the tool.
        is_error: The call failed, or could not be made.
    """

    role: Literal["tool"] = attrs.field(default="tool", init=False)
    content: str
    tool_call_id: str
    name: str
    is_error: bool = False


Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage


class MessageHistory(list[Message]):
    """A conversation: a list of messages, oldest first."""

    __railtracks_untagged__: ClassVar = True  # on record it needs no type beside it: any list of messages does for one

    def __str__(self) -> str:
        return "\n".join(map(_line, self))


def _line(message: Message) -> str:
    said = [message.content] if message.content else []
    if isinstance(message, AssistantMessage):
        said += [f"{call.name}({_shown(call.arguments)})" for call in message.tool_calls]
    return f"{message.role}: {'; '.join(said)}"


def _shown(arguments: Mapping[str, Any] | str) -> str:
    if isinstance(arguments, str):
        return arguments
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
