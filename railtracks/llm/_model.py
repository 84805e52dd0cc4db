"""The Model protocol: what an agent needs of a language model.

The ``repr`` of schemas is part of digests that are on record: names and fields stay as they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs

from railtracks.llm._messages import AssistantMessage, Message
from railtracks.state import Secret
from railtracks.state._serialization._classify import OMITTED


@attrs.frozen
class ToolSchema:
    """The description of a tool for a model.

    Args:
        name: Letters, digits, "_" and "-"; no more than 64.
        description: What it does, and when to use it.
        parameters: JSON Schema of the object that holds its arguments.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


OutputMode = Literal["native", "tool", "prompted"]
"""How a model is asked for an answer of a schema.

"native": the provider enforces the schema. "tool": it is the schema of a tool whose arguments are the answer.
"prompted": it stands in the system message.
"""


@attrs.frozen
class OutputSchema:
    """The description of the answer that a model must give: JSON text of this shape.

    Args:
        name: Letters, digits, "_" and "-"; no more than 64.
        schema: JSON Schema of an object.
        mode: How to ask for it: "native", "tool" or "prompted". None: as the model does by default.
    """

    name: str
    schema: Mapping[str, Any]
    mode: OutputMode | None = attrs.field(default=None, kw_only=True, repr=False)


@attrs.frozen
class Usage:
    """Tokens that the provider counted."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@attrs.frozen
class Reasoning:
    """A piece of what a model thinks before it answers, in a stream."""

    text: str


@attrs.frozen
class Completion:
    """A model's answer to one request.

    Args:
        message: The text of the answer, and the tools that the model asks for.
        usage: The tokens that were used. None: the provider did not count them.
        model: The model that answered, as the provider names it.
        id: The provider's identifier of the answer.
        finish_reason: Why the answer ended, in the provider's words: "stop", "tool_calls", "length", ... A message that
            is a refusal, as a field of the answer says, has "refusal".
        sdk_retries: How often the SDK of the provider repeated the request, as far as it says so. Attempts of the agent
            (``retries=``) are another matter: each of them is a call of its own.
        output_mode: How the model was asked for an object; see ``OutputSchema``. None: it was not, or it is not known.
    """

    message: AssistantMessage
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    finish_reason: str | None = None
    sdk_retries: int = 0
    output_mode: OutputMode | None = attrs.field(default=None, kw_only=True, metadata={OMITTED: True})


Piece = str | Reasoning | Completion
"""What a stream yields."""


class Model(Protocol):
    """A language model. Any object with these properties (or attributes) and methods is one; it need not inherit this.

    A class that does inherit this has no settings and no key until it overrides these properties.

    A model may have the attribute ``output_modes``, those of ``OutputSchema.mode`` that it knows how to ask in. For the
    others, "tool" and "prompted", an agent changes the messages and the tools, and asks without ``output``.
    """

    @property
    def name(self) -> str:
        """The model, as the provider names it. It stands in records, and in the names of the calls to the model."""

    @property
    def provider(self) -> str:
        """The provider: OpenTelemetry's ``gen_ai.provider.name``, such as "openai"."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """All else that influences the answers, such as the temperature. It is recorded: no secrets."""
        return {}

    @property
    def api_key(self) -> Secret[str] | None:
        """The key, which is never written. None: there is no key."""
        return None

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Request one answer.

        Args:
            messages: The conversation so far. It may begin with system messages.
            tools: The tools that the model may ask for.
            output: The shape that the answer must have. None: any text.

        Raises:
            Exception: Whatever the provider's SDK raises, unchanged, but without any key in its text.

        Cancellation: Closes the connection.
        """

    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Request one answer, and yield its text piece by piece as it comes; at the end, the whole ``Completion``.

        What the model thinks, as far as its provider shows it, comes in between as ``Reasoning``.

        The task that iterates over the generator also closes it, which closes the connection.
        """
