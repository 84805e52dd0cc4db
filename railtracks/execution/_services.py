"""What the calls of a session share beside their records: its nursery, connections to servers, open streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Protocol, TypeVar

from railtracks._logging import SessionLog
from railtracks.execution._loop_binding import LoopBinding
from railtracks.pubsub import RTPublisher

if TYPE_CHECKING:  # not loaded before they are needed, if ever
    from railtracks.execution._call_scopes import RootCall
    from railtracks.execution._resources import Resources
    from railtracks.execution._streams import OpenStreams

T = TypeVar("T")


class TaskSpawner(Protocol):
    """The nursery of a session, as far as its calls need it."""

    body_finished: bool
    """Whether the session's body has ended: its tasks may still run, but their streams have no consumer."""

    def spawn(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await ``func()`` in a task of the session. The session raises what it raises, at the session's end."""


class SessionServices:
    """What the calls of one session share.

    Attributes:
        nursery: The session's nursery; None while it has none.
    """

    __slots__ = ("_log", "_loop", "_publisher", "_resources", "_streams", "nursery")

    def __init__(self, log: SessionLog, loop: LoopBinding, publisher: RTPublisher) -> None:
        self._log = log
        self._loop = loop
        self._publisher = publisher
        self._resources: Resources | None = None
        self._streams: OpenStreams | None = None
        self.nursery: TaskSpawner | None = None

    # ---- resources

    def share(self, key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T | None:
        """Return the resource for ``key``, creating it on first use; see ``execution.shared``."""
        if not self._publisher.has_host or not self._loop.is_this_thread:
            return None
        from railtracks.execution._resources import Resources  # here, as few sessions share anything

        self._resources = self._resources or Resources(self._log)
        return self._resources.get(key, make, close)

    @property
    def has_resources(self) -> bool:
        """Whether something is shared, and has to be closed."""
        return self._resources is not None

    async def close_resources(self) -> None:
        """Close what is shared, unless a nursery is left that may use it. Never raises; call it shielded."""
        if not self._publisher.has_host and self._resources is not None:
            await self._resources.close()

    # ---- streams

    def open_streams(self) -> OpenStreams:
        """Return the streams of the session."""
        from railtracks.execution._streams import OpenStreams  # here, as few sessions stream

        self._streams = self._streams or OpenStreams()
        return self._streams

    def cancel_orphaned_streams(self, root: RootCall | None) -> None:
        """Cancel the streams below ``root`` whose opening call has ended; with None, those that the body opened.

        Their calls may wait for a consumer that will never come.
        """
        if self._streams is not None:
            self._streams.cancel_orphaned(root)
