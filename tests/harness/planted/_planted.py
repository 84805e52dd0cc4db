"""What a planted defect is, and how it is looked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from railtracks.testing import Outcome, Violation, check, simulate
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing.strategies import backends, seeds

BUDGET = 100
"""Hypothesis's default: how many examples it tries before it gives up looking."""


@attrs.frozen
class Case:
    """One run's flow, made anew for each example, so that what it counts begins at zero."""

    target: Any
    invariants: tuple[Callable[[Outcome], None], ...] = ()
    """What must be true beyond the promise."""
    variant: AbstractContextManager[Any] = attrs.field(factory=nullcontext)
    """Entered around the run: puts a changed runtime in place, and takes it away."""
    resumes: bool = False
    """A run that was killed is resumed, and what came of that is looked at."""


@attrs.frozen
class Planted:
    """A defect and its corrected twin.

    ``make(True)`` gives the defect, ``make(False)`` the twin; ``plans`` draws the keyword arguments of ``simulate``,
    and those of the flow under ``"args"``. Seed and backend are drawn beside them.
    """

    name: str
    defect: str
    make: Callable[[bool], Case]
    plans: st.SearchStrategy[dict[str, Any]] = attrs.field(factory=lambda: st.just({}))

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Found:
    """A defect that was found."""

    examples: int
    """How many were tried until the first that showed it, that one included."""
    outcome: Outcome
    """The run that is left after shrinking."""
    violation: Violation

    @property
    def calls(self) -> int:
        """How many calls the shrunk run made."""
        return sum(event.what == "created" for event in self.outcome.trace)


def drawn(*args: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Plans: the arguments of the flow, and of ``simulate``."""
    return st.fixed_dictionaries({"args": st.tuples(*args), **options})


def find(planted: Planted, broken: bool = True, budget: int = BUDGET) -> Found | None:
    """Look for the defect as a user's test would; None if no example shows it."""
    tried, first = 0, 0
    latest: Violation | None = None

    @settings(
        max_examples=budget, deadline=None, database=None, derandomize=True,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )  # fmt: skip
    @given(planted.plans, seeds(), backends())
    def look(plan: dict[str, Any], seed: int, backend: str) -> None:
        nonlocal tried, first, latest
        tried += 1
        case = planted.make(broken)
        arguments = dict(plan)
        args = arguments.pop("args", ())
        with case.variant:
            outcome = simulate(case.target, *args, seed=seed, backend=backend, **arguments)
            if case.resumes and isinstance(outcome.exception, ProcessKilled) and outcome.info.records:
                again = {**arguments, "faults": (), "store": outcome.store, "resume": outcome.info.session_id}
                outcome = simulate(case.target, *args, seed=seed, backend=backend, **again)
        try:
            check(outcome, *case.invariants)
        except Violation as exc:
            first = first or tried
            latest = exc
            raise

    try:
        look()
    except Violation as exc:
        assert latest is not None
        return Found(first, exc.outcome, exc)
    return None
