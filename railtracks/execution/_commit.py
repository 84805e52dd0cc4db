"""Group commit: many calls wait for one write to disk."""

from __future__ import annotations

from collections.abc import Callable

from railtracks._notifier import Notifier
from railtracks._shield import shielded
from railtracks._threads import run_in_thread


class GroupCommit:
    """Lets calls wait until what they appended is on disk.

    The first that waits has it written, in a worker thread; those that come meanwhile are the next group.

    Args:
        sync: Puts everything that was appended before it on disk; blocks; never raises.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._last = 0  # the ticket of the call that came last
        self._done = 0  # all up to this one are on disk
        self._busy = False
        self._changed = Notifier()

    async def wait(self) -> None:
        """Return when all that was appended before is on disk.

        Cancellation: the wait ends; if it has begun a write, when that has ended.
        """
        self._last = ticket = self._last + 1
        while self._done < ticket:
            if self._busy:
                await self._changed.wait_while(lambda: self._busy)
            else:
                await self._write()

    async def _write(self) -> None:
        self._busy = True
        last = self._last
        try:
            await shielded(lambda: run_in_thread(self._sync))
        finally:
            self._done, self._busy = last, False
            self._changed.notify_all()
