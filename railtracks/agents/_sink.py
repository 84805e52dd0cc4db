"""The consumer that receives the pieces of streamed texts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
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


class Gate:
    """Keeps chunks back while guards have not decided whether they may pass. It is a ``Sink``, too.

    Args:
        consumer: Where the chunks go.
        on_sent: Called when one was taken there.
    """

    def __init__(self, consumer: Sink, on_sent: Callable[[], object]) -> None:
        self._consumer, self._on_sent = consumer, on_sent
        self._kept: deque[Chunk] = deque()
        self._is_closed = False

    @property
    def is_on_loop_thread(self) -> bool:
        """See ``Sink``."""
        return self._consumer.is_on_loop_thread

    async def send(self, item: Chunk, /) -> None:
        """Send a chunk after those that were kept back, or keep it back, too."""
        self._kept.append(item)
        await self.flush()

    def keep(self, items: Iterable[Chunk]) -> None:
        """Add chunks, which are sent before the next one."""
        if self.is_on_loop_thread:
            self._kept.extend(items)

    async def flush(self) -> None:
        """Send what was kept back, unless the gate is closed."""
        while self._kept and not self._is_closed:
            await self._consumer.send(self._kept.popleft())
            self._on_sent()

    def close(self) -> None:
        """Keep chunks back from now on."""
        self._is_closed = True

    def open(self) -> None:
        """Send chunks again, with the next one or by ``flush``."""
        self._is_closed = False

    def drop(self) -> None:
        """Forget what was kept back."""
        self._kept.clear()
