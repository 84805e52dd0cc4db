"""The clients of the SDKs: one of each model for each event loop, whose connections all sessions there share.

Making a client takes up to a tenth of a second, and so does its first connection: too long for each session of a web
server to have its own. So a task of the event loop keeps them, closes those that nobody has used for a while, and all
of them when the event loop ends. Under a harness with a virtual clock a session keeps its own, and closes them at its
end, so that nothing is left of it.
"""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import anyio
from anyio.lowlevel import RunVar

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._event_loop import running_library
from railtracks._test_hooks import runtime_hooks
from railtracks.execution._resources import CLOSE_DEADLINE, shared

IDLE = 10.0
"""Seconds after which a client that is not used is closed."""
TASK_NAME = "railtracks: clients of models"
_LOG = logging.getLogger("RT")


class Client(Protocol):
    """What the SDKs' asynchronous clients have in common. They hold connections, which belong to one event loop."""

    def close(self) -> Awaitable[object]: ...


C = TypeVar("C", bound=Client)


class Clients(Generic[C]):
    """The clients of one model.

    Args:
        make: Makes a client; without I/O.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make

    @asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """Yield the client of this event loop. It is not closed before the block ends."""
        if runtime_hooks.get().hold_clock is not None:
            async with self._use_own() as client:
                yield client
            return
        kept = _kept.get(None)
        if kept is None or kept.is_over:
            kept = _KeptClients()
            _kept.set(kept)
        client = kept.take(self, self._make)
        try:
            yield client
        finally:
            kept.give_back(self)

    @asynccontextmanager
    async def _use_own(self) -> AsyncIterator[C]:
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


class _Kept:
    """A client, and how it is used."""

    __slots__ = ("client", "idle_since", "users")

    def __init__(self, client: Client) -> None:
        self.client: Any = client
        self.users = 0
        self.idle_since = math.inf


class _KeptClients:
    """The clients of one event loop, and the task that closes them.

    Attributes:
        is_over: Whether the task ends, or has ended; it closes no other client.
    """

    def __init__(self) -> None:
        self._clients: dict[object, _Kept] = {}
        self._changed = anyio.Event()
        self.is_over = False
        if running_library() == "trio":
            from trio.lowlevel import spawn_system_task

            spawn_system_task(self._run, name=TASK_NAME, context=contextvars.Context())
        else:
            import asyncio

            # The event loop refers to its tasks weakly.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name=TASK_NAME, context=contextvars.Context())

    def take(self, key: object, make: Callable[[], C]) -> C:
        """Return the client for a key, made on first use, and note that it is used."""
        kept = self._clients.get(key)
        if kept is None:
            kept = self._clients[key] = _Kept(make())
        kept.users += 1
        kept.idle_since = math.inf
        return kept.client  # type: ignore[no-any-return]

    def give_back(self, key: object) -> None:
        """Note that a user of the client for a key is done with it."""
        kept = self._clients.get(key)
        if kept is not None:  # the event loop does not end
            kept.users -= 1
            if not kept.users:
                kept.idle_since = anyio.current_time()
                self._changed.set()

    async def _run(self) -> None:
        try:
            await anyio.lowlevel.checkpoint()
            while self._clients:
                due = min(kept.idle_since for kept in self._clients.values()) + IDLE
                if due > anyio.current_time():
                    self._changed = anyio.Event()
                    with anyio.CancelScope(deadline=due):
                        await self._changed.wait()
                    continue
                for key in [key for key, kept in self._clients.items() if kept.idle_since + IDLE <= due]:
                    await _close(self._clients.pop(key).client)
        except GeneratorExit:  # the event loop was closed with this task pending, and nothing can be awaited any more
            self._clients.clear()
            raise
        finally:
            self.is_over = True  # at once: there is no client, or the event loop ends
            clients, self._clients = self._clients, {}
            for kept in clients.values():
                await shielded(lambda client=kept.client: _close(client))  # type: ignore[misc]


_kept: RunVar[_KeptClients | None] = RunVar("railtracks_clients", None)


async def _close(client: Any) -> None:
    """Close a client, whatever that raises; nobody waits for it who could do something about it."""
    try:
        with anyio.move_on_after(CLOSE_DEADLINE):
            await client.close()
    except Exception as exc:  # of any client's code
        _LOG.warning("%r was not closed: %r", client, exc)
