"""Group commit: one write to disk for many calls that wait for it."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._threads import run_in_thread


class GroupCommit:
    """Lets calls wait until what they appended is on disk.

    While one group is being written, the next one gathers. The first caller of a group has it written, in a worker
    thread, as soon as the group before it is on disk. So each caller is woken once.
    """

    def __init__(self) -> None:
        self._writing: anyio.Event | None = None  # set when the group that is being written is on disk
        self._gathering: anyio.Event | None = None

    async def wait(self, sync: Callable[[], None]) -> None:
        """Wait until all that was appended before this call is on disk.

        Args:
            sync: Writes to disk all that was appended before it is called. It blocks and never raises.

        Cancellation: the wait ends; for the first caller of a group only when the group is on disk.
        """
        group = self._gathering
        if group is not None:
            await group.wait()
        else:
            self._gathering = group = anyio.Event()
            await self._write(group, sync)

    async def _write(self, group: anyio.Event, sync: Callable[[], None]) -> None:
        shield = Shield()
        if self._writing is not None:
            await shield.wait(self._writing)
        self._gathering, self._writing = None, group
        is_written = False

        def write() -> None:
            nonlocal is_written
            sync()
            is_written = True

        try:
            while not is_written:
                try:
                    await shield.attempt(lambda: run_in_thread(write))  # a cancellation may come before it begins
                except RuntimeError:  # "can't start new thread", since `sync` never raises
                    write()
        finally:
            group.set()
            if self._writing is group:
                self._writing = None
        shield.check()
