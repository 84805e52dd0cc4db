"""``import railtracks``, against importing what it stands on; in fresh processes, bytecode compiled."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.measure import Result, ratio

BASE = "anyio, attrs, cattrs"


def seconds(modules: str, cache: str) -> float:
    code = f"import time; start = time.process_time(); import {modules}; print(time.process_time() - start)"
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
    times = {"ours": ours, "base": base}
    shown, against = f"{statistics.median(ours) * 1e3:.0f} ms", f"import {BASE}, {statistics.median(base) * 1e3:.0f} ms"
    return [Result("import railtracks (processor time)", shown, against, ratio(times, "ours", "base"), 1.6)]
