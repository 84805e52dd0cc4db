"""Answers of a model for tests: what it says, when, how the answer ends, and what it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs

from railtracks.llm import AssistantMessage, Completion, Message, Reasoning, ToolCall, Usage


class ScriptError(AssertionError):
    """The script of a ``ScriptedModel`` has no further answer, or a value that cannot be an answer."""


def tool_call(name: str, /, **arguments: Any) -> ToolCall:
    """Return an answer of a ``ScriptedModel`` in which the model asks for a tool.

    Args:
        name: The name of the tool.
        **arguments: The arguments as the model would pass them, so values that JSON can hold.

    Raises:
        ScriptError: ``name`` is not a string.
    """
    if not isinstance(name, str):
        raise ScriptError(f"tool_call: {name!r} is not the name of a tool; write tool_call('forecast', city='Oslo')")
    return ToolCall("", name, arguments)


def answer(
    *parts: str | ToolCall,
    finish_reason: str | None = None,
    usage: Usage | Literal["words"] | None = "words",
    reasoning: str = "",
    max_tokens: int | None = None,
    delay: float = 0.0,
    pause: float = 0.0,
    error: Exception | None = None,
) -> Answer:
    """Return an answer of a ``ScriptedModel`` of which more is said than its text and its tool calls.

    Args:
        *parts: Texts and tool calls (``tool_call(...)``).
        finish_reason: Why the answer ended, as a provider says it: "content_filter", "refusal", ... By default "stop",
            "tool_calls" where it asks for tools, and "length" where it is cut.
        usage: The tokens that the provider counts. "words": the words that it reads and writes. None: it does not say.
        reasoning: What the model thinks before.
        max_tokens: After how many words the answer is cut, those of the reasoning included. A tool call counts as two;
            if there is room for one, it is cut in the middle of its arguments. None: it comes whole.
        delay: Seconds before the first piece comes.
        pause: Seconds before each other piece of a stream. An answer that comes as a whole takes as long as a stream.
        error: Raised in place of the end: where the answer is streamed, after its pieces, as when a connection is lost.

    Raises:
        ScriptError: An argument is not allowed.
    """
    return Answer(parts, finish_reason, usage, reasoning, max_tokens, delay, pause, error)


@attrs.frozen(repr=False)
class Answer:
    """What ``answer`` returns. The attributes are its arguments."""

    parts: tuple[str | ToolCall, ...] = attrs.field(default=())
    finish_reason: str | None = None
    usage: Usage | Literal["words"] | None = attrs.field(default="words")
    reasoning: str = ""
    max_tokens: int | None = attrs.field(default=None)
    delay: float = attrs.field(default=0.0)
    pause: float = attrs.field(default=0.0)
    error: Exception | None = attrs.field(default=None)

    @parts.validator
    def _check_parts(self, attribute: object, value: tuple[object, ...]) -> None:
        wrong = [part for part in value if not isinstance(part, str | ToolCall)]
        if wrong:
            raise ScriptError(f"answer: {wrong[0]!r} is not a part of an answer; use texts and tool_call(...)")

    @delay.validator
    @pause.validator
    def _check_seconds(self, attribute: Any, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ScriptError(f"answer: {attribute.name} is {value!r}; use seconds, 0 or more")

    @usage.validator
    def _check_usage(self, attribute: object, value: Any) -> None:
        if value != "words" and not isinstance(value, Usage | None):
            raise ScriptError(f"answer: usage is {value!r}; use rt.llm.Usage(3, 4), 'words' or None")

    @max_tokens.validator
    def _check_max_tokens(self, attribute: object, value: Any) -> None:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ScriptError(f"answer: max_tokens is {value!r}; use a whole number of words, 0 or more")

    @error.validator
    def _check_error(self, attribute: object, value: Any) -> None:
        if not isinstance(value, Exception | None):
            raise ScriptError(f"answer: error is {value!r}; use an exception, such as ConnectionError('lost')")

    def __repr__(self) -> str:
        fields = attrs.fields(Answer)[1:]
        given = {field.name: getattr(self, field.name) for field in fields}
        others = (f"{field.name}={given[field.name]!r}" for field in fields if given[field.name] != field.default)
        return f"answer({', '.join([*map(repr, self.parts), *others])})"

    @property
    def text(self) -> str:
        """The text of the answer, if it comes whole."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls of the answer, if it comes whole."""
        return [part for part in self.parts if isinstance(part, ToolCall)]

    def completion(self, messages: Sequence[Message], model: str) -> Completion:
        """Return the answer to these messages.

        Args:
            messages: The conversation so far. Tool calls without an identifier get one that does not occur in it.
            model: The name of the model.
        """
        before = sum(len(message.tool_calls) for message in messages if isinstance(message, AssistantMessage))
        whole = [attrs.evolve(call, id=call.id or f"call_{before + n}") for n, call in enumerate(self.tool_calls)]
        reasoning, text, calls, is_cut = self._cut(whole)
        usage = self.usage
        if usage == "words":
            read = sum(len(message.content.split()) for message in messages)
            written = len(reasoning.split()) + len(text.split())
            usage = Usage(read, (self.max_tokens or 0) if is_cut else written)
        ended = "length" if is_cut else "tool_calls" if calls else "stop"
        message = AssistantMessage(text, calls, reasoning=reasoning)
        return Completion(message, usage=usage, model=model, finish_reason=self.finish_reason or ended)

    def _cut(self, calls: list[ToolCall]) -> tuple[str, str, list[ToolCall], bool]:
        """Return the reasoning, the text and the calls that come, and whether something is missing."""
        if self.max_tokens is None:
            return self.reasoning, self.text, calls, False
        thoughts, said = [*words(self.reasoning)], [*words(self.text)]
        left = self.max_tokens
        kept_thoughts, left = thoughts[:left], max(left - len(thoughts), 0)
        kept_said, left = said[:left], max(left - len(said), 0)
        kept = calls[: left // 2]
        if left % 2 and len(kept) < len(calls):
            kept.append(halved(calls[len(kept)]))
        is_cut = (kept_thoughts, kept_said, kept) != (thoughts, said, calls)
        return "".join(kept_thoughts), "".join(kept_said), kept, is_cut


def halved(call: ToolCall) -> ToolCall:
    """Return a tool call whose arguments are cut in the middle of their JSON."""
    text = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
    return attrs.evolve(call, arguments=text[: len(text) // 2])


def pieces(completion: Completion, by_words: bool) -> list[str | Reasoning]:
    """Return the pieces in which a stream yields what the model thinks and says."""
    message = completion.message
    thoughts, said = (
        [*words(text)] if by_words else [text] * bool(text) for text in (message.reasoning, message.content)
    )
    return [*map(Reasoning, thoughts), *said]


def words(text: str) -> Iterator[str]:
    """Yield the words of a text, each with the space before it."""
    for number, word in enumerate(text.split(" ")):
        if piece := f" {word}" if number else word:
            yield piece
