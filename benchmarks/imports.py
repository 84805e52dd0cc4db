"""Measure ``import railtracks`` against importing its dependencies, in fresh processes with compiled bytecode."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Result, milli, ratio

ROOT = Path(__file__).parents[1]
BASE = "anyio, attrs, cattrs"
SQUARES = 3
"""How often the four imports are measured in each round."""
TARGET = 1.4
SESSIONS = "railtracks; railtracks.Session; railtracks.call"
"""What sessions need is loaded when they are first used."""


def seconds(modules: str, cache: str) -> float:
    """Return the processor time of an import in a new process.

    Modules of this checkout come first. Hashes are fixed, so that every process does the same work.
    """
    code = f"import time; start = time.process_time(); import {modules}; print(time.process_time() - start)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment, "PYTHONPYCACHEPREFIX": cache, "PYTHONHASHSEED": "0"},
    )
    return float(done.stdout)


def measure(rounds: int) -> list[Result]:
    """Measure imports in the order base, ours, ours, base.

    Beside it stands, without a target, all that a program with sessions loads.

    Other programs take processor cache and clock speed away, more or less of it every few seconds, so a single pair is
    wrong by a tenth or more. In this order a steady drift counts for both sides alike, and the median drops the rest.
    """
    times: dict[str, list[float]] = {"ours": [], "base": [], "sessions": []}
    with tempfile.TemporaryDirectory() as cache:
        seconds(SESSIONS, cache)  # compiles everything
        for _ in range(SQUARES * rounds):
            first, one, other, last = (seconds(each, cache) for each in (BASE, "railtracks", "railtracks", BASE))
            times["base"].append((first + last) / 2)
            times["ours"].append((one + other) / 2)
            times["sessions"].append(seconds(SESSIONS, cache))
    against = f"import {BASE}, {milli(times['base'])}"
    ours, sessions = milli(times["ours"]), milli(times["sessions"])
    return [
        Result("import railtracks (processor time)", ours, against, ratio(times, "ours", "base"), TARGET),
        Result("the same, and load what sessions need", sessions, against, ratio(times, "sessions", "base")),
    ]
