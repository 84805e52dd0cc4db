"""``TaskStream``: an async iterator over what a task produces, which ends the task when it is left, in whatever way.

An async generator could not do this: when its loop is left, Python keeps it suspended, and ends it later in another
task.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import anyio
from anyio.lowlevel import current_token

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._event_loop import call_soon

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Producer(Protocol[T_co]):
    """The task, and the channel to its consumer. It must not refer to the stream, so that the stream can be dropped."""

    ended: anyio.Event
    """Set when the task has ended. There from ``start`` on."""
    has_ended: bool
    """Whether the task has ended."""
    is_exhausted: bool
    """Whether there is nothing more to consume."""

    def start(self) -> None:
        """Start the task."""

    async def next(self) -> T_co:
        """Return the next item, or raise the error of the task, once, or StopAsyncIteration."""

    def cancel(self) -> None:
        """Cancel the task, as no more items will be consumed."""


class TaskStream(AsyncIterator[T]):
    """What a task produces, for one other task to consume. The task begins when the first item is asked for.

    Leaving a loop over it drops it, if nothing else refers to it, and that cancels the task.

    Args:
        producer: The task.
    """

    def __init__(self, producer: Producer[T]) -> None:
        self._producer = producer
        self._token: EventLoopToken | None = None  # the event loop, once the task runs

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._token is None and not self._producer.is_exhausted:
            self._producer.start()
            self._token = current_token()
        return await self._producer.next()

    async def aclose(self) -> None:
        """Cancel what runs, and wait until it has ended.

        Cancellation: takes effect after that.
        """
        self._producer.cancel()
        if self._token is not None:
            shield = Shield()
            await shield.wait(self._producer.ended)
            shield.check()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The garbage collector may call this on any thread, at any time.
        if self._token is not None and not self._producer.has_ended:
            call_soon(self._token, self._producer.cancel)
