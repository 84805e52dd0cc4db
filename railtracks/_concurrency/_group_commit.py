"""Group commit: many calls wait for one write to disk."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._threads import run_in_thread


class GroupCommit:
    """Lets calls wait until what they appended is on disk.

    While one group is being written the next gathers. The first of each group has it written, in a worker
    thread, as soon as the one before is; so everyone is woken once.
    """

    def __init__(self) -> None:
        self._writing: anyio.Event | None = None  # set when the group that is being written is on disk
        self._gathering: anyio.Event | None = None

    async def wait(self, sync: Callable[[], None]) -> None:
        """Return when all that was appended before is on disk.

        Args:
            sync: Puts everything that was appended before it is called on disk; blocks; never raises.

        Cancellation: the wait ends; for the first of a group, when the group is on disk.
        """
        group = self._gathering
        if group is not None:
            await group.wait()
        else:
            self._gathering = group = anyio.Event()
            await shielded(lambda: self._write(group, sync))

    async def _write(self, group: anyio.Event, sync: Callable[[], None]) -> None:
        if self._writing is not None:
            await self._writing.wait()
        self._gathering, self._writing = None, group
        try:
            await run_in_thread(sync)
        finally:
            group.set()
            if self._writing is group:
                self._writing = None
