"""Resources that the calls of a session share, and that the session closes: connections to servers, above all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio

from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog

T = TypeVar("T")

CLOSE_DEADLINE = 5.0
"""Seconds that each resource has to close."""


class Resources:
    """The shared resources of one session. They belong to its event loop."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._open: dict[Hashable, tuple[Any, Callable[[Any], Awaitable[object]]]] = {}

    def get(self, key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T:
        """Return the resource for ``key``, creating it on first use. ``close`` is awaited when the session ends."""
        if key not in self._open:
            self._open[key] = make(), close
        return self._open[key][0]  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close all resources. Never raises; call it shielded."""
        while self._open:
            _, (resource, close) = self._open.popitem()
            try:
                with anyio.fail_after(CLOSE_DEADLINE):
                    await close(resource)
            except Exception as exc:  # of any client's code; the calls that used it have ended well
                self._log.log(logging.WARNING, "%r was not closed: %r", resource, exc, logger=SESSION, exc_info=exc)


def shared(key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T | None:
    """Return the resource that the calls of the current session share under ``key``, creating it on first use.

    ``close`` is awaited when the session ends.

    Returns:
        None where nothing would close it: outside sessions, after their end, and in other event loops, such as one that
        a worker thread runs.
    """
    frame = current.get()
    if frame is None:
        return None
    coordinator = frame.coordinator
    if not coordinator.publisher.has_host or not coordinator.loop.is_this_thread:
        return None
    coordinator.resources = coordinator.resources or Resources(coordinator.log)
    resource: T = coordinator.resources.get(key, make, close)
    return resource
