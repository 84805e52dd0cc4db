"""Messages between users, models and tools, in a form that belongs to no provider.

Their ``repr`` is part of digests that are on record: names stay as they are, and so do the fields that it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

import attrs

from railtracks.llm._attachments import Attachment, Audio, Document, Image, as_attachments, read_attachment
from railtracks.llm._plain import READ, Plain, from_plain, to_plain
from railtracks.state._serialization._classify import OMITTED
from railtracks.state._serialization._conversations import register_message_parts, register_messages

if TYPE_CHECKING:
    Arguments = dict[str, Any] | str
else:
    Arguments = Any  # cattrs does not read a union of these

Extra = dict[str, dict[str, Any]]
"""What a provider has sent beyond what is said in common terms, by the name of the provider."""


_IS = {role: attrs.validators.in_((role,)) for role in ("system", "user", "assistant", "tool")}
"""Roles may be given, as libraries do that bring messages back; each class has one."""


_ATTACHED = {OMITTED: True, READ: read_attachment}


def _repr_of(message: UserMessage | ToolMessage, *fields: tuple[str, object]) -> str:
    """Return what attrs makes of a message. That is on record, so attachments stand in it only if there are any."""
    shown = [f"{name}={value!r}" for name, value in fields]
    if message.attachments:
        shown.append(f"attachments={message.attachments!r}")
    return f"{type(message).__name__}({', '.join(shown)})"


@attrs.frozen
class SystemMessage(Plain):
    """What the model must know, and how it must behave.

    Args:
        content: The text. ``{name}`` in it is filled from the context of the session; see ``rt.escape_braces``.
        inject_prompt: False to send the text as it stands.
    """

    role: Literal["system"] = attrs.field(default="system", kw_only=True, validator=_IS["system"])
    content: str
    inject_prompt: bool = attrs.field(default=True, kw_only=True)


def _check_is_text(_: Any, __: Any, value: Any) -> None:
    if isinstance(value, list | tuple):
        raise TypeError(
            "the content of a UserMessage is a list; expected a text, and what goes along with it apart: "
            "UserMessage('What is this?', attachments=[rt.llm.Image('photo.png')])"
        )


@attrs.frozen
class UserMessage(Plain):
    """A message of the user.

    Args:
        content: See :class:`SystemMessage`. It may be empty if there are attachments.
        inject_prompt: See there.
        attachments: Images, audio and documents, which the model gets after the text. To say something of each, write
            several messages in a row. An agent whose model cannot take one raises ``LLMError`` before it is sent.
    """

    role: Literal["user"] = attrs.field(default="user", kw_only=True, validator=_IS["user"])
    content: str = attrs.field(validator=_check_is_text)
    inject_prompt: bool = attrs.field(default=True, kw_only=True)
    attachments: tuple[Attachment, ...] = attrs.field(
        default=(), converter=as_attachments, kw_only=True, metadata=_ATTACHED
    )

    def __repr__(self) -> str:
        return _repr_of(self, ("role", self.role), ("content", self.content), ("inject_prompt", self.inject_prompt))


@attrs.frozen
class ToolCall(Plain):
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
    arguments: Arguments = attrs.field(factory=dict)
    extra: Extra | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})


def _as_tuple(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Convert tool calls; not ``tuple`` itself, as type checkers take the type of the argument from here."""
    return tuple(calls)


def _read_call(value: object) -> ToolCall:
    call: ToolCall = value if isinstance(value, ToolCall) else from_plain(value, ToolCall)
    return call


@attrs.frozen
class AssistantMessage(Plain):
    """A message of the model: its text, and the tools that it asks for.

    Args:
        content: The text.
        tool_calls: The tools.
        reasoning: What the model has thought before, as far as its provider shows that. It is for people: a provider
            gets back what is in ``extra``.
        extra: What else the provider has sent with the message, such as signatures, by the name of the provider. It
            is opaque, and plain data as JSON has it. Only that provider gets it back.
    """

    role: Literal["assistant"] = attrs.field(default="assistant", kw_only=True, validator=_IS["assistant"])
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_as_tuple, metadata={READ: _read_call})
    reasoning: str = attrs.field(default="", kw_only=True, repr=False, metadata={OMITTED: True})
    extra: Extra | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})


@attrs.frozen
class ToolMessage(Plain):
    """The answer of a tool.

    Args:
        content: Its result or its error, as text.
        tool_call_id: The ``id`` of the ``ToolCall`` that this answers.
        name: The name of the tool.
        is_error: True if the call failed, or could not be made.
        attachments: The images, audio and documents in its result. ``content`` has a note in their places.
    """

    role: Literal["tool"] = attrs.field(default="tool", kw_only=True, validator=_IS["tool"])
    content: str
    tool_call_id: str
    name: str
    is_error: bool = False
    attachments: tuple[Attachment, ...] = attrs.field(
        default=(), converter=as_attachments, kw_only=True, metadata=_ATTACHED
    )

    def __repr__(self) -> str:
        own = (("tool_call_id", self.tool_call_id), ("name", self.name), ("is_error", self.is_error))
        return _repr_of(self, ("role", self.role), ("content", self.content), *own)


Message = SystemMessage | UserMessage | AssistantMessage | ToolMessage
register_messages(SystemMessage, UserMessage, AssistantMessage, ToolMessage)  # so that records share them
register_message_parts(ToolCall, Audio, Document, Image)


class MessageHistory(list[Message]):
    """A conversation: a list of messages, oldest first."""

    def __str__(self) -> str:
        return "\n".join(map(_format_message, self))

    def to_json(self) -> str:
        """Return the conversation as JSON: a list of objects with the fields of the messages, the first one ``role``.

        Raises:
            TypeError: A message holds what JSON cannot, such as a tool call whose arguments were made in Python.
        """
        from json import dumps  # here, as in `from_json`: importing it takes long

        return dumps([to_plain(message) for message in self], ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the conversation that ``to_json`` has written.

        Raises:
            ValueError: The text is not JSON, or not a list of messages. The error says which message is wrong.
        """
        from json import loads

        data = loads(text)
        if not isinstance(data, list):
            raise ValueError(f"a conversation in JSON is a list of messages, and this is {type(data).__name__}")
        found = cls()
        for number, each in enumerate(data):
            role = each.get("role") if isinstance(each, dict) else None
            kind = _KINDS.get(role) if isinstance(role, str) else None
            if kind is None:
                raise ValueError(f"message {number} has the role {role!r}; expected one of {', '.join(_KINDS)}")
            try:
                found.append(from_plain(each, kind))
            except ValueError as exc:
                raise ValueError(f"message {number}: {exc}") from exc
        return found

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        messages = core_schema.list_schema(handler.generate_schema(Message))
        return core_schema.no_info_after_validator_function(cls, messages)


_KINDS: dict[str, type[Message]] = {
    "system": SystemMessage,
    "user": UserMessage,
    "assistant": AssistantMessage,
    "tool": ToolMessage,
}


def _format_message(message: Message) -> str:
    parts = [message.content] if message.content else []
    if isinstance(message, AssistantMessage):
        parts += map(_format_call, message.tool_calls)
    elif isinstance(message, UserMessage):  # the content of a ToolMessage has notes already
        parts += map(str, message.attachments)
    return f"{message.role}: {'; '.join(parts)}"


def _format_call(call: ToolCall) -> str:
    if isinstance(call.arguments, str):
        return f"{call.name}({call.arguments})"
    return f"{call.name}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
