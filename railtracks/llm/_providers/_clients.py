"""The clients of the providers' SDKs: one for each session, closed with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from railtracks._concurrency._cancellation import shielded
from railtracks.execution._resources import shared


class Client(Protocol):
    """What the SDKs' asynchronous clients have in common. One holds connections, which belong to one event loop."""

    def close(self) -> Awaitable[object]: ...


C = TypeVar("C", bound=Client)


class Clients(Generic[C]):
    """Makes a client when a session first needs one; the session closes it at its end.

    Args:
        make: Makes one; no I/O.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make

    @asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """The client of the current session; outside of sessions one of its own, which is closed at the end."""
        client = shared(self, self._make, lambda client: client.close())
        if client is not None:
            yield client
            return
        own = self._make()
        try:
            yield own
        finally:
            await shielded(own.close)
