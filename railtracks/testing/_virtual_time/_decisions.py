"""What decides in one run: the seed, unless something else takes its place."""

from __future__ import annotations

from collections.abc import Callable

from railtracks.testing._virtual_time._choices import Choices, seeded_choices
from railtracks.testing._virtual_time._scheduler import SIMPLE_SEEDS, Scheduler, scheduler_for
from railtracks.testing._virtual_time._switches import SwitchPlan, drawn_plan


class Decisions:
    """What decides in one run.

    Args:
        seed: The seed of the run.
        schedule: The kind of its scheduler; None to have the seed decide that as well.

    Attributes:
        order: Makes the decisions of the scheduler.
        threads: Decides which worker thread continues.
        turns: Decides how many turns other tasks get before a call.
        faults: Decides which faults with a probability happen.
        switches: Where threads lose their turns.
        scheduler_of_run: The scheduler, once it was made.
        from_seed: Whether the seed decides.
        chances: The texts that the generators of the run are seeded with, by what these are for.
        wall_start: The wall clock when the run begins; None until it does.
        others_can_run: Returns whether any other task than the running one can run; set by the simulation.
    """

    from_seed = True

    def __init__(self, seed: int, schedule: str | None = None) -> None:
        self.seed = seed
        self._schedule = schedule
        self.order: Choices = seeded_choices(seed, "order")
        self.threads: Choices = seeded_choices(seed, "threads")
        self.turns: Choices = seeded_choices(seed, "turns")
        self.faults: Choices = seeded_choices(seed, "faults")
        is_simple = 0 <= seed < SIMPLE_SEEDS
        self.switches: SwitchPlan = SwitchPlan(set()) if is_simple else drawn_plan(seeded_choices(seed, "switches"))
        self.scheduler_of_run: Scheduler | None = None
        self.chances: dict[str, str] = {}
        self.wall_start: float | None = None
        self.others_can_run: Callable[[], bool] = lambda: True

    def chance(self, purpose: str, drawn: str) -> str:
        """Return the text that a generator of the run is seeded with: ``drawn``, unless another one is known."""
        return self.chances.setdefault(purpose, drawn)

    def scheduler(self) -> Scheduler:
        """Make the scheduler of the run, and return it."""
        self.scheduler_of_run = scheduler_for(
            self.seed, self._schedule, self.order, seeded_choices(self.seed, "schedule")
        )
        return self.scheduler_of_run

    def note_turns_left(self, task: object, turns: int) -> None:
        """Note that the running task lets others have so many more turns before its call; with 0, the call begins."""
