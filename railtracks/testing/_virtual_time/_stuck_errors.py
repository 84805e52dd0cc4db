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
    """

    def __init__(self, problem: str, waiting: list[str]) -> None:
        super().__init__("\n  waiting: ".join([problem, *waiting]))
        self.problem = problem
        self.waiting = waiting


class Deadlock(StuckError):
    """Nothing can run, there is no deadline, and nothing outside is under way: the run would hang for ever."""


class Livelock(StuckError):
    """Tasks run and run, and no virtual time passes, so that no deadline is ever due: the run would never end.

    Attributes:
        running: Where in user code the tasks, callbacks and threads are that ran last.
    """

    def __init__(self, problem: str, waiting: list[str], running: list[str]) -> None:
        more = [f"and {counted(len(running) - MAX_PLACES, 'more place')}"] if len(running) > MAX_PLACES else []
        super().__init__("\n  running: ".join([problem, *running[:MAX_PLACES], *more]), waiting)
        self.problem = problem
        self.running = running


class ClockHeldError(StuckError):
    """The clock was held for too long, because something outside the event loop was under way."""
