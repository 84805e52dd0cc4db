"""Resources that the calls of a session share, and that the session closes: connections to servers, above all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio

from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog

T = TypeVar("T")

_PASSED_ON = (KeyboardInterrupt, SystemExit)
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
        """Close all resources, whatever closing one of them raises; that is logged. Call it shielded.

        Raises:
            KeyboardInterrupt, SystemExit: it came meanwhile.
        Cancellation: passed on when all are closed; only asyncio has cancellations that a shield does not keep off.
        """
        passed_on: BaseException | None = None
        while self._open:
            _, (resource, close) = self._open.popitem()
            try:
                with anyio.fail_after(CLOSE_DEADLINE):
                    await close(resource)
            except GeneratorExit:  # the coroutine is being destroyed, and must not wait any more
                raise
            except BaseException as exc:  # of any client's code; the calls that used it have ended well
                if is_kind(exc, _PASSED_ON) or _is_cancellation(exc):
                    passed_on = exc if passed_on is None else passed_on
                else:
                    self._log.log(logging.WARNING, "%r was not closed: %r", resource, exc, logger=SESSION, exc_info=exc)
        if passed_on is not None:
            raise passed_on


def _is_cancellation(exc: BaseException) -> bool:
    """Return whether ``exc`` cancels this task."""
    return is_kind(exc, anyio.get_cancelled_exc_class()) and not is_stray_cancellation(exc)


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
