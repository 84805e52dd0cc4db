"""``replay``: run a flow by the decisions of an earlier run, which are in a file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import attrs

from railtracks import Flow
from railtracks._test_probe import counted
from railtracks.exceptions import ConfigError
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._replay_file import read_replay
from railtracks.testing._simulation._simulate import simulate_with
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._scheduler import Scheduler, Step
from railtracks.testing._virtual_time._switches import SwitchPlan


def replay(
    path: str | os.PathLike[str], target: Flow[..., Any] | Callable[..., Any], /, *args: Any, **session_options: Any
) -> Outcome:
    """Run a flow by the decisions that ``outcome.save_replay(path)`` wrote to a file. Blocks.

    The order of tasks and threads, where threads are interrupted, late timers, and which faults happen come from the
    file, and not from a seed: so the run is the same with another version of Railtracks, which would draw another order
    from the seed. The faults, the backend, the date, what ``random`` and jitter are seeded with, and the other options
    of ``simulate`` come from the file as well. If the run has resumed others, as by ``resume``, these are in the file,
    too, and are repeated before it. If the code has changed so that the decisions do not fit, it warns once; from there
    on, tasks run in the order of their age, nothing is late, and no fault happens by chance.

    Args:
        path: The file.
        target: The flow or node, as for ``simulate``.
        *args: Its arguments. The file has only their reprs.
        **session_options: Arguments of ``rt.Session``, as they were.

    Returns:
        What happened. Its ``before`` is the run that it has resumed.

    Raises:
        ConfigError: the file is not a replay file, it is of a run that has resumed one which is not in the file, or an
            argument is not allowed.
        OSError: the file cannot be read.
        Exception: as of ``simulate``.
    """
    runs, needs = read_replay(path)
    if missing := [name for name in needs if name not in session_options]:
        wanted = ", ".join(f"{name}=..." for name in missing)
        raise ConfigError(
            f"{os.fspath(path)} is of a run that resumed another one, which is not in it; pass {wanted}, or save an "
            f"outcome of resume(outcome)"
        )
    misfit, outcome = "", None
    for number, run in enumerate(runs, 1):
        decisions = _Replayed(run)
        options = {**run["options"], "faults": run["faults"], **session_options}
        if outcome is not None:
            options |= {"store": outcome.store, "resume": outcome.info.session_id}
        if (given := [stable_repr(each) for each in args]) != run["args"]:
            decisions.note_misfit(f"the arguments were ({', '.join(run['args'])}), and are ({', '.join(given)})")
        outcome = attrs.evolve(simulate_with(decisions, target, args, options), before=outcome)
        decisions.note_what_is_left()
        of = f"run {number} of {len(runs)}" if len(runs) > 1 else "the run"
        misfit = misfit or (decisions.misfit and f"{of}: {decisions.misfit}")
    assert outcome is not None
    if misfit:
        warnings.warn(f"{os.fspath(path)} does not fit {misfit}", stacklevel=2)
    return outcome


class _Replayed(Decisions):
    """The decisions of a replay file.

    Attributes:
        misfit: The first thing that did not fit; empty if everything did.
    """

    from_seed = False

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["options"]["seed"])
        self.chances.update(document["random"])
        self.wall_start = document["wall_start"]
        self.misfit = ""
        self._document = document
        self._left = {name: list(reversed(document[name])) for name in ("order", "threads", "turns", "chances")}
        self._left["lateness"] = [str(each) for each in reversed(document["lateness"])]
        self.threads = Choices(lambda count: self._number("threads", count, count - 1))
        self.switches = SwitchPlan({*document["switches"]})
        self.turns = Choices(lambda count: self._number("turns", count, 0))
        self.faults = Choices(lambda count: self._number("chances", count, 0))

    def scheduler(self) -> Scheduler:
        self.scheduler_of_run = scheduler = _ReplayedScheduler(self)
        scheduler.kind = self._document["schedule"]
        scheduler.holds = scheduler.kind == "priorities"
        scheduler.delays_timers = self.has_more("lateness")
        return scheduler

    def note_misfit(self, text: str) -> None:
        """Note that something does not fit."""
        self.misfit = self.misfit or text

    def note_what_is_left(self) -> None:
        """Note, after the run, if there were more decisions in the file than were needed."""
        unused = self.switches.places.difference(self.switches.made)
        for name, left in {**self._left, "switches": [*unused]}.items():
            if left:
                self.note_misfit(
                    f"the file has {counted(len(left), 'decision')} about {name} that the run did not need"
                )

    def has_more(self, name: str) -> bool:
        """Return whether there are decisions of this kind left."""
        return bool(self._left[name])

    def next(self, name: str) -> str | None:
        """Return the next decision of this kind; None if there is none, or others did not fit."""
        if self.misfit:
            self._left[name].clear()
        if not self._left[name]:
            self.note_misfit(f"the run needed more decisions about {name} than the file has")
            return None
        text: str = self._left[name].pop()
        return text

    def _number(self, name: str, count: int, default: int) -> int:
        text = self.next(name)
        if text is None:
            return default
        chosen, _, expected = text.partition("/")
        if int(chosen) >= count or (expected and int(expected) != count):
            self.note_misfit(f"a decision about {name} has {count} possibilities, and was {text}")
            return default
        return int(chosen)


class _ReplayedScheduler(Scheduler):
    """A scheduler that arranges steps, and delays timers, as the file says."""

    def __init__(self, decisions: _Replayed) -> None:
        super().__init__(decisions.order)
        self._decisions = decisions

    def _arrange(self, steps: list[Step]) -> int:
        text = self._decisions.next("order")
        if text is None:
            return len(steps)
        taken, _, count = text.partition("/")
        places = [int(place) for place in taken.split(",")]
        if sorted({*places}) != sorted(places) or max(places) >= len(steps) or int(count or len(places)) != len(steps):
            self._decisions.note_misfit(f"{len(steps)} tasks can run at one time, and the file has {text}")
            return len(steps)
        steps[:] = [steps[place] for place in (*places, *(each for each in range(len(steps)) if each not in places))]
        return len(places)

    def _lateness(self, age: int, duration: float, slack: float) -> float:
        text = self._decisions.next("lateness")
        self.delays_timers = self._decisions.has_more("lateness")
        return 0.0 if text is None else min(float(text), max(0.0, slack / 2))

    def settle(self) -> None:
        self.holds = self.delays_timers = False
