"""The Model protocol: what an agent needs of a language model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

import attrs

from railtracks.llm._messages import AssistantMessage, Message
from railtracks.state import Secret


@attrs.frozen
class ToolSchema:
    """A tool as a model is told of it.

    Args:
        name: Letters, digits, "_" and "-"; 64 at the most.
        description: What it does, and when to use it.
        parameters: JSON Schema of the object of its arguments.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@attrs.frozen
class OutputSchema:
    """What a model's answer has to be: JSON text of this shape.

    Args:
        name: Letters, digits, "_" and "-"; 64 at the most.
        schema: JSON Schema of an object.
    """

    name: str
    schema: Mapping[str, Any]


@attrs.frozen
class Usage:
    """Tokens that were counted by the provider."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@attrs.frozen
class Completion:
    """What a model gave for one request.

    Args:
        message: What it said, and which tools it asks for.
        usage: None: the provider did not say.
        model: The model that answered, as the provider names it.
        id: Of the answer, as the provider knows it.
        finish_reason: Why it ended, in the provider's words: "stop", "tool_calls", "length", ...
    """

    message: AssistantMessage
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    finish_reason: str | None = None


class Model(Protocol):
    """A language model. Any object that has these will do, be they properties or attributes; nothing need be inherited.

    A class that does inherit this has no settings and no key until it overrides these properties.
    """

    @property
    def name(self) -> str:
        """The model, as the provider names it. Stands in records, and in the names of the calls made of it."""

    @property
    def provider(self) -> str:
        """Whose it is: OpenTelemetry's ``gen_ai.provider.name``, such as "openai"."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else decides the answers, such as the temperature. On record; no secrets."""
        return {}

    @property
    def api_key(self) -> Secret[str] | None:
        """What must never be written; None if there is no such thing."""
        return None

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Ask for one answer.

        Args:
            messages: The conversation so far. It may begin with system messages.
            tools: Those that the model may ask for.
            output: What the answer has to be; None: any text.

        Raises: what the provider's SDK raises, as it is, without any key in its text.
        Cancellation: the connection is closed, and the cancellation is passed on.
        """

    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[str | Completion, None]:
        """The same, piece by piece: the texts of the answer as they come, and at last the ``Completion`` of it all.

        The generator is closed by who iterates it, in the same task; that closes the connection too.
        """
