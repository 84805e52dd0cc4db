"""How threads of a run sleep and wait in virtual time: those that do work for it, and that of its event loop.

A thread that does work pauses, and others continue. The thread of the event loop blocks as it does in real time: no
task runs and no timer fires meanwhile, but other threads go on, and time passes for them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, cast

from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._blocked_threads import where_code_waits
from railtracks.testing._virtual_time._clock import STALLED, VirtualClock
from railtracks.testing._virtual_time._pauses import GRACE, POLL_INTERVAL, Pause
from railtracks.testing._virtual_time._stuck_errors import ClockHeldError, Deadlock, StuckError
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
            self._clock.note_thread_turns(1, self._fail_running)
            self._clock.jump(seconds)
        else:
            until = self._clock.reading + seconds
            self.scheduler.pause(until, lambda: False, is_sleep=True)

    def wait(self, is_over: Callable[[], bool], timeout: float | None, holder: Callable[[], str] = str) -> bool:
        """Wait until something happens.

        Args:
            is_over: Whether it has happened; cheap, and called in any thread.
            timeout: Virtual seconds to wait at most; None for no limit.
            holder: Returns where what is waited for is held, or "".

        Returns:
            Whether it has happened.

        Raises:
            StuckError: the thread of the event loop waits for what never happens.
        """
        if is_over():
            return True
        until = None if timeout is None else self._clock.reading + max(0.0, timeout)
        if threading.get_ident() == self._world.loop_thread:
            return self._block_loop(until, is_over, holder)
        return self.scheduler.pause(until, is_over, holder=holder)

    def _block_loop(self, until: float | None, is_over: Callable[[], bool], holder: Callable[[], str]) -> bool:
        clock, scheduler = self._clock, self.scheduler
        since = _real_clock.monotonic()
        while not is_over():
            scheduler.heartbeat += 1
            if until is not None and until <= clock.reading:
                return False
            if clock.let_threads_run(is_over) or self._time_passes(until, since, is_over, holder):
                since = _real_clock.monotonic()
            else:
                _real_clock.block(POLL_INTERVAL)
        return True

    def _time_passes(
        self, until: float | None, since: float, is_over: Callable[[], bool], holder: Callable[[], str]
    ) -> bool:
        """Move the clock to what time ends next, if no other thread is about to do something.

        Args:
            until: What the clock reads when the wait of the event loop ends at the latest; None for no such limit.
            since: When something has happened last, in real time.
            is_over: As for ``wait``.
            holder: As for ``wait``.

        Returns:
            Whether it was moved. If not, another thread may be about to do something.

        Raises:
            StuckError: nothing can end the wait, or the other threads have not for too long.
        """
        clock, scheduler = self._clock, self.scheduler
        waited = _real_clock.monotonic() - since
        # In this order: a thread may end, or pause, just after it has done what the next question is about.
        others_may = clock.others_may_unblock()
        is_at_work = scheduler.grant_turn(clock.is_blocked)
        pause = scheduler.next_end()
        is_thread_next = pause is not None and (until is None or cast(float, pause.until) < until)
        end = cast(Pause, pause).until if is_thread_next else until
        if is_at_work or (end is None and scheduler.has_begun_turn(clock.is_blocked)):  # it takes long, or has stalled
            if is_thread_next and scheduler.has_stalled():
                clock.note_undetermined(STALLED)
            elif waited > clock.patience:
                self._fail(ClockHeldError, holder(), f"a thread has been at work for {clock.patience:g} s of real time")
            else:
                return False
        elif end is None:
            if is_over():
                return False
            if not others_may:
                self._fail(Deadlock, holder(), "nothing can end that")
            if waited > GRACE:
                clock.note_undetermined("the event loop blocked while there were threads which are not part of the run")
            if waited > clock.patience:
                others = f"no thread that is not part of the run has ended that in {clock.patience:g} s of real time"
                self._fail(Deadlock, holder(), others)
            return False
        elif clock.others_may_wake() and waited < GRACE:
            return False
        clock.note_thread_turns(1, self._fail_running)
        clock.jump_to(cast(float, end))
        return True

    def _fail_running(self, kind: type[StuckError], problem: str, running: list[str]) -> NoReturn:
        """Fail because code of the event loop blocks again and again."""
        place, _ = where_code_waits(sys._getframe())
        self._clock.fail_now(kind, problem, [place, *running] if place else running)

    def _fail(self, kind: type[StuckError], holder: str, why: str) -> NoReturn:
        """Fail because code of the event loop blocks.

        Args:
            kind: The class of the error.
            holder: Where what it waits for is held, or "".
            why: Why nothing ends that.
        """
        place, what = where_code_waits(sys._getframe())
        where = f"{place and f' in {place}'}{what and f', {what}'}{holder and f', acquired in {holder}'}"
        self._clock.fail_now(kind, f"the event loop blocks{where}, and {why}; no task can run meanwhile")
