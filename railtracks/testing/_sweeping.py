"""The runs of a sweep, one after the other, and what they have found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from railtracks._test_probe import counted, resolve_store
from railtracks.state import MemoryStore
from railtracks.testing._simulation import _sweep_plans as plans
from railtracks.testing._simulation._injection import FaultyStore, ProcessKilled
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._questions import InvariantError
from railtracks.testing._simulation._restarts import simulate_restarts
from railtracks.testing._simulation._simulate import simulate
from railtracks.testing._simulation._sweep_plans import Plan
from railtracks.testing._virtual_time._stuck_errors import EndlessRun
from railtracks.testing.faults import Fault
from railtracks.testing.invariants import Invariant, Violation, check


@attrs.frozen
class Subject:
    """What one run of a sweep runs and asserts. A new one is made for each, so that nothing is left of the last."""

    target: Any
    args: tuple[Any, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    restart: Callable[[], object] | None = None
    """Called before a run that was killed is resumed."""


@attrs.frozen(eq=False, repr=False)
class Sweep:
    """The result of :func:`railtracks.testing.sweep`; ``str(result)`` is a table of what was tried.

    Use ``check`` in a test. Nothing that was found is raised before.
    """

    clean: Outcome
    """The run in which nothing went wrong."""
    runs: int
    """How many runs it took. A run that is killed, and each that resumes it, count."""
    violations: tuple[Violation, ...]
    """What was found, the simplest first: that with the fewest faults, and of these the one with the shortest story."""
    tried: dict[str, int]
    """How many plans were tried, by their kinds."""
    failed: dict[str, int]
    """How many of them broke an invariant, by their kinds."""
    left_out: str
    """What was not tried, and why; empty if everything was."""

    def check(self) -> None:
        """Raise the first of ``violations``, with the table as a note. Does nothing if there are none."""
        if self.violations:
            raise self.violations[0]

    def __repr__(self) -> str:
        return f"<Sweep: {counted(self.runs, 'run')}, {counted(len(self.violations), 'violation')}>"

    def __str__(self) -> str:
        width = max(map(len, self.tried), default=0)
        rows = [f"  {kind:<{width}}  {count:>5}  {self.failed.get(kind, 0):>10}" for kind, count in self.tried.items()]
        lines = [
            f"{counted(self.runs, 'run')}, {counted(len(self.violations), 'violation')}",
            f"  {'':<{width}}  plans  violations", *rows, f"left out: {self.left_out or 'nothing'}",
        ]  # fmt: skip
        return "\n".join(lines)


class Sweeping:
    """The state of one sweep.

    Args:
        make: Makes what one run runs and asserts.
        options: The arguments of ``simulate`` for all runs, with a ``seed``.
        max_runs: How many runs it takes at most.

    Attributes:
        clean: The run in which nothing went wrong.
        writes: How often each operation of the store wrote in it.
        left_out: What is not tried, and why.
    """

    def __init__(self, make: Callable[[], Subject], options: dict[str, Any], max_runs: int) -> None:
        self._make, self._options, self._max_runs = make, options, max_runs
        self._runs = 0
        self._has_endless_run = False  # and others may take as long
        self._tried: Counter[str] = Counter()
        self._found: list[tuple[Plan, Violation]] = []
        self._new: list[tuple[Plan, list[plans.Place]]] = []  # the calls that were made because of a fault
        self._usual: set[plans.Place] = set()  # the calls that are made when nothing goes wrong
        self.clean: Outcome
        self.writes: Counter[str] = Counter()
        self.left_out: list[str] = []

    def run_clean(self, raises: tuple[type[BaseException], ...]) -> None:
        """Run it with nothing going wrong, and count what it writes.

        Raises:
            Violation: it broke an invariant, or did not raise what ``raises`` names, if that is given.
        """
        subject = self._make()
        given = self._options.get("store")
        store = MemoryStore() if given is None else resolve_store(given)
        counting = FaultyStore(store)
        outcome = simulate(subject.target, *subject.args, **{**self._options, "store": counting})
        options = {name: value for name, value in outcome.options.items() if name != "store" or given is not None}
        self.clean = attrs.evolve(outcome, options=options, store=store)
        self._runs += 1
        expected = [_ends_as_expected(raises)] if raises else []
        check(self.clean, *expected, *subject.invariants)
        self._usual = set(plans.places_of(self.clean))
        self.writes = counting.writes

    @property
    def has_journal(self) -> bool:
        """Whether what was run can be killed and resumed."""
        config = self.clean.config
        return config is not None and config.save_state and config.durability != "exit" and self.writes["append"] > 0

    def run_plans(self, chosen: list[Plan], keep: int = 0, in_order: bool = False) -> None:
        """Run the plans, or as many of each kind as the budget allows.

        Args:
            chosen: The plans.
            keep: How many runs to keep for others.
            in_order: Whether to run the first ones of each kind if not all can be; otherwise they are spread evenly.
        """
        kinds: dict[str, list[Plan]] = {}
        for plan in chosen:
            kinds.setdefault(plan.kind, []).append(plan)
        costs = {kind: sum(plan.cost for plan in each) for kind, each in kinds.items()}
        budget = plans.shares(costs, max(0, self._max_runs - self._runs - keep))
        for kind, each in kinds.items():
            until = self._runs + budget[kind]
            ordered = each if in_order or costs[kind] <= budget[kind] else plans.spread(each)
            for place, plan in enumerate(ordered):
                if self._has_endless_run or self._runs + plan.cost > until:
                    left = len(ordered) - place
                    why = "a run did not end" if self._has_endless_run else f"max_runs={self._max_runs}"
                    self.left_out.append(f"{kind}: {left} of {len(ordered)} ({why})")
                    break
                self._run(plan)

    def _run(self, plan: Plan) -> None:
        subject = self._make()
        self._tried[plan.kind] += 1
        outcomes = simulate_restarts(
            subject.target, *subject.args, kills=plan.kills, faults=plan.faults,
            **{**self._options, "seed": self._options["seed"] + plan.seed},
        )  # fmt: skip
        first: Outcome | None = None
        has_restarted = False
        try:
            for outcome in outcomes:  # each is checked before it is resumed
                self._runs += 1
                first = first or outcome
                self._has_endless_run |= isinstance(outcome.exception, EndlessRun)
                check(outcome, *subject.invariants)
                if subject.restart is not None and isinstance(outcome.exception, ProcessKilled):
                    subject.restart()
                    has_restarted = True
        except Violation as violation:
            if has_restarted:
                violation.add_note("to repeat it, call the function passed as restart= before each resumed run, too")
            self._found.append((plan, violation))
        except Exception as exc:
            exc.add_note(f"in a run of sweep with {plan}")
            raise
        if first is not None and any(isinstance(fault, Fault) for fault in plan.faults):
            self._new.append((plan, [place for place in plans.places_of(first) if place not in self._usual]))

    def faults_after(self, names: Sequence[str], actions: plans.Actions) -> list[Plan]:
        """Return the plans in which a call fails as well that was made because of another fault."""
        found = []
        for plan, new in self._new:
            wanted = [place for place in new if not names or place[0] in names]
            found += plans.faults_after(plan, wanted, actions)
        return plans.spread(found)

    def faults_again(self) -> list[Plan]:
        """Return the plans in which each call of a node goes wrong, for the nodes that are then called more often."""
        known = {name for name, call in self._usual if call > 1}  # each call of these has failed before
        found = {repr(again): again for plan, new in self._new for again in plans.again(plan, new)}
        return [again for again in found.values() if getattr(again.faults[0], "node", None) not in known]

    def result(self) -> Sweep:
        """Return what was found."""
        self._found.sort(key=lambda each: (len(each[0].faults) + len(each[0].kills), _length(each[1].outcome)))
        violations = tuple(violation for _, violation in self._found)
        failed = Counter(plan.kind for plan, _ in self._found)
        result = Sweep(self.clean, self._runs, violations, dict(self._tried), dict(failed), "; ".join(self.left_out))
        if violations:
            violations[0].add_note(f"the sweep: {result}")
        return result


def _ends_as_expected(raises: tuple[type[BaseException], ...]) -> Invariant:
    """Return an invariant of the run in which nothing goes wrong: it raises one of these."""
    expected = " or ".join(kind.__name__ for kind in raises)

    def it_ends_as_expected_when_nothing_goes_wrong(outcome: Outcome) -> None:
        if outcome.exception is None:
            raise AssertionError(f"it {outcome.end}, and raises={expected} is given; leave that out if it may return")
        if not isinstance(outcome.exception, raises):
            text = f"it {outcome.end}; raises={expected} is given"
            raise InvariantError(text, (outcome.info.session_id, 0)) from outcome.exception

    return it_ends_as_expected_when_nothing_goes_wrong


def _length(outcome: Outcome | None) -> int:
    """Return how many events there were in a run, and in those before it that it resumed."""
    return 0 if outcome is None else len(outcome.trace) + _length(outcome.before)
