"""The workers of ``call_stream``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from railtracks._calls._batch import KeepRecords
from railtracks._calls._workers import Call, CallSource, CallWorkers
from railtracks._concurrency._condition import Condition

if TYPE_CHECKING:
    from railtracks.execution._batch_keeper import BatchKeeper  # loaded by few programs


class StreamOptions(NamedTuple):
    """The arguments of ``call_stream``."""

    limit: int
    ordered: bool
    return_exceptions: bool
    label: str | None
    keep_records: KeepRecords


class StreamWorkers(CallWorkers):
    """Workers that stop when as many results wait as there may be calls at once.

    A worker without room exits, but for one, which waits until there is some and then starts others.

    Args:
        name: As for ``CallWorkers``.
        calls: As for ``CallWorkers``.
        options: Those of the stream.
        changed: Notified when ``ready`` is not empty any more.
        keeper: As for ``CallWorkers``.

    Attributes:
        ready: The results that can be consumed.
    """

    CALLER = "rt.call_stream"

    def __init__(
        self,
        name: str,
        calls: Iterator[Call] | CallSource,
        options: StreamOptions,
        changed: Condition,
        keeper: BatchKeeper | None = None,
    ) -> None:
        super().__init__(name, calls, options.return_exceptions, options.limit, keeper)
        self._run = self._frame.run  # the stream has a scope for all of them
        self._room = options.limit
        self._has_room = Condition()
        self._is_waiting = False  # a worker waits for room
        self._is_ordered = options.ordered
        self._early: dict[int, Any] = {}  # results that have to wait for others, by place
        self._next = 0  # the place of the next result, if they are ordered
        self.ready: deque[Any] = deque()
        self._changed = changed

    def _skip(self) -> None:
        self._show_end(has_failed=False)

    def _put(self, index: int, result: Any) -> None:
        if self._is_ordered and index != self._next:
            self._early[index] = result
            return
        ready, early = self.ready, self._early
        ready.append(result)
        self._next += 1
        while early and self._next in early:
            ready.append(early.pop(self._next))
            self._next += 1
        self._changed.notify_all()

    def take(self) -> Any:
        """Consume the next result, of those that are ready."""
        result = self.ready.popleft()
        self._room += 1
        self._has_room.notify_all()
        return result

    async def _wait_for_room(self) -> bool:
        self._burst = 1  # the others found nothing to do either
        if self._is_waiting:
            self._free_slots += 1
            return False
        self._is_waiting = True
        try:
            await self._has_room.wait_while(lambda: not self._room)
        finally:
            self._is_waiting = False
        return True
