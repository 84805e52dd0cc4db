"""What changes in a store, for the pages that are open: read by one task for all of them, and only while there are any.

A page listens by server-sent events. Those who listen to the same thing share a watch, whose task reads it in a worker
thread, waits at least ten times as long as that took, and reads again. It starts with the first listener and is
cancelled with the last.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup
from starlette.types import Message, Receive, Scope, Send

T = TypeVar("T")
POLL = 0.5
"""The seconds between two readings, unless a reading takes long."""
HEARTBEAT = 15.0
"""The seconds after which a comment is sent if there is nothing else, so that a connection that is gone is noticed."""
_RETRY = 2_000
"""The milliseconds after which a browser connects again."""
_LOG = logging.getLogger("RT")


class Watch(Generic[T]):
    """One thing that is read again and again while somebody listens.

    Args:
        read: Reads it. Blocks, so it runs in a worker thread. It returns an equal value if nothing has changed.
        limiter: Limits how many things are read at the same time.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, read: Callable[[], T], limiter: anyio.CapacityLimiter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._limiter = limiter
        self._clock = clock
        self._changed = anyio.Event()
        self._poked = anyio.Event()
        self.version = 0
        """How often something new was read."""
        self.value: T | None = None
        """What was read last; None before the first time."""
        self.problem: str | None = None
        """Why it could not be read the last time; None if it could."""

    async def run(self) -> None:
        """Read until this is cancelled."""
        while True:
            self._poked = anyio.Event()
            began = self._clock()
            await self._read_once()
            with anyio.move_on_after(max(POLL, 10 * (self._clock() - began))):
                await self._poked.wait()

    async def _read_once(self) -> None:
        try:
            value = await to_thread.run_sync(self._read, abandon_on_cancel=True, limiter=self._limiter)
        except Exception as exc:  # a store of a user may raise anything; whoever listens is sent it
            self._publish(self.value, f"{type(exc).__name__}: {exc}")
        else:
            self._publish(value, None)

    def _publish(self, value: T | None, problem: str | None) -> None:
        if self.version and value == self.value and problem == self.problem:
            return
        if problem is not None and problem != self.problem:
            _LOG.warning("railtracks ui: a run, or the list of runs, cannot be read: %s", problem)
        self.value, self.problem = value, problem
        self.version += 1
        self.notify()

    def poke(self) -> None:
        """Have it read again at once."""
        self._poked.set()

    def notify(self) -> None:
        """Wake all who wait for a change."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait_changed(self) -> None:
        """Wait until something new was read, or ``notify`` is called. Cancellation: the wait ends."""
        await self._changed.wait()


class Hub:
    """The watches of a server. Use it as an async context manager around the life of the server."""

    def __init__(self) -> None:
        self._watches: dict[str, tuple[Watch[Any], anyio.CancelScope]] = {}
        self._listeners: dict[str, int] = {}
        self._tasks: TaskGroup | None = None
        self._limiter: anyio.CapacityLimiter | None = None
        self._closed: anyio.Event | None = None
        self.is_closed = False
        """Whether the server is about to end, so that all streams end."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TaskGroup]:
        """Allow watches; yield the task group that they, and others, are in. At the end, cancel what is in it."""
        self._limiter = anyio.CapacityLimiter(4)
        self._closed = anyio.Event()
        async with anyio.create_task_group() as self._tasks:
            try:
                yield self._tasks
            finally:
                self.close()
                self._tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def listen(self, key: str, read: Callable[[], T]) -> AsyncIterator[Watch[T]]:
        """Yield the watch of a thing, which is shared by all who listen to it.

        Args:
            key: What identifies the thing.
            read: Reads it, as for ``Watch``; used for the first listener.
        """
        if key not in self._watches:
            self._start(key, read)
        watch = self._watches[key][0]
        self._listeners[key] = self._listeners.get(key, 0) + 1
        try:
            yield watch
        finally:
            self._listeners[key] -= 1
            if not self._listeners[key]:
                del self._listeners[key]
                self._watches.pop(key)[1].cancel()

    def _start(self, key: str, read: Callable[[], Any]) -> None:
        if self._tasks is None or self._limiter is None:
            raise RuntimeError("the hub is not open: the server must send the lifespan events of ASGI")
        watch, scope = Watch(read, self._limiter), anyio.CancelScope()
        self._watches[key] = watch, scope

        async def run() -> None:
            with scope:
                await watch.run()

        self._tasks.start_soon(run)

    def poke(self, key: str) -> None:
        """Have a thing read again at once, if somebody listens to it."""
        if key in self._watches:
            self._watches[key][0].poke()

    def close(self) -> None:
        """End all streams, so that the server can end. Idempotent."""
        self.is_closed = True
        if self._closed is not None:
            self._closed.set()
        for watch, _ in self._watches.values():
            watch.notify()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the moment at which streams end. Cancellation: the wait ends."""
        assert self._closed is not None  # whoever sends events has a watch
        with anyio.move_on_after(seconds):
            await self._closed.wait()


class UpdateStream(Generic[T]):
    """A response of server-sent events, each with JSON as data, as an ASGI application.

    The event ``problem`` says in ``message`` why what is watched cannot be read or shown. When it can again, an event
    follows in any case: ``update`` without data, if there is nothing new.

    Args:
        hub: The hub.
        key: What identifies the thing that is watched.
        read: Reads it.
        describe: Returns the name and the data of an event for what is there now; None if the page shows it already.
            It runs in a worker thread.
    """

    def __init__(
        self, hub: Hub, key: str, read: Callable[[], T], describe: Callable[[T], tuple[str, object] | None]
    ) -> None:
        self._hub = hub
        self._key = key
        self._read = read
        self._describe = describe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client is gone or the server ends, as ASGI has it."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "GET":
            await self._send_events(receive, send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_events(self, receive: Receive, send: Send) -> None:

        async def end_with_client() -> None:
            message: Message = {"type": ""}
            while message["type"] != "http.disconnect":
                message = await receive()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_with_client)
            async with aclosing(self.texts()) as texts:
                async for text in texts:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
            tasks.cancel_scope.cancel()

    async def texts(self) -> AsyncGenerator[str]:
        """Yield the events as they are sent."""
        sent, is_problem_shown = 0, False
        yield f"retry: {_RETRY}\n\n"
        async with self._hub.listen(self._key, self._read) as watch:
            while not self._hub.is_closed:
                if watch.version == sent:
                    with anyio.move_on_after(HEARTBEAT) as waited:
                        await watch.wait_changed()
                    if waited.cancelled_caught:
                        yield ": still here\n\n"
                    continue
                sent, value, problem = watch.version, watch.value, watch.problem
                event, took = None, 0.0
                if problem is None and value is not None:
                    began = time.monotonic()
                    try:
                        event = await to_thread.run_sync(self._describe, value, abandon_on_cancel=True)
                    except Exception as exc:  # what a store of a user has returned may be anything
                        problem = f"{type(exc).__name__}: {exc}"
                        _LOG.warning("railtracks ui: what was read cannot be shown: %s", problem, exc_info=True)
                    took = time.monotonic() - began
                if problem is not None:
                    event = "problem", {"message": problem}
                elif event is None and is_problem_shown:
                    event = "update", {}  # nothing else has changed, but the page must not show the problem any more
                if event is not None:
                    is_problem_shown = problem is not None
                    yield _event(event[0], sent, event[1])
                await self._hub.sleep(10 * took)


def _event(name: str, number: int, data: object) -> str:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(data)}\n\n"
