"""The budgets of steps of a run: of those at one virtual time, and of all.

Tasks that run on and on while no time passes are a livelock. If time passes, as with a heartbeat, a run that never
ends cannot be known from one that takes very long; so there is a number of steps that the run of a test does not need.

Steps are counted, not timed, so that a run ends at the same step each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from railtracks.testing._virtual_time._event_loop import EventLoop
from railtracks.testing._virtual_time._holders import Holders
from railtracks.testing._virtual_time._stuck_errors import EndlessRun, Livelock, StuckError
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler

MAX_STEPS = 500_000
"""Steps of tasks and callbacks that may run while no virtual time passes."""
MAX_TOTAL_STEPS = 10_000_000
"""Steps of tasks, callbacks and threads in the whole run."""
STEPS_PER_TURN = 25
"""How many steps a turn of the event loop counts as at least, because a turn costs time too."""
_CHECKS = 25
"""How many times, within ``max_steps``, to check what else is going on."""
_WATCHED_TURNS = 20
"""The turns after the last step that is allowed, in which what runs is noted."""


Fail = Callable[[type[StuckError], str, list[str]], None]
"""A function to call with the error, what happened, and where the tasks and threads are that run."""


class CountedClock(Protocol):
    """What a ``StepBudget`` needs of its clock."""

    event_loop: EventLoop | None
    thread_scheduler: SeededThreadScheduler
    counts_steps: bool

    @property
    def now(self) -> float:
        """Virtual seconds since the run began."""


class StepBudget:
    """The steps that tasks and callbacks may take while the clock does not move, and in the whole run.

    Args:
        most: How many there may be while the clock does not move.
        most_in_all: How many there may be in the whole run; ``most`` may follow then, to clean up.
        clock: The clock.
        holders: What holds it.
        wait_for: Called with what the steps may wait for, and when that wait began, in real time; returns the latter.
            Fails if it has lasted for too long.
        fail: Called if there were too many steps.
    """

    def __init__(
        self,
        most: int,
        most_in_all: int,
        clock: CountedClock,
        holders: Holders,
        wait_for: Callable[[list[str], float | None], float | None],
        fail: Fail,
    ) -> None:
        self.most, self.most_in_all = most, most_in_all
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
        self._left = most_in_all  # until the whole run has taken too many

    def note_idle(self) -> None:
        """Note that the event loop has nothing to do."""
        self.was_idle = True
        self._spinning_since = None

    def note_turn(self, steps: int) -> None:
        """Note that the event loop runs ``steps`` steps next; check what else is going on if these are many."""
        counts = self._clock.counts_steps
        if self._clock.now != self._stands_at or not counts:
            self._stands_at = self._clock.now
            self._spinning_since = None
            if self._left > 0:  # or else the turns are watched
                self._restart()
        steps = max(steps, STEPS_PER_TURN)
        self._steps += steps
        self._left = self._left - steps if counts else self.most_in_all
        if self._left <= 0:
            self._watch(EndlessRun, self._endless())
        elif self._steps >= self._check_at:
            self._check()

    def note_thread_turns(self, turns: int, fail: Fail) -> None:
        """Note that threads took so many turns, or moved the clock, and call ``fail`` if the run has had too many."""
        if self._clock.counts_steps:
            self._left -= turns * STEPS_PER_TURN
            if self._left <= -_WATCHED_TURNS * STEPS_PER_TURN:  # or else turns of the event loop are watched
                running = self._what_ran(self._holders.paused_threads())
                self._left = self.most
                fail(EndlessRun, self._endless(), running)

    def spinning(self, who: str) -> str:
        """Return the problem of a run in which ``who`` runs on and on."""
        return f"{who} run on and on, and no time passes (max_steps={self.most}); sleep, or wait for an event"

    def _endless(self) -> str:
        most = self.most_in_all
        return (
            f"the run has taken {most:_} steps, and has not ended; end what goes on and on, or set a timeout for the "
            f"session; if it needs more steps, write max_total_steps={10 * most:_}"
        )

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
            self._watch(Livelock, self.spinning("tasks"))
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
            self._watch(Livelock, self.spinning("tasks"))
        else:
            self._check_at += self._interval
            self._spinning_since = None

    def _watch(self, kind: type[StuckError], problem: str) -> None:
        """Note what runs in this turn; after some turns, fail."""
        assert self._clock.event_loop is not None
        self._watched_turns += 1
        self._running.update(self._clock.event_loop.running())
        if self._watched_turns == _WATCHED_TURNS:
            self._holders.find_lasting()  # until then a thread may still be about to wait, and its place unknown
            running = self._what_ran(self._holders.blocked_threads())
            if kind is EndlessRun:
                self._left = self.most
            self._fail(kind, problem, running)

    def _what_ran(self, threads: list[str]) -> list[str]:
        """Return what was noted, if it is in user code or there is nothing else, and count the steps anew.

        Args:
            threads: Where threads are in user code that run, too.
        """
        own = [*(place for place, is_own in self._running.items() if is_own), *threads]
        running = own or list(self._running)
        self._restart()
        return running
