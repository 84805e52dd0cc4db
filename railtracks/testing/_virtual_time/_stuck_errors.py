"""The errors that a run under virtual time ends with when it cannot go on."""

from __future__ import annotations

from railtracks._test_probe import counted
from railtracks.exceptions import RTError

MAX_PLACES = 10
"""How many places are listed at most."""


class StuckError(RTError):
    """A run under virtual time cannot go on.

    Attributes:
        problem: What happened, and when.
        waiting: Where in user code each task waits.
        running: Where in user code the tasks, callbacks and threads are that ran last; empty if none could run.
    """

    def __init__(self, problem: str, waiting: list[str], running: list[str] | None = None) -> None:
        running = running or []
        more = [f"and {counted(len(running) - MAX_PLACES, 'more place')}"] if len(running) > MAX_PLACES else []
        lines = [f"running: {place}" for place in (*running[:MAX_PLACES], *more)]
        lines += [f"waiting: {place}" for place in waiting]
        super().__init__("\n  ".join([problem, *lines]))
        self.problem = problem
        self.waiting = waiting
        self.running = running


class Deadlock(StuckError):
    """Nothing can run, there is no deadline, and nothing outside is under way: the run would hang for ever."""


class Livelock(StuckError):
    """Tasks run and run, and no virtual time passes, so that no deadline is ever due: the run would never end."""


class EndlessRun(StuckError):
    """Tasks run and virtual time passes, and after very many steps the run has still not ended: it seems endless."""


class ClockHeldError(StuckError):
    """The clock was held for too long, because something outside the event loop was under way."""


NEVER_ENDS = (Deadlock, Livelock, EndlessRun)
"""What a run ends with that would never have ended by itself."""
