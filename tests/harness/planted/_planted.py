"""What a planted defect is, and how the harness searches for it."""

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
"""How many examples Hypothesis tries by default before it gives up."""


@attrs.frozen
class Case:
    """The flow of one run. A new one is made for each example, so that its counters begin at zero."""

    target: Any
    invariants: tuple[Callable[[Outcome], None], ...] = ()
    """What must be true beyond the promise."""
    variant: AbstractContextManager[Any] = attrs.field(factory=nullcontext)
    """Entered around the run: replaces parts of the runtime, and restores them."""
    resumes: bool = False
    """Whether a run that was killed is resumed, and the outcome of that is checked."""


@attrs.frozen
class Planted:
    """A defect and its corrected twin.

    ``make(True)`` makes the defect, ``make(False)`` the twin. ``plans`` draws the keyword arguments of ``simulate``,
    and under ``"args"`` the arguments of the flow. Seed and backend are drawn as well.
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
    """How many were tried up to the first that showed it, including that one."""
    outcome: Outcome
    """The run that is left after shrinking."""
    violation: Violation

    @property
    def calls(self) -> int:
        """The number of calls of the shrunk run."""
        return sum(event.what == "created" for event in self.outcome.trace)


def drawn(*args: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for plans: the arguments of the flow, and of ``simulate``."""
    return st.fixed_dictionaries({"args": st.tuples(*args), **options})


def find(planted: Planted, broken: bool = True, budget: int = BUDGET) -> Found | None:
    """Search for the defect as a user's test would, and return None if no example shows it."""
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
