"""What an agent is made of, and the digests by which a resumed run recognises it.

The digests are on record. They are made of the ``repr`` of schemas and messages: whatever changes that makes every
interrupted agent ask its model again (``tests/agents/test_digests.py`` pins them).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import attrs

from railtracks.agents._guards import Guard
from railtracks.agents._hand_off import HandOff
from railtracks.agents._tools import Tool
from railtracks.llm._messages import Message, SystemMessage
from railtracks.llm._model import Model, OutputSchema, ToolSchema
from railtracks.nodes import FunctionNode

HistoryProcessor = Callable[[list[Message]], Sequence[Message] | Awaitable[Sequence[Message]]]
"""Gets the messages that are about to be sent, and returns those that are to be sent instead."""


@attrs.frozen(kw_only=True)
class AgentSpec:
    """What ``agent_node`` makes an agent of.

    Args:
        name: Its name.
        model: Its model.
        system: Its system message.
        system_node: Makes its system message at the start of each run; None if it does not change.
        tools: Its tools, by the names under which the model knows them.
        result_type: The type of the result's content; ``str`` for text.
        output: The schema of that type for the model. None for text.
        max_tool_calls: How many tool calls a run may make. None: any number.
        max_requests: How many requests to its model a run may make. None: any number.
        max_tokens: How many tokens all of its requests may use, after which it makes no other. None: any number.
        max_cost: How many dollars all of its requests may cost, after which it makes no other. None: any number.
        repairs: How often the model may try again after an answer that does not fit.
        tool_errors: Whether the error of a tool is for the model, or raised.
        history_processors: Return in turn which messages are sent.
        memo: False if its calls are not replayed.
        input_guards: Decide whether it goes on with what it was given.
        output_guards: Decide whether its answer is returned.
        hand_offs: The agents that may go on in its place, by the names under which the model knows these tools.
    """

    name: str
    model: Model
    system: SystemMessage | None
    tools: Mapping[str, Tool]
    result_type: Any
    output: OutputSchema | None
    max_tool_calls: int | None
    max_requests: int | None
    max_tokens: int | None
    max_cost: Decimal | None
    repairs: int
    tool_errors: Literal["model", "raise"]
    history_processors: tuple[HistoryProcessor, ...]
    memo: bool
    system_node: FunctionNode[..., Any] | None = None
    hand_offs: Mapping[str, HandOff] = attrs.field(factory=dict)
    input_guards: tuple[Guard, ...] = ()
    output_guards: tuple[Guard, ...] = ()

    @property
    def schemas(self) -> list[ToolSchema]:
        """What the model may ask for: the tools, and then the hand-offs."""
        tools = [tool.schema for tool in self.tools.values()]
        return [*tools, *(each.schema for each in self.hand_offs.values())]

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of all that determines the answer to a request, except the conversation itself."""
        own = repr((self.model.provider, self.model.name, dict(self.model.settings), self.schemas, self.output))
        mode = None if self.output is None else self.output.mode
        return digest(own) if mode is None else digest(own, mode)


def digest(*texts: str) -> str:
    """Return a digest of texts that is the same in all processes."""
    return hashlib.blake2b("\n".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
