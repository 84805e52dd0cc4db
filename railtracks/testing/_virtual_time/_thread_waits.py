"""How threads of a run sleep and wait in virtual time: those that do work for it, and that of its event loop.

A thread that does work pauses, and others continue. The thread of the event loop blocks as it does in real time: no
task runs and no timer fires meanwhile, but other threads go on, and time passes for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import FrameType

from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._pauses import GRACE, POLL_INTERVAL
from railtracks.testing._virtual_time._switches import reach_place
from railtracks.testing._virtual_time._world import World


class VirtualWaits:
    """The waits of the threads of one run.

    Args:
        world: The world of the run; its threads wait in this way from now on.
        clock: Its clock.
    """

    def __init__(self, world: World, clock: VirtualClock) -> None:
        self._world = world
        self._clock = clock
        self.scheduler = clock.thread_scheduler
        world.waits = self

    @property
    def are_virtual(self) -> bool:
        """Whether the waits of the calling thread are virtual: it does work for the run, or has its event loop."""
        return threading.get_ident() == self._world.loop_thread or self.scheduler.work_of_thread() is not None

    def reach_place(self, frame: FrameType) -> None:
        """Handle that the code of a frame is where this thread could lose its turn."""
        reach_place(frame)

    def sleep(self, seconds: float) -> None:
        """Pass virtual seconds in this thread."""
        if threading.get_ident() == self._world.loop_thread:
            self._clock.jump(seconds)
        else:
            until = self._clock.reading + seconds
            self.scheduler.pause(until, lambda: False, is_sleep=True)

    def wait(self, is_over: Callable[[], bool], timeout: float | None) -> bool | None:
        """Wait until something happens.

        Args:
            is_over: Whether it has happened; cheap, and called in any thread.
            timeout: Virtual seconds to wait at most; None for no limit.

        Returns:
            Whether it has happened; None if only a thread outside of the run can make it happen, so that the wait has
            to be real.
        """
        if is_over():
            return True
        until = None if timeout is None else self._clock.reading + max(0.0, timeout)
        if threading.get_ident() == self._world.loop_thread:
            return self._block_loop(until, is_over)
        return self.scheduler.pause(until, is_over)

    def _block_loop(self, until: float | None, is_over: Callable[[], bool]) -> bool | None:
        clock, scheduler = self._clock, self.scheduler
        began = _real_clock.monotonic()
        while not is_over():
            scheduler.heartbeat += 1
            if until is not None and until <= clock.reading:
                return False
            if scheduler.take_turns(clock.is_blocked, is_over):
                continue
            if scheduler.grant_turn(clock.is_blocked):  # it takes long, or has stalled
                if _real_clock.monotonic() - began > clock.patience:
                    return None
                _real_clock.block(POLL_INTERVAL)
                continue
            pause = scheduler.next_end()
            ends = [end for end in (until, None if pause is None else pause.until) if end is not None]
            if not ends:
                return None
            if clock.others_may_wake() and _real_clock.monotonic() - began < GRACE:
                _real_clock.block(POLL_INTERVAL)
                continue
            clock.jump_to(min(ends))
        return True
