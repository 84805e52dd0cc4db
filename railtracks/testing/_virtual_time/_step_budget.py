"""The budget of steps of a run: tasks that run on and on while no time passes are a livelock.

Steps are counted, not timed, so that a livelock comes at the same step each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from railtracks.testing._virtual_time._event_loop import EventLoop
from railtracks.testing._virtual_time._holders import Holders
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler

MAX_STEPS = 500_000
"""Steps of tasks and callbacks that may run while no virtual time passes."""
STEPS_PER_TURN = 25
"""How many steps a turn of the event loop counts as at least, because a turn costs time too."""
_CHECKS = 25
"""How many times, within ``max_steps``, to check what else is going on."""
_WATCHED_TURNS = 20
"""The turns after the last step that is allowed, in which what runs is noted."""


class CountedClock(Protocol):
    """What a ``StepBudget`` needs of its clock."""

    event_loop: EventLoop | None
    thread_scheduler: SeededThreadScheduler
    counts_steps: bool

    @property
    def now(self) -> float:
        """Virtual seconds since the run began."""


class StepBudget:
    """The steps that tasks and callbacks may take while the clock does not move.

    Args:
        most: How many there may be.
        clock: The clock.
        holders: What holds it.
        wait_for: Called with what the steps may wait for, and when that wait began, in real time; returns the latter.
            Fails if it has lasted for too long.
        fail: Called with what happened, and where the tasks are that run, if there were too many steps.
    """

    def __init__(
        self,
        most: int,
        clock: CountedClock,
        holders: Holders,
        wait_for: Callable[[list[str], float | None], float | None],
        fail: Callable[[str, list[str]], None],
    ) -> None:
        self.most = most
        self.was_idle = False
        """Whether the event loop had nothing to do since the last check."""
        self._clock, self._holders = clock, holders
        self._wait_for, self._fail = wait_for, fail
        self._interval = most / _CHECKS
        self._steps = 0  # since the clock moved
        self._check_at = 0.0  # the number of steps at which to check what else is going on
        self._stands_at = -1.0
        self._spinning_since: float | None = None  # in real time
        self._running: dict[str, bool] = {}
        self._watched_turns = 0

    def note_idle(self) -> None:
        """Note that the event loop has nothing to do."""
        self.was_idle = True
        self._spinning_since = None

    def note_turn(self, steps: int) -> None:
        """Note that the event loop runs ``steps`` steps next; check what else is going on if these are many."""
        if self._clock.now != self._stands_at or not self._clock.counts_steps:
            self._stands_at = self._clock.now
            self._spinning_since = None
            self._restart()
        self._steps += max(steps, STEPS_PER_TURN)
        if self._steps >= self._check_at:
            self._check()

    def _restart(self) -> None:
        self._steps = self._watched_turns = 0
        self._check_at = self._interval
        self._running.clear()

    def _check(self) -> None:
        """Let a worker thread continue, for which the steps may wait, and see whether there were too many steps.

        They are counted again if tasks leave no room for something that they may wait for: the event loop was never
        idle, and a thread, a process or a socket is under way. If it is idle now and then, all of that goes on.
        """
        if self._watched_turns:
            self._watch()
            return
        was_idle, self.was_idle = self.was_idle, False
        was_starved = self._clock.thread_scheduler.grant_turn_between(self._holders.rests)
        holders = self._holders.find_lasting()
        left = self.most - self._steps
        if not was_idle and (holders or (was_starved and left <= 0)):
            self._restart()
            if holders:
                self._spinning_since = self._wait_for(holders, self._spinning_since)
        elif left <= 0 and (left <= -2 * self._interval or not (holders or was_starved)):
            self._watch()
        else:
            self._check_at += self._interval
            self._spinning_since = None

    def _watch(self) -> None:
        """Note what runs in this turn; after some turns, fail."""
        assert self._clock.event_loop is not None
        self._watched_turns += 1
        self._running.update(self._clock.event_loop.running())
        if self._watched_turns == _WATCHED_TURNS:
            self._holders.find_lasting()  # until then a thread may still be about to wait, and its place unknown
            own = [*(place for place, is_own in self._running.items() if is_own), *self._holders.blocked_threads()]
            running = own or list(self._running)
            self._restart()
            self._fail("tasks", running)
