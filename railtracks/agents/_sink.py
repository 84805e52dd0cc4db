"""Where the pieces of streamed texts go."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from railtracks.agents._response import Chunk


class Sink(Protocol):
    @property
    def is_here(self) -> bool:
        """Does the consumer run on this thread's event loop? Nothing can be sent to another."""

    async def send(self, item: Chunk, /) -> None:
        """Give a piece to the consumer. Waits until it is taken."""


sink: ContextVar[Sink | None] = ContextVar("railtracks_sink", default=None)
"""The consumer of whatever the agents below say; None: nobody wants it piece by piece."""


def sink_here() -> Sink | None:
    """The consumer, if it can be reached: a sync node may have a session of its own, with its own event loop."""
    consumer = sink.get()
    return consumer if consumer is not None and consumer.is_here else None
