"""``explore``: run a small flow in all orders in which its tasks can continue."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from railtracks import Flow
from railtracks._test_probe import counted
from railtracks.testing._arguments import check_function, check_left_out, check_number
from railtracks.testing._exploration import Search
from railtracks.testing._simulation._options import SimulationOptions
from railtracks.testing._simulation._simulate import simulate_with
from railtracks.testing._virtual_time._stuck_errors import EndlessRun
from railtracks.testing.faults import Fault
from railtracks.testing.invariants import Invariant, Violation, as_invariants, check

MAX_RUNS = 10_000
"""How many runs an exploration takes at most, by default."""
MAX_KEPT = 20
"""How many violations are kept, with their outcomes."""


@attrs.frozen(eq=False, repr=False)
class Exploration:
    """The result of :func:`railtracks.testing.explore`. Use ``check`` in a test."""

    runs: int
    """How many runs it took, each with other decisions."""
    orders: int
    """How many different orders there were, by ``Outcome.order``. Runs can differ in steps of Railtracks alone."""
    failed: int
    """How many runs broke an invariant."""
    violations: tuple[Violation, ...]
    """The first of these, twenty at most."""
    why_not: str
    """Why it is not known that all orders were tried; empty if they were."""

    @property
    def is_complete(self) -> bool:
        """Whether all orders were tried: then no order breaks an invariant but those of ``violations``."""
        return not self.why_not

    def check(self) -> None:
        """Raise the first of ``violations``, with the result as a note. Does nothing if there are none.

        It does not require that all orders were tried; for that, write ``assert result.is_complete, result``.
        """
        if self.violations:
            raise self.violations[0]

    def __str__(self) -> str:
        how_many = f"all {counted(self.orders, 'order')}" if self.is_complete else counted(self.orders, "order")
        found = f"{self.failed} of them broke an invariant" if self.failed else "no violation"
        why_not = f"; not all orders: {self.why_not}" if self.why_not else ""
        return f"{how_many}, in {counted(self.runs, 'run')}; {found}{why_not}"

    def __repr__(self) -> str:
        return f"<Exploration: {self}>"


def explore(
    target: Flow[..., Any] | Callable[..., Any],
    /,
    *args: Any,
    invariants: Iterable[Invariant] = (),
    setup: Callable[[], object] | None = None,
    backend: str | None = None,
    max_runs: int = MAX_RUNS,
    **options: Any,
) -> Exploration:
    """Run a small flow in every order in which its tasks can continue, and check each run. Blocks.

    In each turn of the event loop the tasks that can run take a step, in any order, and each call begins at once or up
    to two turns later: that is what the seeds from 0 to 19 choose from. The order in which the threads of sync nodes
    get their turns is tried, too. Nothing is held back for longer, no timer is late, and no thread is interrupted in
    the middle of its work. The runs are the same each time, and begin with tasks in the order of their age::

        result = explore(settle, invariants=[no_money_is_lost])
        result.check()
        assert result.is_complete, result

    Runs that would differ from others in nothing but the numbers of turns are left out. Any two steps of user code may
    share something, so the number of orders grows very fast nevertheless: a ``call_batch`` of two calls that wait once
    takes 24 runs, one of three 300, and one of four 7,000. A run that does not end (``EndlessRun``) takes long, so it
    is the last one.

    Args:
        target: A flow, or anything that ``rt.call`` takes.
        *args: Its arguments.
        invariants: More invariants, for ``check``.
        setup: Called before each run, to reset what the flow changes outside of it.
        backend: "asyncio" or "trio". By default that of the flow, as of ``flow.invoke``.
        max_runs: How many runs it takes at most, in about 5 ms each.
        **options: Other arguments of ``simulate`` except ``seed`` and ``clock``, and those of ``rt.Session``.

    Returns:
        What was tried and found.

    Raises:
        ConfigError: an argument is not allowed.
        Exception: as of ``simulate``, and what ``setup`` raises.
    """
    invariants = as_invariants("explore", invariants)
    _validate(setup, max_runs, options)
    search = Search()
    orders: set[str] = set()
    undetermined: dict[str, None] = {}
    violations: list[Violation] = []
    failed = 0
    is_endless = False
    while search.has_next and search.runs < max_runs and not search.changed and not is_endless:
        if setup is not None:
            setup()
        outcome = simulate_with(search.decisions(), target, args, {**options, "backend": backend})
        orders.add(outcome.order)
        undetermined.update(dict.fromkeys(outcome.undetermined))
        search.advance()
        is_endless = isinstance(outcome.exception, EndlessRun)
        try:
            check(outcome, *invariants)
        except Violation as violation:
            failed += 1
            violations = [*violations, violation][:MAX_KEPT]
    why_not = _why_not(search, max_runs, SimulationOptions.split(options)[0], list(undetermined), is_endless)
    result = Exploration(search.runs, len(orders), failed, tuple(violations), why_not)
    if violations:
        violations[0].add_note(f"the exploration: {result}")
    return result


def _validate(setup: Any, max_runs: Any, options: dict[str, Any]) -> None:
    if setup is not None:
        check_function("explore", "setup", setup, "use a function without arguments")
    check_number("explore", "max_runs", max_runs, 1)
    check_left_out("explore", options, {"seed": "every order is tried", "clock": "each run has its own"})


def _why_not(search: Search, max_runs: int, how: SimulationOptions, undetermined: list[str], is_endless: bool) -> str:
    reasons = []
    if search.changed:
        reasons.append("the same decisions led to another run, so something else decides as well")
    elif search.has_next and is_endless:
        reasons.append("a run did not end (EndlessRun), and others may take as long")
    elif search.has_next:
        reasons.append(f"more than max_runs={max_runs} runs are needed")
    if any(isinstance(fault, Fault) and fault.probability != 1 for fault in how.faults):
        reasons.append("the plan has faults with a probability, of which one way was tried")
    if undetermined:
        reasons.append(f"something else decided as well: {', and '.join(undetermined)}")
    return "; ".join(reasons)
