"""A model for tests, which gives the answers of a script."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from railtracks._test_probe import counted, merged_settings
from railtracks.llm import (
    Completion,
    Message,
    MessageHistory,
    OutputSchema,
    Price,
    Reasoning,
    ToolCall,
    ToolSchema,
)
from railtracks.state import Secret
from railtracks.testing._answers import Answer, ScriptError, pieces


class ScriptedModel:
    """A model that gives the answers of a script, one for each request, in the order of the requests.

    Use it in place of a real model::

        model = ScriptedModel([tool_call("forecast", city="Oslo"), "Take a coat."])

    It counts usage in words, and raises ScriptError when the script has no further answer.

    Args:
        answers: The answers. Each is a text, a ``tool_call(...)``, a list of texts and tool calls, an ``answer(...)``,
            an exception to raise, a ``Completion``, or a sync or async function of the messages that returns one of
            these. A single function answers all requests.
        name: The name of the model.
        words: Whether a streamed text comes word by word. Otherwise it comes in one piece.
        price: What its tokens cost. None: that is not known.

    Attributes:
        calls: The messages of each request so far, including system messages.
        tools: The tools of each request.
        outputs: The output schema of each request.
        all_settings: The settings of each request.
    """

    provider = "scripted"
    settings: Mapping[str, Any] = {}
    api_key: Secret[str] | None = None
    attachment_types: Collection[str] = ("image", "audio", "document")

    def __init__(
        self,
        answers: Iterable[Any] | Callable[[MessageHistory], Any],
        *,
        name: str = "scripted",
        words: bool = True,
        price: Price | None = None,
    ) -> None:
        if isinstance(answers, str) or not (callable(answers) or isinstance(answers, Iterable)):
            raise ScriptError(f"ScriptedModel: the answers are {answers!r}; write a list: ScriptedModel(['Hello.'])")
        self.name = name
        self.price = price
        self._script: Iterator[Any] = itertools.repeat(answers) if callable(answers) else iter(answers)
        self._words = words
        self.calls: list[MessageHistory] = []
        self.tools: list[tuple[ToolSchema, ...]] = []
        self.outputs: list[OutputSchema | None] = []
        self.all_settings: list[Mapping[str, Any]] = []

    def with_settings(self, **settings: Any) -> Self:
        """Return the same model, with the same script, with other settings. None takes a setting away."""
        made = copy.copy(self)
        made.settings = merged_settings(self.settings, settings, {})
        return made

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Return the next answer of the script, when the seconds that it takes have passed."""
        answer = await self._next(messages, tools, output)
        completion = self._completion(answer, messages)
        if isinstance(answer, Answer):
            count = len(pieces(completion, self._words))
            if seconds := answer.delay + answer.pause * max(count - 1, 0):
                await anyio.sleep(seconds)
            if answer.error is not None:
                raise answer.error
        return completion

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[str | Reasoning | Completion, None]:
        """Yield the next answer of the script: what the model thinks and its text, then the completion."""
        answer = await self._next(messages, tools, output)
        completion = self._completion(answer, messages)
        delay, pause, error = (
            (answer.delay, answer.pause, answer.error) if isinstance(answer, Answer) else (0.0, 0.0, None)
        )
        if delay:
            await anyio.sleep(delay)
        for number, piece in enumerate(pieces(completion, self._words)):
            await anyio.sleep(pause if number else 0)
            yield piece
        if error is not None:
            raise error
        yield completion

    async def _next(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], output: OutputSchema | None
    ) -> Answer | Completion:
        """Note a request, and return the answer of the script to it, or raise it."""
        self.calls.append(MessageHistory(messages))
        self.tools.append(tuple(tools))
        self.outputs.append(output)
        self.all_settings.append(self.settings)
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
        if isinstance(answer, Answer | Completion):
            return answer
        parts = [answer] if isinstance(answer, str | ToolCall) else answer
        if not isinstance(parts, list) or not all(isinstance(part, str | ToolCall) for part in parts):
            raise ScriptError(
                f"{answer!r} cannot be an answer of a ScriptedModel; use a text, a tool_call(...), a list of these, an "
                f"answer(...), an exception, a Completion, or a function of the messages that returns one of these"
            )
        return Answer(tuple(parts))

    def _completion(self, answer: Answer | Completion, messages: Sequence[Message]) -> Completion:
        return answer if isinstance(answer, Completion) else answer.completion(messages, self.name)
