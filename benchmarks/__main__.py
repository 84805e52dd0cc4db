"""``python -m benchmarks``: what Railtracks costs, as ratios to something else measured in the same run.

Absolute times drift from machine to machine, so a target is always a ratio. Variants take turns within each round, and
a ratio is the median over the rounds. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import sys

import attrs
from rich.console import Console
from rich.table import Table

from benchmarks import agents, batches, calls, durability, imports, memory, sessions, simulations
from benchmarks.measure import Result

BACKENDS = ("asyncio", "trio")


def table(results: list[Result]) -> Table:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--smoke", action="store_true", help="one round and no verdict: see that each of them runs")
    options = parser.parse_args()
    rounds = 1 if options.smoke else 3 if options.quick else 9
    results: list[Result] = []
    for backend in BACKENDS:
        for module in (calls, sessions, batches, memory, durability, simulations, agents):
            results += [attrs.evolve(result, backend=backend) for result in module.measure(backend, rounds)]
    results += imports.measure(rounds)
    Console(width=140).print(table(results))
    missed = [result for result in results if not result.reached]
    return 1 if missed and not options.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
