"""How the harness searches for a planted defect, in each of the ways that the documentation advises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from railtracks.testing import Outcome, Violation, check, simulate
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing.strategies import seeds
from tests.harness.planted._planted import Planted

BUDGET = 100
"""How many examples Hypothesis tries by default before it gives up."""
FIRST_OF_SCHEDULES = 20
"""The seeds below shuffle tasks, and do nothing else."""


@attrs.frozen
class Found:
    """A defect that was found."""

    examples: int
    """How many were tried up to the first that showed it, including that one."""
    outcome: Outcome
    """The run that is left after shrinking."""
    violation: Violation

    @property
    def calls(self) -> int:
        """The number of calls of the shrunk run."""
        return sum(event.what == "created" for event in self.outcome.trace)


def find(planted: Planted, way: str | None = None, broken: bool = True, budget: int = BUDGET) -> Found | None:
    """Search for the defect as a user's test would, and return None if no example shows it.

    Args:
        planted: The defect.
        way: One of ``WAYS``; by default the first that it should be found by.
        broken: False searches in the twin, where nothing is to be found.
        budget: The number of examples.
    """
    return FINDERS[way or planted.ways[0]](planted, broken, budget)


def run_once(planted: Planted, broken: bool, **plan: Any) -> None:
    """Run the flow once, and once more if the run was killed and can be resumed.

    Raises:
        Violation: a run broke an invariant.
    """
    case = planted.make(broken)
    arguments = {**planted.options, **plan}
    args = arguments.pop("args", case.args)
    with case.variant:
        outcome = simulate(case.target, *args, **arguments)
        if case.resumes and isinstance(outcome.exception, ProcessKilled) and outcome.info.records:
            check(outcome, *case.invariants)
            again = {**arguments, "faults": (), "store": outcome.store, "resume": outcome.info.session_id}
            outcome = simulate(case.target, *args, **again)
    check(outcome, *case.invariants)


def _drawn(
    planted: Planted, broken: bool, budget: int, plans: st.SearchStrategy[dict[str, Any]], seeds: st.SearchStrategy[int]
) -> Found | None:
    """Let Hypothesis draw examples."""
    tried, first = 0, 0

    @settings(
        max_examples=budget, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )  # fmt: skip
    @given(plans, seeds, st.sampled_from(planted.backends))
    def search(plan: dict[str, Any], seed: int, backend: str) -> None:
        nonlocal tried, first
        tried += 1
        try:
            run_once(planted, broken, seed=seed, backend=backend, **plan)
        except Violation:
            first = first or tried
            raise

    try:
        search()
    except Violation as exc:
        return Found(first, exc.outcome, exc)
    return None


def _by_seeds(planted: Planted, broken: bool, budget: int) -> Found | None:
    """Draw arguments, seeds and backends."""
    return _drawn(planted, broken, budget, planted.plans, seeds())


def _by_faults(planted: Planted, broken: bool, budget: int) -> Found | None:
    """Draw faults as well."""
    return _drawn(planted, broken, budget, planted.plans_with_faults(), seeds())


def _by_schedules(planted: Planted, broken: bool, budget: int) -> Found | None:
    """Draw only such seeds that may hold tasks back, and let timers be late."""
    return _drawn(planted, broken, budget, planted.plans, st.integers(FIRST_OF_SCHEDULES, 2**16 - 1))


FINDERS: dict[str, Callable[[Planted, bool, int], Found | None]] = {
    "seeds": _by_seeds,
    "faults": _by_faults,
    "schedules": _by_schedules,
}
