"""What the calls of a session share, and the session closes: connections to servers, above all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio

from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog

T = TypeVar("T")

CLOSE_DEADLINE = 5.0
"""Seconds that each of them has to say goodbye."""


class Resources:
    """The shared resources of one session. They belong to its event loop."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._open: dict[Hashable, tuple[Any, Callable[[Any], Awaitable[object]]]] = {}

    def get(self, key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T:
        """The resource of this key, made by the first who asks; ``close`` is awaited when nobody can ask any more."""
        if key not in self._open:
            self._open[key] = make(), close
        return self._open[key][0]  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close all. Never raises; to be called shielded."""
        while self._open:
            _, (resource, close) = self._open.popitem()
            try:
                with anyio.fail_after(CLOSE_DEADLINE):
                    await close(resource)
            except Exception as exc:  # whatever a client's code raises: the calls that used it have ended well
                self._log.log(logging.WARNING, "%r was not closed: %r", resource, exc, logger=SESSION, exc_info=exc)


def shared(key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T | None:
    """What the calls of the current session share under this key, made by the first who asks.

    ``close`` is awaited when the session ends. None where nobody would do that: outside sessions, after their end, and
    in other event loops, such as one that a thread has of its own.
    """
    frame = current.get()
    return None if frame is None else frame.coordinator.share(key, make, close)
