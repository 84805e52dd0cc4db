"""The consumer that receives the pieces of streamed texts."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from railtracks.agents._response import Chunk


class Sink(Protocol):
    """Receives the chunks of one streamed call."""

    @property
    def is_on_loop_thread(self) -> bool:
        """Whether the current thread runs the consumer's event loop. Nothing can be sent from another."""

    async def send(self, item: Chunk, /) -> None:
        """Pass a chunk to the consumer, and wait until it is taken."""


sink: ContextVar[Sink | None] = ContextVar("railtracks_sink", default=None)
"""The consumer of the texts of all agents below. None: nothing is streamed."""


def reachable_sink() -> Sink | None:
    """Return the current consumer; None if it runs on another event loop, such as that outside of a sync node."""
    consumer = sink.get()
    return consumer if consumer is not None and consumer.is_on_loop_thread else None
