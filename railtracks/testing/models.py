"""A model for tests, which gives the answers of a script."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from anyio.lowlevel import checkpoint

from railtracks._test_probe import counted
from railtracks.llm import (
    AssistantMessage,
    Completion,
    Message,
    MessageHistory,
    OutputSchema,
    ToolCall,
    ToolSchema,
    Usage,
)
from railtracks.state import Secret


class ScriptError(AssertionError):
    """The script of a ``ScriptedModel`` has no further answer, or a value that cannot be an answer."""


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """Return an answer of a ``ScriptedModel`` in which the model asks for a tool.

    Args:
        name: The name of the tool.
        **arguments: The arguments as the model would pass them, so values that JSON can hold.
    """
    return ToolCall("", name, arguments)


class ScriptedModel:
    """A model that gives the answers of a script, one for each request, in the order of the requests.

    Use it in place of a real model::

        model = ScriptedModel([tool_call("forecast", city="Oslo"), "Take a coat."])

    It counts usage in words, and raises ScriptError when the script has no further answer.

    Args:
        answers: The answers. Each is a text, a ``tool_call(...)``, a list of texts and tool calls, an exception to
            raise, a ``Completion``, or a sync or async function of the messages that returns one of these. A single
            function answers all requests.
        name: The name of the model.
        words: Whether a streamed text comes word by word. Otherwise it comes in one piece.

    Attributes:
        calls: The messages of each request so far, including system messages.
        tools: The tools of each request.
        outputs: The output schema of each request.
    """

    provider = "scripted"
    settings: Mapping[str, Any] = {}
    api_key: Secret[str] | None = None

    def __init__(
        self, answers: Iterable[Any] | Callable[[MessageHistory], Any], *, name: str = "scripted", words: bool = True
    ) -> None:
        self.name = name
        self._script: Iterator[Any] = itertools.repeat(answers) if callable(answers) else iter(answers)
        self._words = words
        self.calls: list[MessageHistory] = []
        self.tools: list[tuple[ToolSchema, ...]] = []
        self.outputs: list[OutputSchema | None] = []

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Return the next answer of the script."""
        self.calls.append(MessageHistory(messages))
        self.tools.append(tuple(tools))
        self.outputs.append(output)
        number = len(self.calls)
        answer = next(self._script, self)
        if answer is self:
            raise ScriptError(
                f"the ScriptedModel got request {number}, but its script has {counted(number - 1, 'answer')}: "
                f"{messages[-1]}"
            )
        await checkpoint()
        while callable(answer):
            answer = answer(MessageHistory(messages))
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Completion) else self._completion(answer, messages)

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[str | Completion, None]:
        """Yield the next answer of the script: its text word by word, then the completion."""
        completion = await self.complete(messages, tools=tools, output=output)
        text = completion.message.content
        for piece in _words(text) if self._words else [text] if text else []:
            await checkpoint()
            yield piece
        yield completion

    def _completion(self, answer: Any, messages: Sequence[Message]) -> Completion:
        parts = [answer] if isinstance(answer, str | ToolCall) else answer
        if not isinstance(parts, list) or not all(isinstance(part, str | ToolCall) for part in parts):
            raise ScriptError(
                f"{answer!r} cannot be an answer of a ScriptedModel; use a text, a tool_call(...), a list of these, an "
                f"exception, a Completion, or a function of the messages that returns one of these"
            )
        before = sum(len(message.tool_calls) for message in messages if isinstance(message, AssistantMessage))
        requests = (part for part in parts if isinstance(part, ToolCall))
        calls = [attrs.evolve(part, id=part.id or f"call_{before + place}") for place, part in enumerate(requests)]
        text = "".join(part for part in parts if isinstance(part, str))
        read = sum(len(message.content.split()) for message in messages)
        return Completion(
            AssistantMessage(text, calls),
            usage=Usage(read, len(text.split())),
            model=self.name,
            finish_reason="tool_calls" if calls else "stop",
        )


def _words(text: str) -> list[str]:
    """Return the words of a text, each with the space before it."""
    first, *others = text.split(" ")
    return [piece for piece in (first, *(f" {word}" for word in others)) if piece]
