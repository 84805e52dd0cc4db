"""The clients of the SDKs: one of each model for each event loop, whose connections all sessions there share.

Making a client takes up to a tenth of a second, and so does its first connection: too long for each session of a web
server to have its own, and too long for an event loop to stand still. So it is made in a worker thread. A task of the
event loop keeps the clients, closes those that nobody has used for a while, and all of them when the event loop ends.
Under a harness with a virtual clock a session makes its own, without a thread, and closes them at its end, so that
nothing is left of it.
"""

from __future__ import annotations

import contextvars
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import anyio
from anyio.lowlevel import RunVar

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._event_loop import running_library
from railtracks._concurrency._threads import run_in_thread
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
        make: Makes a client; without I/O. It may be called in a worker thread.
        is_ours: Whether the clients are to be closed.
        in_thread: Returns whether ``make`` takes long, and can be called in a worker thread.
    """

    def __init__(
        self, make: Callable[[], C], *, is_ours: bool = True, in_thread: Callable[[], bool] = lambda: True
    ) -> None:
        self._make = make
        self._is_ours = is_ours
        self._in_thread = in_thread

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
        client = await kept.take(self, self._make, self._close, in_thread=self._in_thread())
        try:
            yield client
        finally:
            kept.give_back(self)

    @asynccontextmanager
    async def _use_own(self) -> AsyncIterator[C]:
        """Yield the client of the current session; outside of sessions, one that is closed when the block ends."""
        client = shared(self, self._make, self._close)
        if client is not None:
            yield client
            return
        own = self._make()
        try:
            yield own
        finally:
            await shielded(lambda: self._close(own))

    async def _close(self, client: C) -> None:
        if self._is_ours:
            await client.close()


class _Kept:
    """A client, and how it is used.

    Attributes:
        client: It. None while it is being made.
        made: Set when it is made, or could not be.
    """

    __slots__ = ("client", "close", "idle_since", "made", "users")

    def __init__(self, close: Callable[[Any], Awaitable[object]]) -> None:
        self.client: Any = None
        self.close = close
        self.made = anyio.Event()
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
        self._waiting = 0  # tasks that wait for a client which is being made
        self.is_over = False
        if running_library() == "trio":
            from trio.lowlevel import spawn_system_task

            spawn_system_task(self._run, name=TASK_NAME, context=contextvars.Context())
        else:
            import asyncio

            # The event loop refers to its tasks weakly.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name=TASK_NAME, context=contextvars.Context())

    async def take(
        self, key: object, make: Callable[[], C], close: Callable[[C], Awaitable[object]], *, in_thread: bool
    ) -> C:
        """Return the client for a key, made on first use, and note that it is used.

        Args:
            key: The key.
            make: Makes the client.
            close: Closes it.
            in_thread: Whether it is made in a worker thread: imports and TLS contexts take up to a tenth of a second,
                for which the event loop would stand still.

        Cancellation: A client that is being made is kept.
        """
        while (kept := self._clients.get(key)) is not None and kept.client is None:
            await self._wait_made(kept)
        if kept is None:
            kept = self._clients[key] = _Kept(close)
            kept.users = 1
            try:
                await _make(kept, make, in_thread)
            except BaseException:
                if kept.client is None:
                    self._clients.pop(key, None)
                    self._changed.set()
                self.give_back(key)
                raise
            finally:
                kept.made.set()
            return kept.client  # type: ignore[no-any-return]
        kept.users += 1
        kept.idle_since = math.inf
        return kept.client  # type: ignore[no-any-return]

    async def _wait_made(self, kept: _Kept) -> None:
        self._waiting += 1
        try:
            await kept.made.wait()
        finally:
            self._waiting -= 1
            self._changed.set()

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
            while self._clients or self._waiting:
                due = min((kept.idle_since for kept in self._clients.values()), default=math.inf) + IDLE
                if due > anyio.current_time():
                    self._changed = anyio.Event()
                    with anyio.CancelScope(deadline=due):
                        await self._changed.wait()
                    continue
                for key in [key for key, kept in self._clients.items() if kept.idle_since + IDLE <= due]:
                    await _close(self._clients.pop(key))
        except GeneratorExit:  # the event loop was closed with this task pending, and nothing can be awaited any more
            self._clients.clear()
            raise
        finally:
            self.is_over = True  # at once: there is no client, or the event loop ends
            clients, self._clients = self._clients, {}
            for kept in clients.values():
                await shielded(partial(_close, kept))


_kept: RunVar[_KeptClients | None] = RunVar("railtracks_clients", None)


async def _make(kept: _Kept, make: Callable[[], Any], in_thread: bool) -> None:
    async def make_in_thread() -> None:
        kept.client = await run_in_thread(make)

    if in_thread:
        await shielded(make_in_thread)
    else:
        kept.client = make()


async def _close(kept: _Kept) -> None:
    """Close a client, whatever that raises; nobody waits for it who could do something about it."""
    await kept.made.wait()
    if kept.client is None:  # it could not be made
        return
    try:
        with anyio.move_on_after(CLOSE_DEADLINE):
            await kept.close(kept.client)
    except Exception as exc:  # of any client's code
        _LOG.warning("%r was not closed: %r", kept.client, exc)
