"""The order of the steps of tasks in the queue of an asyncio event loop."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Container
from operator import attrgetter
from typing import Any

from railtracks.testing._virtual_time._asyncio_order import task_of
from railtracks.testing._virtual_time._scheduler import FROM_THREAD, Callback, Scheduler, Step
from railtracks.testing._virtual_time._tasks import order_of

_WAKERS = frozenset(
    {
        ("asyncio.futures", "_set_result_unless_cancelled"),  # the end of a sleep
        ("asyncio.tasks", "_wait.<locals>._on_completion"),
        ("asyncio.tasks", "as_completed.<locals>._on_completion"),
        ("asyncio.tasks", "gather.<locals>._done_callback"),
        ("asyncio.tasks", "shield.<locals>._inner_done_callback"),
        ("asyncio.taskgroups", "TaskGroup._on_task_done"),
        ("anyio._backends._asyncio", "TaskGroup._spawn.<locals>.task_done"),
    }
)
"""Callbacks of asyncio and anyio that run no code of users, and do nothing but wake tasks."""
_AGE = attrgetter("age")


class FromThread(functools.partial[Any]):
    """A callback that another thread handed over."""


class Steps:
    """Arranges the steps of tasks that are neighbours in the queue of an event loop, before each of its turns.

    A step never changes places with a callback: asyncio promises to call both in the order in which they were
    scheduled, and transports, subprocesses and futures depend on that. So only steps behind the last callback can be
    held back, and only until another callback is scheduled. The first step of a task is never held back, because
    correct code gives way once to let a task begin. What a thread hands over keeps its place as well, but does not
    part neighbours: it might as well have come a little earlier or later.

    Args:
        queue: The queue. A thread may append something at any time.
        scheduler: Decides the order; None to leave it as it is.

    Attributes:
        held: The steps that are held back in this turn.
    """

    def __init__(self, queue: deque[asyncio.Handle], scheduler: Scheduler | None) -> None:
        self._queue = queue
        self._scheduler = scheduler
        self.held: dict[asyncio.Handle, Step] = {}

    def arrange(self) -> None:
        """Arrange the steps that can be taken in the next turn."""
        known, self.held = self.held, {}
        self._queue.extendleft(reversed(known))  # they were scheduled before the others
        if self._scheduler is None or not self._queue:
            return
        passed: Container[int] = ()
        if self._scheduler.observes:
            passed = self._scheduler.begin_turn([_step_of(each, False) or _callback_of(each) for each in self._queue])
        if len(self._queue) > 1:
            self._arrange(self._scheduler, known, passed)
        elif (task := task_of(self._queue[0])) is not None:  # as in most turns
            self._scheduler.log.note(order_of(task), task.get_coro(), self._queue[0])

    def _arrange(self, scheduler: Scheduler, known: dict[asyncio.Handle, Step], passed: Container[int]) -> None:
        places: list[int] = []
        steps: list[Step] = []
        queue, holds = tuple(self._queue), scheduler.holds
        for place, handle in enumerate(queue):
            if (step := known.get(handle) or _step_of(handle, holds)) is not None:
                places.append(place)
                steps.append(step)
            elif _parts_neighbours(handle, holds) and place not in passed:
                self._permute(places, [Step(*step[:3], can_wait=False) for step in steps], scheduler)
                places, steps = [], []
        taken = self._permute(places, steps, scheduler)
        if taken < len(steps):
            self._hold(len(queue), steps[taken:])

    def _permute(self, places: list[int], steps: list[Step], scheduler: Scheduler) -> int:
        """Put the steps into these places of the queue, in the order of the scheduler; return how many to take now."""
        taken = len(steps)
        if taken > 1:
            steps.sort(key=_AGE)  # as asyncio and anyio cancel tasks in the order of a set: that of addresses
            taken = scheduler.arrange(steps)
            for place, step in zip(places, steps, strict=True):
                self._queue[place] = step.handle
        for step in steps[:taken]:
            scheduler.log.note(step.age, step.coroutine, step.handle)
        return taken

    def _hold(self, size: int, steps: list[Step]) -> None:
        """Hold back the steps, which are among the first ``size`` handles of the queue."""
        self.held = {step.handle: step for step in steps}
        queue = [self._queue.popleft() for _ in range(size)]
        self._queue.extendleft(handle for handle in reversed(queue) if handle not in self.held)

    def release(self) -> None:
        """Take the steps that are held back in this turn after all, before a callback is scheduled."""
        self._queue.extend(self.held)
        self.held = {}


def _step_of(handle: asyncio.Handle, holds: bool) -> Step | None:
    """Return the step of a task that the handle is, or None if it is another callback."""
    task = task_of(handle)
    if task is None:
        return None
    coroutine = task.get_coro()
    return Step(order_of(task), coroutine, handle, holds and getattr(coroutine, "cr_suspended", False))


def _callback_of(handle: asyncio.Handle) -> Callback:
    """Return what a scheduler wants to know of a handle that is not the step of a task."""
    callback, ended = handle._callback, next(iter(handle._args or ()), None)  # type: ignore[attr-defined]
    name = FROM_THREAD if isinstance(callback, FromThread) else str(getattr(callback, "__qualname__", ""))
    return Callback(name, order_of(ended) if isinstance(ended, asyncio.Task) else -1)


def _parts_neighbours(handle: asyncio.Handle, holds: bool) -> bool:
    """Return whether no step of a task may pass the callback.

    Args:
        handle: The callback.
        holds: Whether steps may be held back; then those callbacks do not count that do nothing but wake tasks, such
            as the end of a sleep, or of a task in a group.
    """
    callback = handle._callback  # type: ignore[attr-defined]
    if isinstance(callback, FromThread):
        return False
    return not holds or (getattr(callback, "__module__", ""), getattr(callback, "__qualname__", "")) not in _WAKERS
