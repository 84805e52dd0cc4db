"""``import railtracks``, against importing what it stands on; in fresh processes, bytecode compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from benchmarks.measure import Result

BASE = "anyio, attrs, cattrs"


def seconds(modules: str, cache: str) -> float:
    code = f"import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPYCACHEPREFIX": cache},
    )
    return float(done.stdout)


def measure(rounds: int) -> list[Result]:
    base, ours = [], []
    with tempfile.TemporaryDirectory() as cache:
        seconds("railtracks", cache)  # compiles everything
        for _ in range(3 * rounds):
            base.append(seconds(BASE, cache))
            ours.append(seconds("railtracks", cache))
    # The fastest of each: whatever else runs on the machine only ever adds to a process's start.
    shown, against = f"{min(ours) * 1e3:.0f} ms", f"import {BASE}, {min(base) * 1e3:.0f} ms"
    return [Result("import railtracks", shown, against, min(ours) / min(base), 1.6)]
