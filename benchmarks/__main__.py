"""Measure what Railtracks costs, as ratios to other work in the same run: ``python -m benchmarks``.

Absolute times change from machine to machine, so a target is a ratio (or bytes). Variants take turns within each round,
and a ratio is the median over the rounds unless a benchmark says otherwise. Exits with 1 if a target is missed, or if a
benchmark has written into the working directory, which is an empty one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

from benchmarks import (
    agents,
    batches,
    calls,
    cancellation,
    conversations,
    documents,
    durability,
    events,
    executors,
    imports,
    large_values,
    masking,
    memory,
    postgres,
    progress,
    saving,
    sessions,
    simulations,
)  # fmt: skip
from benchmarks.measure import Result

BACKENDS = ("asyncio", "trio")
MODULES = (
    calls,
    sessions,
    batches,
    cancellation,
    memory,
    saving,
    durability,
    events,
    postgres,
    executors,
    documents,
    masking,
    large_values,
    simulations,
    agents,
    conversations,
    progress,
)


def table(results: list[Result]) -> Table:
    """Lay out the results. A target that was missed is red."""
    shown = Table("work", "backend", "measured", "against", "ratio", "target", title="Benchmarks")
    for result in results:
        verdict = "[green]" if result.reached else "[red]"
        shown.add_row(
            result.work,
            result.backend,
            result.measured,
            result.against,
            f"{verdict}{result.value:.2f}" if result.target is not None else f"{result.value:.2f}",
            "" if result.target is None else f"<= {result.target:g}",
        )
    return shown


def measure(rounds: int) -> list[Result]:
    """Run all benchmarks, on both backends.

    Raises:
        RuntimeError: A benchmark has left files in the working directory.
    """
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for backend in BACKENDS:
            for module in MODULES:
                results += [attrs.evolve(result, backend=backend) for result in module.measure(backend, rounds)]
                if left := sorted(path.name for path in Path(folder).iterdir()):
                    raise RuntimeError(
                        f"expected {module.__name__} to write into temporary folders only; it left {left} in the "
                        f"working directory; use tempfile.TemporaryDirectory() and recorded_session()"
                    )
        return results + imports.measure(rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: faster, but rough")
    parser.add_argument("--smoke", action="store_true", help="one round and no verdict: see that each benchmark runs")
    options = parser.parse_args()
    results = measure(1 if options.smoke else 3 if options.quick else 9)
    Console(width=140).print(table(results))
    return 0 if options.smoke or all(result.reached for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
