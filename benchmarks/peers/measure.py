"""Run the jobs of all peers, in turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import Environment, variables
from benchmarks.peers.peers import JOBS, PEERS, Job, Peer

SCRIPTS = Path(__file__).with_name("scripts")
PATIENCE = 300
"""Seconds after which a job is given up."""

Figure = dict[str, Any]


def measure(
    environments: dict[str, Environment], rounds: int, jobs: tuple[Job, ...] = JOBS, kills: bool = True
) -> dict[str, dict[str, Figure]]:
    """Return what each peer needs for each job that it has: the median of the rounds.

    The peers take turns within a round, so that a slow minute of the machine hits them all.

    Args:
        environments: Those of the peers, by their names.
        rounds: How often each job is run.
        jobs: What to measure.
        kills: Whether to find out as well what each peer repeats after a kill.
    """
    peers = [peer for peer in PEERS if peer.name in environments]
    known = {peer.name: run_script(peer, environments[peer.name]) for peer in peers}
    results: dict[str, dict[str, list[Figure]]] = {peer.name: {} for peer in peers}
    for job in jobs:
        for number in range(rounds):
            for peer in peers:
                if job.name in known[peer.name]:
                    count = max(job.least, round(job.count * peer.scale))
                    figure = run_script(peer, environments[peer.name], job.name, str(count))
                    results[peer.name].setdefault(job.name, []).append(figure)
                    print(f"{job.name} {number + 1}/{rounds} {peer.name}: {figure}", file=sys.stderr, flush=True)
    figures = {name: {job: _median(all_of) for job, all_of in jobs.items()} for name, jobs in results.items()}
    for peer in peers:
        if kills and "durable" in known[peer.name]:
            figures[peer.name]["durable"] = {"repeated": repeated_steps(peer, environments[peer.name])}
    return figures


def repeated_steps(peer: Peer, environment: Environment) -> list[int]:
    """Kill a flow of ten steps in its step 5, start it again, and return the steps whose effects happened twice.

    Step 5 has to be among them: its effect happened, and its result was lost.

    Raises:
        RuntimeError: The second process did not finish.
    """
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            run_script(peer, environment, "durable", folder, may_die=True)
        effects = [int(line) for line in Path(folder, "effects").read_text().split()]
    if max(effects) != 9:
        raise RuntimeError(f"expected the second process of {peer.name} to do all ten steps; it did {effects}")
    return sorted({step for step in effects if effects.count(step) > 1})


def _median(figures: list[Figure]) -> Figure:
    value = statistics.median(figure["value"] for figure in figures)
    return {**figures[-1], "value": value}


def run_script(peer: Peer, environment: Environment, *arguments: str, may_die: bool = False) -> Any:
    """Run a script, and return what it prints last. Whatever it has started is killed when it has ended."""
    command = [environment.python, str(SCRIPTS / f"{peer.script}.py"), *arguments]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as output:
        own = {"PREFECT_HOME": arguments[1] if may_die else folder, **peer.environment}
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**variables(), **own},
            start_new_session=True,
        )
        try:
            code = process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        printed = output.read()
    if code and not may_die:
        raise RuntimeError(f"expected {' '.join(command)} to work; it exited with {code}:\n{printed[-2000:]}")
    return None if may_die else json.loads(printed.splitlines()[-1])


def describe(job: Job, figure: Figure | None) -> str:
    """Show a figure as the tables do."""
    if figure is None:
        return "–"
    value = figure["value"]
    if job.unit == "bytes":
        return f"{value:,.0f}"
    if job.unit == "s":
        leaked = f"; **{figure['leaked']} ticks leaked**" if figure["leaked"] else "; nothing leaked"
        return f"{value:.3f}{leaked}"
    scaled = value * {"µs": 1e6, "ms": 1e3}[job.unit]
    return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.1f}" if scaled >= 1 else f"{scaled:.2f}"
