"""How a model is asked for an answer of a schema: by the provider's own means, by a tool, or in the system message."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal

import attrs

from railtracks.llm._messages import Message, SystemMessage
from railtracks.llm._model import Completion, OutputMode, OutputSchema, Piece, ToolSchema

REJECTED = "That is not what was asked for: "
"""How the message begins that asks a model to try again. It is on record: a changed text makes agents ask again."""
OUTPUT_MODES: tuple[OutputMode, ...] = ("native", "tool", "prompted")
_ANSWER_TOOL = "give_answer"
_DESCRIBED = "Your final answer must be a JSON object, without any other text, that fits this JSON Schema:\n"
_BY_TOOL = "Give your final answer by calling the tool {name}."


@attrs.frozen
class Asked:
    """A request in the form in which one mode sends it.

    Args:
        messages: The conversation, with what the mode adds to it.
        tools: The tools, with that of the answer, if there is one.
        output: The schema that the provider is to enforce. None in the other modes.
        answer_tool: The tool whose arguments are the answer. None in the other modes.
        mode: The mode. None if any text will do.
    """

    messages: Sequence[Message]
    tools: Sequence[ToolSchema]
    output: OutputSchema | None
    answer_tool: str | None = None
    mode: OutputMode | None = None

    def answer(self, completion: Completion) -> Completion:
        """Return an answer with its mode, and with the arguments of the answer tool as its text.

        If the model asks for other tools at the same time, these are called first: it gave its answer without having
        seen their results, so it is asked again.
        """
        if self.mode is None:
            return completion
        completion, message = attrs.evolve(completion, output_mode=self.mode), completion.message
        given = next((call.arguments for call in message.tool_calls if call.name == self.answer_tool), None)
        if self.answer_tool is None or given is None:
            return completion
        others = tuple(call for call in message.tool_calls if call.name != self.answer_tool)
        text = message.content if others else given if isinstance(given, str) else _json(given)
        return attrs.evolve(completion, message=attrs.evolve(message, content=text, tool_calls=others))

    def pieces(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """Return the pieces of a streamed answer. With an answer tool, the text comes in one piece, once it is known.

        Until then it cannot be known whether the text is a remark before a call, or the answer.
        """
        return pieces if self.mode is None else self._pieces(pieces)

    async def _pieces(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Completion):
                    completion = self.answer(piece)
                    if self.answer_tool is not None and completion.message.content:
                        yield completion.message.content
                    yield completion
                elif self.answer_tool is None or not isinstance(piece, str):
                    yield piece


def ask_in(
    mode: Literal["tool", "prompted"],
    messages: Sequence[Message],
    tools: Sequence[ToolSchema],
    output: OutputSchema,
    *,
    is_forced: bool = False,
) -> Asked:
    """Return the request for an answer that the provider does not enforce by itself.

    Args:
        mode: How to ask.
        messages: The conversation.
        tools: The tools that the model may ask for.
        output: The schema of the answer.
        is_forced: Whether the model cannot but call the answer tool, so that the system message need not ask for it.
    """
    if mode == "prompted":
        return Asked(describe_schema(messages, output), tools, None, mode=mode)
    name, taken = _ANSWER_TOOL, {tool.name for tool in tools}
    while name in taken:
        name += "_"
    answer_tool = ToolSchema(name, "Give the final answer.", output.schema)
    sent = messages if is_forced else _instruct(messages, _BY_TOOL.format(name=name))
    return Asked(sent, [*tools, answer_tool], None, name, mode)


def describe_schema(messages: Sequence[Message], output: OutputSchema) -> list[Message]:
    """Return the conversation with the schema of its answer in the system message."""
    return _instruct(messages, _DESCRIBED + _json(output.schema))


def _instruct(messages: Sequence[Message], text: str) -> list[Message]:
    """Add a text to the system message. There is one, at the start: many servers refuse others."""
    first = messages[0] if messages else None
    if not isinstance(first, SystemMessage):
        return [SystemMessage(text, inject_prompt=False), *messages]
    return [attrs.evolve(first, content=f"{first.content}\n\n{text}"), *messages[1:]]


def _json(data: Any) -> str:
    from json import dumps  # here: importing it takes long

    return dumps(data, ensure_ascii=False)
