"""How many orders of tasks each test has tried, for the summary of a test run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from railtracks._test_hooks import outcome_observer
from railtracks._test_probe import counted

MANY = 20
"""So many seeds that all gave one order are worth a hint."""
SHOWN = 10
"""How many hints are shown."""
ATTRIBUTE = "railtracks_orders"
"""The attribute of a report that has the orders: name of the flow, number of runs, of seeds and of orders."""


class OrderCounter:
    """The orders of the runs that one test has simulated, by the name of the flow."""

    def __init__(self) -> None:
        self._runs: dict[str, list[tuple[int, str]]] = {}

    def __call__(self, outcome: Any) -> None:
        """Note the outcome of a run."""
        name = str(getattr(outcome.target, "name", None) or getattr(outcome.target, "__name__", "flow"))
        self._runs.setdefault(name, []).append((outcome.seed, outcome.order))

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note the runs inside the block."""
        token = outcome_observer.set(self)
        try:
            yield
        finally:
            outcome_observer.reset(token)

    def counts(self) -> list[tuple[str, int, int, int]]:
        """Return, of each flow that ran more than once, its name and the numbers of runs, seeds and orders."""
        return [
            (name, len(runs), len({seed for seed, _ in runs}), len({order for _, order in runs}))
            for name, runs in self._runs.items()
            if len(runs) > 1
        ]


def summary(reports: list[Any], verbose: bool) -> list[str]:
    """Return the lines for the summary: all with ``verbose``, else those that are a hint.

    Args:
        reports: The reports of tests.
        verbose: Whether all flows are shown.
    """
    lines = []
    for report in reports:
        for name, runs, seeds, orders in getattr(report, ATTRIBUTE, ()):
            hint = ""
            if seeds >= MANY and orders == 1:
                hint = "; if nothing in it runs at the same time, one seed is enough"
            if hint or verbose:
                lines.append(f"{report.nodeid}: {counted(orders, 'order')} in {counted(runs, 'run')} of {name}{hint}")
    if not verbose and len(lines) > SHOWN:
        lines[SHOWN:] = [f"and {len(lines) - SHOWN} more; pytest -v shows all"]
    return lines


def write_summary(reporter: Any) -> None:
    """Write the lines of all reports to the terminal.

    Args:
        reporter: The terminal reporter of pytest.
    """
    reports = [each for kind in reporter.stats.values() for each in kind if isinstance(each, pytest.TestReport)]
    if lines := summary(reports, reporter.verbosity > 0):
        reporter.section("railtracks: orders of tasks")
        for line in lines:
            reporter.line(line)
