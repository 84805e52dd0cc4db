"""Where the pieces of streamed texts go."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from railtracks.agents._response import Chunk


class Sink(Protocol):
    async def send(self, item: Chunk, /) -> None:
        """Give a piece to the consumer. Waits until it is taken."""


sink: ContextVar[Sink | None] = ContextVar("railtracks_sink", default=None)
"""The consumer of whatever the agents below say; None: nobody wants it piece by piece."""
