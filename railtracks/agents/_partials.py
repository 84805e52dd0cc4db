"""Parts of objects in streams: what has come of an answer, as far as it fits the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from railtracks._schema._partial import ABSENT, PartialOutput, members_of
from railtracks.agents._response import Chunk
from railtracks.agents._spec import AgentSpec


class Partials:
    """Makes the chunks of one answer. None, if the agent answers with a text.

    Args:
        agent: The agent.
        node: The node identifier of its call.
    """

    def __init__(self, agent: AgentSpec, node: str) -> None:
        self._agent, self._node = agent.name, node
        self._output = None if agent.output is None else PartialOutput(agent.result_type, agent.output.schema)

    def of(self, piece: str) -> Iterator[Chunk]:
        """Yield the chunk for the next piece of the answer, if it changes what is known of the object."""
        value = ABSENT if self._output is None else self._output.feed(piece)
        if value is not ABSENT:
            yield _chunk(value, self._agent, self._node)


def partial_of_content(content: Any, agent: str, node: str) -> Iterator[Chunk]:
    """Yield the chunk of an object that is whole, as of an agent that was replayed; nothing for a text."""
    if content is not None and not isinstance(content, str):
        yield _chunk(members_of(content), agent, node)


def _chunk(value: Any, agent: str, node: str) -> Chunk:
    return Chunk("", agent, node, kind="partial", partial=value)
