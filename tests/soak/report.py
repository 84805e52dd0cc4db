"""The report of a soak test, as a table for people and for docs/soak.md."""

from __future__ import annotations

import datetime
import os
import platform
import sys

import railtracks as rt
from tests.soak.census import ERRORS, FEWEST, SHARE, Line, Memory
from tests.soak.runs import Tally

LEAKS = ("tasks", "sessions", "threads", "descriptors", "children")


def report(
    tally: Tally, memory: Memory, leaks: dict[str, int], backends: list[str], kinds: list[str], seconds: float
) -> bool:
    """Print the report, and return whether all was well."""
    lines = {
        "bytes allocated in C": Line.through_second_half(memory.allocated),
        "blocks": Line.through_second_half(memory.blocks),
        "objects": Line.through_second_half(memory.objects),
    }
    python = f"Python {platform.python_version()}, {platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    faults = ", ".join(f"{name}: {count:,}" for name, count in tally.survived.most_common())
    rows = {
        "when and where": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, railtracks {rt.__version__}, {python}",
        "ran": f"{seconds / 60:.1f} minutes on {' and '.join(backends)}; stores: {', '.join(kinds)}",
        "sessions": f"{tally.sessions:,}",
        "calls on record": f"{tally.calls:,}",
        "faults survived": f"{tally.survived.total():,} ({faults})",
        "runs that were wrong": f"{len(tally.wrong)}",
        "left behind": ", ".join(f"{name}: {leaks.get(name, 0)}" for name in LEAKS),
        **{f"memory, {name}": _line(line) for name, line in lines.items()},
        "memory, resident bytes": _line(Line.through_second_half(memory.resident)),
    }
    print("| | |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for each in tally.wrong[:10]:
        print(f"\nWRONG: {each}")
    grows = [name for name, line in lines.items() if line is not None and line.grows]
    for name in grows:
        print(f"\nWRONG: {name} grow by more than {ERRORS} standard errors, and by more than {SHARE:.0%} of their mean")
    sys.stdout.flush()
    return not (tally.wrong or leaks or grows)


def _line(line: Line | None) -> str:
    if line is None or line.points < FEWEST:
        return "too short a run to judge"
    slope = f"{line.slope:+.3f} ± {line.error:.3f} for each session"
    share = f"{line.rise / line.mean:+.2%} over the second half"
    return f"{slope}, {share} ({line.mean:,.0f} on average, {line.points} points)"
