"""``python -m tests.harness.planted`` prints the table of planted defects for docs/testing-reference.md.

Arguments are the names of the defects to search for; without any, all are. ``--ways`` restricts the ways to search,
separated by commas.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Collection, Iterable

from tests.harness.planted import BUDGET, PLANTED, WAYS, Planted, find

HEADER = f"| planted defect | {' | '.join(WAYS)} | false alarms |\n|{'---|' * (len(WAYS) + 2)}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.planted", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of planted defects; by default all")
    parser.add_argument("--ways", default=",".join(WAYS), help="ways to search, separated by commas")
    options = parser.parse_args(arguments)
    ways = options.ways.split(",")
    unknown = {*options.names} - {planted.name for planted in PLANTED} | {*ways} - {*WAYS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; the ways are {', '.join(WAYS)}")
    chosen = [planted for planted in PLANTED if not options.names or planted.name in options.names]
    return 0 if print_table(chosen, ways) else 1


def print_table(chosen: Iterable[Planted], ways: Collection[str]) -> bool:
    """Print the table, and return whether each is found in each way, and no twin raises an alarm."""
    is_good = True
    print(HEADER, flush=True)
    for planted in chosen:
        row, alarms = [], 0
        for way in WAYS:
            if way not in ways or way not in planted.ways:
                row.append("")
                continue
            found = find(planted, way)
            alarms += find(planted, way, broken=False, budget=BUDGET) is not None
            row.append("not found" if found is None else f"{found.examples}, {found.calls}")
            is_good &= found is not None
        is_good &= not alarms
        print(f"| {planted.text} | {' | '.join(row)} | {alarms} |", flush=True)
    return is_good


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    sys.exit(main())
