"""What the calls of a session share, and the session closes: connections to servers, above all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio

from railtracks._logging import SessionLog
from railtracks._scope import current

T = TypeVar("T")

CLOSE_DEADLINE = 5.0
"""Seconds that each of them has to say goodbye."""
LOGGER = logging.getLogger("RT.Session")


class Resources:
    """The shared resources of one session. They belong to its event loop."""

    __slots__ = ("_hosts", "_log", "_open")

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._open: dict[Hashable, tuple[Any, Callable[[Any], Awaitable[object]]]] = {}
        self._hosts = 0

    def __bool__(self) -> bool:
        return bool(self._open)

    def get(self, key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T | None:
        """The resource of this key, made by the first who asks; ``close`` is awaited when nobody can ask any more.

        None if that is so already: there would be nobody to close it.
        """
        if not self._hosts:
            return None
        if key not in self._open:
            self._open[key] = make(), close
        return self._open[key][0]  # type: ignore[no-any-return]

    def enter(self) -> None:
        """Somebody houses calls: the session itself, or, where it has no nursery, a top-level call."""
        self._hosts += 1

    async def leave(self) -> None:
        """The last of them closes what is open. Never raises; to be called shielded."""
        self._hosts -= 1
        while not self._hosts and self._open:
            _, (resource, close) = self._open.popitem()
            try:
                with anyio.fail_after(CLOSE_DEADLINE):
                    await close(resource)
            except Exception as exc:  # whatever a client's code raises: the calls that used it have ended well
                self._log.log(logging.WARNING, "%r was not closed: %r", resource, exc, logger=LOGGER, exc_info=exc)


def shared(key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T | None:
    """``Resources.get`` of the session that the running code is in; None outside, and in other event loops."""
    frame = current.get()
    if frame is None or not frame.coordinator.is_here:  # a thread may have an event loop of its own
        return None
    return frame.coordinator.resources.get(key, make, close)  # type: ignore[no-any-return]
