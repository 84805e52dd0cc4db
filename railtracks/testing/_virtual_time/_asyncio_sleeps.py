"""Sleeps of user code on asyncio that last longer than they say, and never past a deadline."""

from __future__ import annotations

import asyncio
import heapq
import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from railtracks.testing._virtual_time._asyncio_order import Moment
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._tasks import is_user_code, order_of

_CANCELLED_KEPT = 1000
"""How many timers of sleeps that were cancelled are kept."""
_SLEEPING = ("asyncio", "anyio", "railtracks.testing._virtual_time")


class Sleeps:
    """The sleeps of user code in one event loop.

    Args:
        timers: Returns the timers of the event loop, a heap.
        clock: Its clock.
        scheduler: Decides which sleeps last longer.
        moment: Returns the given time, after all timers that have been set for it.
    """

    def __init__(
        self,
        timers: Callable[[], list[Any]],
        clock: VirtualClock,
        scheduler: Scheduler | None,
        moment: Callable[[float], Moment],
    ) -> None:
        self._timers = timers
        self._clock = clock
        self._scheduler = scheduler if scheduler is not None and scheduler.delays_timers else None
        self._moment = moment
        # By the identity of the timer, whose hash is that of its time. They are kept, or else another timer may have
        # the identity of one that was cancelled, which is a matter of chance:
        self._asleep: dict[int, tuple[Any, int, float]] = {}  # with the age of its task, its seconds; not decided yet
        self._most_asleep = _CANCELLED_KEPT
        self._decided: dict[int, tuple[Any, float]] = {}  # the timer, and when it was to end

    def note(self, timer: asyncio.TimerHandle) -> None:
        """Note a timer that was set, if it ends a sleep of user code."""
        if self._scheduler is None or not self._scheduler.delays_timers:
            return
        if getattr(timer._callback, "__name__", "") != "_set_result_unless_cancelled":  # type: ignore[attr-defined]
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and str(frame.f_globals.get("__name__")).startswith(_SLEEPING):
            frame = frame.f_back
        if frame is not None and is_user_code(frame):
            self._asleep[id(timer)] = timer, order_of(asyncio.current_task()), timer.when() - self._clock.reading
            if len(self._asleep) > self._most_asleep:
                self._asleep = {key: sleep for key, sleep in self._asleep.items() if not sleep[0].cancelled()}
                self._most_asleep = 2 * len(self._asleep) + _CANCELLED_KEPT

    def close(self) -> None:
        """Release the timers, whose contexts keep tasks, because the event loop is closed."""
        self._asleep.clear()
        self._decided.clear()

    def delay(self) -> None:
        """Decide, before the clock jumps, whether the sleep that ends next lasts longer.

        A timer that is no sleep, and that was set while a sleep lasted too long, ends that before it is due itself.
        """
        if self._scheduler is None:
            return
        while timers := self._timers():
            next_timer = timers[0]
            if next_timer.cancelled() or id(next_timer) in self._decided:
                return
            if id(next_timer) not in self._asleep:
                self._end_late_sleeps()
                return
            at_once = [each for each in timers if each.when() == next_timer.when() and id(each) in self._asleep]
            late = [self._decide(each, self._scheduler) for each in sorted(at_once)]  # one and all
            if not all(late):
                return

    def _decide(self, timer: Any, scheduler: Scheduler) -> bool:
        """Decide whether a sleep lasts longer, and return it."""
        _, age, duration = self._asleep.pop(id(timer))
        end = timer.when()
        self._decided[id(timer)] = timer, end
        slack = self._next_deadline() - end
        lateness = scheduler.lateness(age, duration, slack) if scheduler.delays_timers else 0.0
        if lateness:
            self._set(timer, end + lateness)
        return lateness > 0

    def _next_deadline(self) -> float:
        """Return when the next timer is due that is no sleep of user code."""
        others = (each for each in self._timers() if id(each) not in self._asleep and id(each) not in self._decided)
        return min((each.when() for each in others if not each.cancelled()), default=math.inf)

    def _end_late_sleeps(self) -> None:
        decided, self._decided = self._decided, {}
        for timer, end in decided.values():
            if timer._scheduled and timer.when() > end:  # it is late, and has not ended
                self._set(timer, max(end, self._clock.reading))
                self._decided[id(timer)] = timer, end

    def _set(self, timer: Any, when: float) -> None:
        timer._when = self._moment(when)
        heapq.heapify(self._timers())
