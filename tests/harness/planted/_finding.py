"""How the harness searches for a planted defect, in each of the ways that the documentation advises."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from railtracks.testing import Outcome, Violation, check, simulate
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._sweep import sweep_subjects
from railtracks.testing._sweep_options import MAX_RUNS
from railtracks.testing._sweeping import Subject
from railtracks.testing.strategies import fault_plans, seeds
from tests.harness.planted._planted import Planted

BUDGET = 100
"""How many examples Hypothesis tries by default before it gives up."""
FIRST_OF_SCHEDULES = 20
"""The seeds below shuffle tasks, and do nothing else."""


@attrs.frozen
class Found:
    """A defect that was found."""

    examples: int
    """How many were tried up to the first that showed it, including that one; of a sweep, all of its runs."""
    outcome: Outcome
    """The run that is left after shrinking."""
    violation: Violation

    @property
    def calls(self) -> int:
        """The number of calls of the shrunk run."""
        return sum(event.what == "created" for event in self.outcome.trace)


@attrs.frozen
class Search:
    """What a search has shown."""

    examples: int
    """How many were tried in all, without those that shrink what was found."""
    found: Found | None


def find(planted: Planted, way: str | None = None, broken: bool = True, budget: int = BUDGET) -> Found | None:
    """Search for the defect as a user's test would, and return None if no example shows it.

    Args:
        planted: The defect.
        way: One of ``WAYS``; by default the first that it should be found by.
        broken: False searches in the twin, where nothing is to be found.
        budget: The number of examples.
    """
    return search(planted, way or planted.ways[0], broken, budget).found


def search(planted: Planted, way: str, broken: bool, budget: int, derandomize: bool = True) -> Search:
    """Search for the defect, or for a false alarm of the twin; with other examples each time if not ``derandomize``."""
    return FINDERS[way](Searching(planted, broken, budget, derandomize))


@attrs.frozen
class Searching:
    """A search, and what it tries."""

    planted: Planted
    broken: bool
    budget: int
    derandomize: bool

    def run_once(self, **plan: Any) -> None:
        """Run the flow once, and once more if the run was killed and can be resumed.

        Raises:
            Violation: a run broke an invariant.
        """
        for _ in self.outcomes(checks=True, **plan):
            pass

    def outcomes(self, checks: bool = False, **plan: Any) -> Iterator[Outcome]:
        """Yield what ``run_once`` runs; if it ``checks``, that is checked first."""
        case = self.planted.make(self.broken)
        arguments = {**self.planted.options, **plan}
        args = arguments.pop("args", case.args)
        invariants = case.invariants
        with case.variant:
            outcome = simulate(case.target, *args, **arguments)
            if case.resumes and isinstance(outcome.exception, ProcessKilled) and outcome.info.records:
                if checks:
                    check(outcome, *invariants)
                yield outcome
                again = {**arguments, "faults": (), "store": outcome.store, "resume": outcome.info.session_id}
                outcome = simulate(case.target, *args, **again)
        if checks:
            check(outcome, *invariants)
        yield outcome

    def plans_with_faults(self) -> st.SearchStrategy[dict[str, Any]]:
        """Return the plans of the defect, with faults at the nodes of the flow if it has none yet."""
        case = self.planted.make(self.broken)
        with case.variant:
            clean = simulate(case.target, *case.args, **self.planted.options)
        usual = fault_plans(case.nodes, exceptions=self.planted.exceptions, kill=case.resumes, like=clean)

        def with_faults(plan: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
            return st.just(plan) if "faults" in plan else usual.map(lambda faults: {**plan, "faults": faults})

        return self.planted.plans.flatmap(with_faults)

    def drawn(self, plans: st.SearchStrategy[dict[str, Any]], seeds: st.SearchStrategy[int]) -> Search:
        """Let Hypothesis draw examples."""
        tried, first = 0, 0

        @settings(
            max_examples=self.budget, deadline=None, database=None, derandomize=self.derandomize,
            phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )  # fmt: skip
        @given(plans, seeds, st.sampled_from(self.planted.backends))
        def run_one(plan: dict[str, Any], seed: int, backend: str) -> None:
            nonlocal tried, first
            tried += 1
            try:
                self.run_once(seed=seed, backend=backend, **plan)
            except Violation:
                first = first or tried
                raise

        try:
            run_one()
        except Violation as exc:
            return Search(first, Found(first, exc.outcome, exc))
        return Search(tried, None)


def _by_seeds(searching: Searching) -> Search:
    """Draw arguments, seeds and backends."""
    return searching.drawn(searching.planted.plans, seeds())


def _by_faults(searching: Searching) -> Search:
    """Draw faults as well."""
    return searching.drawn(searching.plans_with_faults(), seeds())


def _by_schedules(searching: Searching) -> Search:
    """Draw only such seeds that may hold tasks back, and let timers be late."""
    return searching.drawn(searching.planted.plans, st.integers(FIRST_OF_SCHEDULES, 2**16 - 1))


def _by_sweep(searching: Searching) -> Search:
    """Sweep once. The budget is that of the sweep itself, unless it is smaller than that of a test."""
    planted = searching.planted

    def make() -> Subject:
        case = planted.make(searching.broken)
        return Subject(case.target, case.args, case.invariants)

    case = planted.make(searching.broken)
    max_runs = MAX_RUNS if searching.budget >= BUDGET else searching.budget
    try:
        result = sweep_subjects(
            make, nodes=case.nodes, exceptions=planted.exceptions, raises=planted.raises, kills=case.resumes,
            max_runs=max_runs,
            seed=0 if searching.derandomize else random.randrange(2**16), backend=planted.backends[0],
            **planted.options,
        )  # fmt: skip
    except Violation as exc:  # of the run in which nothing goes wrong
        return Search(1, Found(1, exc.outcome, exc))
    for violation in result.violations[:1]:
        return Search(result.runs, Found(result.runs, violation.outcome, violation))
    return Search(result.runs, None)


FINDERS: dict[str, Callable[[Searching], Search]] = {
    "seeds": _by_seeds,
    "faults": _by_faults,
    "sweep": _by_sweep,
    "schedules": _by_schedules,
}
