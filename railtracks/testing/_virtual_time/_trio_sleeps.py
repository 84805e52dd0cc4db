"""Sleeps of user code on trio that last longer than they say, and never past a deadline."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from railtracks._test_probe import suspended_frames
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._tasks import is_user_code

_SLEEPING = ("trio", "anyio")


class TrioSleeps:
    """The sleeps of user code in one run of trio: scopes that end, at their deadlines, a task that waits for nothing.

    Args:
        clock: Its clock.
        scheduler: Decides which sleeps last longer.
    """

    def __init__(self, clock: VirtualClock, scheduler: Scheduler | None) -> None:
        self._clock = clock
        self._scheduler = scheduler if scheduler is not None and scheduler.delays_timers else None
        self._decided: dict[Any, float] = {}  # the scope of a sleep, and when it was to end

    def delay(self, deadlines: Any) -> None:
        """Decide, before the clock jumps, whether the sleep that ends next lasts longer.

        A deadline that is no sleep, and that was set while a sleep lasted too long, ends that before it is due itself.

        Args:
            deadlines: Those of trio.
        """
        if self._scheduler is None or not (self._scheduler.delays_timers or self._decided):
            return
        while scopes := _scopes(deadlines):
            end = min(scope.deadline for scope in scopes)
            at_once = [scope for scope in scopes if scope.deadline == end]
            undecided = {scope: sleep for scope in scopes if scope not in self._decided and (sleep := _sleep_of(scope))}
            others = [scope.deadline for scope in scopes if scope not in self._decided and scope not in undecided]
            if end in others:
                self._end_late_sleeps()
                return
            stays = any(scope in self._decided for scope in at_once)
            slack = min(others, default=math.inf) - end
            for scope in sorted((scope for scope in at_once if scope in undecided), key=undecided.__getitem__):
                stays |= not self._decide(scope, undecided[scope], slack, self._scheduler)
            if stays:
                return

    def _decide(self, scope: Any, sleep: _Sleep, slack: float, scheduler: Scheduler) -> bool:
        """Decide whether a sleep lasts longer, and return it."""
        self._decided[scope] = scope.deadline
        lateness = scheduler.lateness(sleep.age, sleep.duration, slack) if scheduler.delays_timers else 0.0
        if lateness:
            scope.deadline += lateness
        return lateness > 0

    def _end_late_sleeps(self) -> None:
        for scope, end in self._decided.items():
            if scope.deadline > end:
                scope.deadline = max(end, self._clock.reading)


class _Sleep(NamedTuple):
    """A sleep of user code: the age of its task, and how long it lasts."""

    age: int
    duration: float


def _scopes(deadlines: Any) -> list[Any]:
    """Return the scopes that have a deadline."""
    return [scope for deadline, _, scope in deadlines._heap if scope._registered_deadline == deadline]


def _sleep_of(scope: Any) -> _Sleep | None:
    """Return the sleep of user code that the scope ends; None if it is another scope."""
    tasks: list[Any] = list(getattr(scope._cancel_status, "_tasks", ()))
    if len(tasks) != 1:
        return None
    task = tasks[0]
    frames = list(suspended_frames(task.coro))
    duration = None
    while frames and str(frames[-1].f_globals.get("__name__")).startswith(_SLEEPING):
        frame = frames.pop()
        if frame.f_code.co_name == "sleep" and "seconds" in frame.f_locals:
            duration = frame.f_locals["seconds"]
    return _Sleep(task._counter, duration) if duration is not None and frames and is_user_code(frames[-1]) else None
