"""Doors: the functions of anyio and trio in which a thread waits for an event loop.

A thread behind one is not at work: the clock may jump, and often has to, as the thread may wait for a sleep. Neither
library tells which threads wait so, and so their stacks are looked at.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from types import CodeType, FrameType

from railtracks._threads import run_in_loop

SETTLED = 0.005
"""Real seconds in which a thread has not moved: it is not just about to hand over what it wants done."""


@cache
def _doors() -> set[CodeType]:
    import anyio.from_thread
    import trio.from_thread

    portal = anyio.from_thread.BlockingPortal
    functions = (
        anyio.from_thread.run, anyio.from_thread.run_sync, portal.call, portal.start_task,
        trio.from_thread.run, trio.from_thread.run_sync,
    )  # fmt: skip
    return {function.__code__ for function in functions}


class Doors:
    """Which threads wait for an event loop; for one event loop that looks again and again."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[FrameType, int, float]] = {}  # frame, place in it, since when

    def holds(self, thread: int) -> bool:
        """Does it wait for an event loop?"""
        frame = sys._current_frames().get(thread)
        return _is_behind_door(frame) and self._still(thread, frame) > SETTLED

    def count(self, known: set[int]) -> int:
        """How many threads wait so, those that are ``known`` aside."""
        return sum(self.holds(thread) for thread in sys._current_frames() if thread not in known)

    def stands_still(self, thread: int) -> float:
        """For how many real seconds it has not moved."""
        return self._still(thread, sys._current_frames().get(thread))

    def _still(self, thread: int, frame: FrameType | None) -> float:
        if frame is None:
            self._seen.pop(thread, None)
            return 0.0
        seen = self._seen.get(thread)
        if seen is None or seen[0] is not frame or seen[1] != frame.f_lasti:
            seen = self._seen[thread] = frame, frame.f_lasti, time.monotonic()
        return time.monotonic() - seen[2]


def _is_behind_door(frame: FrameType | None) -> bool:
    found = False
    while frame is not None:
        if frame.f_code is run_in_loop.__code__:
            return False  # our own door tells by itself
        found = found or frame.f_code in _doors()
        frame = frame.f_back
    return found
