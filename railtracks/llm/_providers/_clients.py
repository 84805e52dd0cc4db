"""The clients of the SDKs: one for each session, closed at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from railtracks._concurrency._cancellation import shielded
from railtracks.execution._resources import shared


class Client(Protocol):
    """What the SDKs' asynchronous clients have in common. They hold connections, which belong to one event loop."""

    def close(self) -> Awaitable[object]: ...


C = TypeVar("C", bound=Client)


class Clients(Generic[C]):
    """The clients of one model: a session makes its own on first use, and closes it at its end.

    Args:
        make: Makes a client; without I/O.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make

    @asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """Yield the client of the current session; outside of sessions, one that is closed when the block ends."""
        client = shared(self, self._make, lambda client: client.close())
        if client is not None:
            yield client
            return
        own = self._make()
        try:
            yield own
        finally:
            await shielded(own.close)
