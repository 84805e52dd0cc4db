"""Compare Railtracks with other libraries at the same work: ``python -m benchmarks.peers``.

Makes an environment for each library in ``.peers/`` (with uv where it is there), runs the jobs of all in turns, and
writes the tables in README.md and docs/peers.md, the plot, and ``benchmarks/peers/results.json``. It takes about twenty
minutes, and needs the package index.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import attrs

from benchmarks.peers import environments, report
from benchmarks.peers.measure import measure
from benchmarks.peers.peers import JOBS, PEERS


def machine() -> str:
    """Say what the machine is, and whether other programs keep it busy. Call it before anything is measured."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    load = os.getloadavg()[0]
    busy = f", while other programs kept it busy (load {load:.0f})" if load > 1 else ""
    return f"CPython {platform.python_version()} on {platform.system()}, {os.cpu_count()} cores of {model}{busy}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only",
        nargs="*",
        metavar="NAME",
        help="the peers to measure, by what their names begin with; nothing is written",
    )
    parser.add_argument(
        "--jobs",
        nargs="+",
        choices=[job.name for job in JOBS],
        help="the work to measure anew, without the kills; of other work the last results are kept",
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each job is run; the median counts")
    parser.add_argument("--folder", type=Path, default=Path(".peers"), help="where the environments are")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing; write the tables and the plot of the last results anew"
    )
    options = parser.parse_args()
    if options.report:
        report.write(report.load())
        return
    here = machine()
    jobs = tuple(job for job in JOBS if options.jobs is None or job.name in options.jobs)
    before = {} if options.jobs is None else {name: kept["figures"] for name, kept in report.load()["peers"].items()}
    made = {}
    for peer in PEERS:
        if options.only is None or any(peer.name.startswith(name) for name in options.only):
            try:
                made[peer.name] = environments.make(peer, options.folder.resolve())
            except subprocess.CalledProcessError as error:
                print(f"{peer.name} is left out: {error}", file=sys.stderr)
    figures = measure(made, options.rounds, jobs, kills=options.jobs is None)
    floors = {peer.name: peer.floor for peer in PEERS}
    results = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": here,
        "peers": {
            name: {
                **attrs.asdict(made[name], filter=lambda each, _: each.name != "python"),
                "floor": floors[name],
                "figures": {**before.get(name, {}), **figures[name]},
            }
            for name in made
        },
    }
    if options.only is None:
        report.write(results)
    else:
        print(report.table(results, JOBS))


if __name__ == "__main__":
    main()
