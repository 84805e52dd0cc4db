"""The Model protocol: what an agent needs of a language model.

The ``repr`` of schemas is part of digests that are on record: names and fields stay as they are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from decimal import Decimal
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


@attrs.frozen(repr=False)
class Usage:
    """Tokens that the provider counted. Usages can be added.

    The parts mean the same for all providers: each is contained in the sum that it is a part of. A part is 0 if there
    were no such tokens, or the provider does not count them.

    Args:
        input_tokens: All tokens of the question, with those of the cache.
        output_tokens: All tokens of the answer, with those of the reasoning.
        cache_read_tokens: Of the ``input_tokens``, those that the provider's cache had.
        cache_write_tokens: Of the ``input_tokens``, those that were written to the cache, where the provider counts
            them.
        cache_write_1h_tokens: Of the ``cache_write_tokens``, those that are kept for an hour, which cost more.
        input_audio_tokens: Of the ``input_tokens``, those of sound.
        reasoning_tokens: Of the ``output_tokens``, those of what the model thought before it answered.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = attrs.field(default=0, kw_only=True, metadata={OMITTED: True})
    cache_write_tokens: int = attrs.field(default=0, kw_only=True, metadata={OMITTED: True})
    cache_write_1h_tokens: int = attrs.field(default=0, kw_only=True, metadata={OMITTED: True})
    input_audio_tokens: int = attrs.field(default=0, kw_only=True, metadata={OMITTED: True})
    reasoning_tokens: int = attrs.field(default=0, kw_only=True, metadata={OMITTED: True})

    @property
    def total_tokens(self) -> int:
        """All tokens, of the question and of the answer."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            input_audio_tokens=self.input_audio_tokens + other.input_audio_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )

    def __repr__(self) -> str:
        return f"Usage({', '.join(f'{name}={count}' for name, count in self.counts().items())})"

    def counts(self) -> dict[str, int]:
        """Return the counts by their names, without the parts that are 0."""
        counted = ((field, getattr(self, field.name)) for field in attrs.fields(Usage))
        return {field.name: count for field, count in counted if count or OMITTED not in field.metadata}


@attrs.frozen
class Reasoning:
    """A piece of what a model thinks before it answers, in a stream."""

    text: str


@attrs.frozen
class OutputDelta:
    """A piece of the JSON of an answer that a model gives by calling a tool, in a stream.

    The whole text comes as another piece, once it is known that it is the answer.
    """

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
        cost: What the answer costs, in dollars, if the model knows. None: agents compute it from the ``usage``.
        service_tier: The provider's tier that the request was served in, such as "flex" or "priority", if it is not the
            standard one. Prices depend on it.
        provider: The provider that answered, if it is not that of the model that was asked; see ``Fallback``.
        failed: The models that had failed before, and with which exceptions; see ``Fallback``.
    """

    message: AssistantMessage
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    finish_reason: str | None = None
    sdk_retries: int = 0
    output_mode: OutputMode | None = attrs.field(default=None, kw_only=True, metadata={OMITTED: True})
    cost: Decimal | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})
    service_tier: str | None = attrs.field(default=None, kw_only=True, repr=False, metadata={OMITTED: True})
    provider: str | None = attrs.field(default=None, kw_only=True, metadata={OMITTED: True})
    failed: tuple[str, ...] = attrs.field(default=(), kw_only=True, metadata={OMITTED: True})


Piece = str | Reasoning | OutputDelta | Completion
"""What a stream yields."""


class Model(Protocol):
    """A language model. Any object with these properties (or attributes) and methods is one; it need not inherit this.

    A class that does inherit this has no settings and no key until it overrides these properties.

    A model may have the attribute ``output_modes``, those of ``OutputSchema.mode`` that it knows how to ask in. For the
    others, "tool" and "prompted", an agent changes the messages and the tools, and asks without ``output``.

    It may also have the attribute ``price``, an ``rt.llm.Price``, and ``base_url``, the address of another server than
    its provider's. Without a ``price``, its answers cost what is listed for its provider and its name.

    It may have a method ``with_settings(**settings)``, which returns the same model with other settings, and raises
    ConfigError for those that it does not take. ``MyAgent.options(temperature=0)`` needs it.

    A model that can be sent attachments of messages has the attribute ``attachment_types``: which of "image", "audio"
    and "document" it takes. An agent sends no others: if the user's message has one, it raises ``LLMError``.
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

        What the model thinks, as far as its provider shows it, comes in between as ``Reasoning``. An answer of a schema
        that the model gives by calling a tool may come as ``OutputDelta``, beside its text.

        The task that iterates over the generator also closes it, which closes the connection.
        """


def attachment_types_of(model: Model) -> Collection[str]:
    """Return the types of attachments that a model takes; none if it does not say."""
    found: Collection[str] = getattr(model, "attachment_types", ())
    return found
