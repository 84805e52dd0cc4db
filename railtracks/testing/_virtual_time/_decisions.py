"""What decides in one run: the seed, unless something else takes its place."""

from __future__ import annotations

from collections.abc import Callable

from railtracks.testing._virtual_time._choices import seeded_choices
from railtracks.testing._virtual_time._scheduler import Scheduler, scheduler_for


class Decisions:
    """What decides in one run.

    Args:
        seed: The seed of the run.

    Attributes:
        order: Makes the decisions of the scheduler.
        threads: Decides which worker thread continues.
        turns: Decides how many turns other tasks get before a call.
        faults: Decides which faults with a probability happen.
        scheduler_of_run: The scheduler, once it was made.
        from_seed: Whether the seed decides.
        others_can_run: Returns whether any other task than the running one can run; set by the simulation.
    """

    from_seed = True

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.order = seeded_choices(seed, "order")
        self.threads = seeded_choices(seed, "threads")
        self.turns = seeded_choices(seed, "turns")
        self.faults = seeded_choices(seed, "faults")
        self.scheduler_of_run: Scheduler | None = None
        self.others_can_run: Callable[[], bool] = lambda: True

    def scheduler(self) -> Scheduler:
        """Make the scheduler of the run, and return it."""
        self.scheduler_of_run = scheduler_for(self.seed, self.order, seeded_choices(self.seed, "schedule"))
        return self.scheduler_of_run
