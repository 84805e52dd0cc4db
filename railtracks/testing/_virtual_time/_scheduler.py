"""In which order the tasks of a run continue that can continue at the same time, and which of them are held back.

A scheduler is asked by the event loop in each of its turns. There are three kinds, and the seed decides which a run
has:

- "shuffled": all tasks that can run take a step, in a random order. No task is more than a turn ahead of another.
- "priorities": each task has a random priority, and only the first of those that can run takes a step. At a few random
  steps the first becomes the last. So a task is held back for many turns, as if its answer came late. This is PCT:
  Burckhardt et al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010.
- "late timers": as "shuffled", and a few sleeps of some tasks of user code last longer than they say, as if a server
  took longer.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._order_log import OrderLog

SIMPLE_SEEDS = 20
"""The seeds from 0 up to this one only shuffle, so that the stories of small seeds are simple."""
FROM_THREAD = "from a thread"
"""The name of a callback that another thread handed over."""
MAX_HELD = 50
"""The turns for which a task can be held back; then it becomes the first, as others may wait for it without a pause."""
_PRIORITIES = 1 << 16
_LENGTHS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 256)
"""How many decisions a run may take; that is not known beforehand, and most tests have short flows."""
_LATENESS = (1.25, 1.25, 0.75)
"""By how much of its own length a sleep lasts longer: mostly, another one of this length can follow meanwhile."""
_SLOW_TASKS = (1, 1, 2, 3)
"""How many tasks have late sleeps. If all have, none falls behind the others."""


class Step(NamedTuple):
    """A step that a task can take now."""

    age: int
    """The age of the task."""
    coroutine: Any
    """Its coroutine."""
    handle: Any
    """What the event loop needs to run it."""
    can_wait: bool = True
    """Whether it can be held back."""


class Callback(NamedTuple):
    """A callback that is scheduled and is not the step of a task."""

    name: str
    """The name of its function."""
    age: int = -1
    """If it is the callback of a task that has ended: the age of the task."""


class Scheduler:
    """The scheduler of one run that shuffles the tasks.

    Args:
        choices: Makes its decisions.

    Attributes:
        kind: What it does, in words.
        log: The steps that the tasks have taken.
        arranged: What it has arranged: the ages of the tasks in their order, and how many of these took a step.
        latenesses: By how many seconds sleeps were to last longer, of each sleep that was considered.
        holds: Whether it may hold steps back.
        delays_timers: Whether it may delay timers.
        observes: Whether it wants to know what is in the queue of the event loop, by the two methods below.
    """

    kind = "shuffled"
    holds = False
    delays_timers = False
    observes = False

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.log: OrderLog = OrderLog()
        self.arranged: list[tuple[tuple[int, ...], int]] = []
        self.latenesses: list[float] = []

    def arrange(self, steps: list[Step]) -> int:
        """Put the steps, which are sorted by age, into the order in which they are to be taken.

        Args:
            steps: At least two steps.

        Returns:
            How many of them to take now; the others can be taken in the next turn.
        """
        taken = self._arrange(steps)
        self.arranged.append((tuple([step.age for step in steps]), taken))
        return taken

    def _arrange(self, steps: list[Step]) -> int:
        self.choices.shuffle(steps)
        return len(steps)

    def lateness(self, age: int, duration: float, slack: float) -> float:
        """Return by how many seconds a sleep is to last longer.

        Args:
            age: The age of its task.
            duration: How many seconds it was to last.
            slack: How many seconds there are from its end to the next deadline of any other kind.
        """
        lateness = self._lateness(age, duration, slack)
        self.latenesses.append(lateness)
        return lateness

    def _lateness(self, age: int, duration: float, slack: float) -> float:
        return 0.0

    def settle(self) -> None:
        """Hold and delay nothing any more, because the flow has ended."""

    def begin_turn(self, queue: list[Step | Callback]) -> Container[int]:
        """Note what runs in the turn that begins, before its steps are arranged.

        Returns:
            The places of callbacks that steps may pass, as nothing can be seen of that.
        """
        return ()

    def note_due(self) -> None:
        """Note that callbacks of timers or sockets run now: at the end of the turn on asyncio, before it on trio."""


class PriorityScheduler(Scheduler):
    """A scheduler with priorities."""

    kind = "priorities"
    holds = True

    def __init__(self, choices: Choices) -> None:
        super().__init__(choices)
        steps = _LENGTHS[choices.choose(len(_LENGTHS))]
        self._changes = {choices.choose(steps) for _ in range(1 + choices.choose(3))}
        self._decisions = 0
        self._priorities: dict[int, int] = {}  # by the age of the task
        self._lowest, self._highest = 0, _PRIORITIES
        self._held: dict[int, int] = {}  # for how many turns each task has been held back

    def _arrange(self, steps: list[Step]) -> int:
        for step in steps:
            if step.age not in self._priorities:
                self._priorities[step.age] = self.choices.choose(_PRIORITIES)
        steps.sort(key=self._rank)
        if not self.holds or not any(step.can_wait for step in steps):
            return len(steps)
        if self._decisions in self._changes:
            self._lowest -= 1
            self._priorities[steps[0].age] = self._lowest
            steps.append(steps.pop(0))
        self._decisions += 1
        taken, held = steps[:1], steps[:0]
        for step in steps[1:]:
            (held if step.can_wait else taken).append(step)
        steps[:] = taken + held
        self._note(taken, held)
        return len(taken)

    def _note(self, taken: list[Step], held: list[Step]) -> None:
        """Note for how many turns each task has been held back, and prefer those that have waited too long."""
        for step in taken:
            self._held.pop(step.age, None)
        for step in held:
            self._held[step.age] = self._held.get(step.age, 0) + 1
            if self._held[step.age] == MAX_HELD:
                self._highest += 1
                self._priorities[step.age] = self._highest

    def _rank(self, step: Step) -> tuple[int, int]:
        return -self._priorities[step.age], step.age

    def settle(self) -> None:
        self.holds = False


class LateScheduler(Scheduler):
    """A scheduler that delays timers: of some tasks, and of these a few."""

    kind = "late timers"
    delays_timers = True

    def __init__(self, choices: Choices) -> None:
        super().__init__(choices)
        self._left = 1 + choices.choose(3)
        self._slow_left = _SLOW_TASKS[choices.choose(len(_SLOW_TASKS))]
        self._slow: dict[int, bool] = {}  # by the age of the task

    def _lateness(self, age: int, duration: float, slack: float) -> float:
        if age not in self._slow:
            self._slow[age] = self._slow_left > 0 and self.choices.choose(2) == 0
            self._slow_left -= self._slow[age]
        if not self._slow[age]:
            return 0.0
        factor = _LATENESS[self.choices.choose(len(_LATENESS))]
        self._left -= 1
        self.delays_timers = self._left > 0
        return max(0.0, min(duration * factor, slack / 2))

    def settle(self) -> None:
        self.delays_timers = False


SCHEDULERS = {each.kind: each for each in (Scheduler, PriorityScheduler, LateScheduler)}
"""The kinds of schedulers, by their names."""


def scheduler_for(seed: int, schedule: str | None, choices: Choices, kinds: Choices) -> Scheduler:
    """Return the scheduler of a run.

    Args:
        seed: The seed of the run.
        schedule: The kind; None to have the seed decide.
        choices: Makes the decisions of the scheduler.
        kinds: Decides which kind it is, unless the seed is one of the simple ones.
    """
    if schedule is not None:
        return SCHEDULERS[schedule](choices)
    if 0 <= seed < SIMPLE_SEEDS:
        return Scheduler(choices)
    kind = kinds.choose(10)
    if kind < 5:
        return PriorityScheduler(choices)
    return LateScheduler(choices) if kind < 9 else Scheduler(choices)
