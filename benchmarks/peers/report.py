"""Write what was measured into README and the docs: tables between two comments, and a plot."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from benchmarks.peers.measure import describe
from benchmarks.peers.peers import JOBS, PEERS, Job, Peer

CHECKOUT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
PLOT = CHECKOUT / "docs" / "pictures" / "peers.svg"
OURS = "Railtracks, asyncio"
IN_README = ("sequential", "fan_out", "saved_runs", "memory", "timeout", "first_error")
PLOTTED = ("sequential", "fan_out", "saved_runs", "memory")

Results = dict[str, Any]


def load() -> Results:
    """Read the results that are kept in the repository."""
    results: Results = json.loads(RESULTS.read_text())
    return results


def table(results: Results, jobs: tuple[Job, ...], peers: tuple[Peer, ...] = PEERS) -> str:
    """Return a Markdown table with a row for each job and a column for each peer that was measured."""
    columns = {peer.name: results["peers"][peer.name] for peer in peers if peer.name in results["peers"]}
    rows = [["work", *columns], ["---"] * (1 + len(columns))]
    for job in jobs:
        figures = [describe(job, column["figures"].get(job.name)) for column in columns.values()]
        rows.append([f"{job.title}{_unit(job)}", *figures])
    rows.append(["killed in step 5 of 10, started again: done twice", *map(_repeated, columns.values())])
    rows += [[title, *map(shown, columns.values())] for title, _, shown in INSTALLED]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def losses(results: Results) -> str:
    """Return a list of the work in which another library is better than Railtracks on asyncio."""
    measured = results["peers"]
    ours = measured[OURS]
    others = {
        peer.name: measured[peer.name]
        for peer in PEERS
        if not peer.floor and peer.script != "with_railtracks" and peer.name in measured
    }
    lines = []
    for job in JOBS:
        here = ours["figures"][job.name]
        found = {name: other["figures"].get(job.name) for name, other in others.items()}
        better = [
            f"{name} ({describe(job, figure)})"
            for name, figure in found.items()
            if figure and figure["value"] < here["value"]
        ]
        if better:
            lines.append(f"- {job.title}{_unit(job)}: {', '.join(better)}; Railtracks {describe(job, here)}")
    for title, key, shown in INSTALLED:
        better = [f"{name} ({shown(other)})" for name, other in others.items() if other[key] < ours[key]]
        if better:
            lines.append(f"- {title}: {', '.join(better)}; Railtracks {shown(ours)}")
    return "\n".join(lines) or "- none of the work measured"


def write(results: Results) -> None:
    """Keep the results, and put them into README, the page and the plot."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for path, blocks in blocks_of(results).items():
        text = path.read_text()
        for name, block in blocks.items():
            text = put(text, name, block)
        path.write_text(text)
    plot(results)


def blocks_of(results: Results) -> dict[Path, dict[str, str]]:
    """Return what belongs into each file, by the name of the block."""
    short = tuple(job for job in JOBS if job.name in IN_README)
    libraries = tuple(peer for peer in PEERS if not peer.floor and "trio" not in peer.name)
    return {
        CHECKOUT / "README.md": {"peers": table(results, short, libraries)},
        CHECKOUT / "docs" / "peers.md": {
            "peers": table(results, JOBS),
            "losses": losses(results),
            "versions": "\n".join(
                f"- {name}: {each['version']}" for name, each in results["peers"].items() if each["version"]
            ),
            "machine": f"Measured on {results['date']}, with {results['machine']}.",
        },
    }


def put(text: str, name: str, block: str) -> str:
    """Replace what stands between the two comments that name a block.

    Raises:
        ValueError: The text has no such comments.
    """
    begin, end = f"<!-- begin {name}: python -m benchmarks.peers -->", f"<!-- end {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"expected the comments {begin!r} and {end!r}; there are none")
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def plot(results: Results) -> None:
    """Draw the work that all can be compared in, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "railtracks"  # or each drawing has other identifiers
    mpl.rcParams["svg.fonttype"] = "none"  # texts, and not the outlines of letters
    from matplotlib import pyplot

    jobs = [job for job in JOBS if job.name in PLOTTED]
    figure, axes = pyplot.subplots(len(jobs), 1, figsize=(9, 2.6 * len(jobs)), layout="constrained")
    for job, axis in zip(jobs, axes, strict=True):
        scale = {"µs": 1e6, "ms": 1e3}.get(job.unit, 1)
        rows = [
            (peer, results["peers"][peer.name]["figures"][job.name]["value"] * scale)
            for peer in reversed(PEERS)
            if peer.name in results["peers"] and job.name in results["peers"][peer.name]["figures"]
        ]
        colors = [_color(peer) for peer, _ in rows]
        bars = axis.barh([peer.name for peer, _ in rows], [value for _, value in rows], color=colors)
        axis.bar_label(
            bars, [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for _, value in rows], padding=3, fontsize=8
        )
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.set_title(f"{job.title}, in {job.unit} (shorter is better, logarithmic)", fontsize=10)
        axis.tick_params(labelsize=8)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    PLOT.write_text("\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n")


def _color(peer: Peer) -> str:
    return "#9aa5b1" if peer.floor else "#1f6feb" if peer.script == "with_railtracks" else "#d0a85c"


def _unit(job: Job) -> str:
    return f", {job.unit}" if job.unit != "s" else ""


def _repeated(peer: Results) -> str:
    if "durable" not in peer["figures"]:
        return "cannot" if not peer["floor"] else "–"
    steps = peer["figures"]["durable"]["repeated"]
    return f"step {', '.join(map(str, steps))}"


def _packages(peer: Results) -> str:
    return f"{peer['packages']} ({peer['megabytes']:.0f})" if peer["packages"] else "–"


def _import(peer: Results) -> str:
    return f"{peer['import_seconds'] * 1e3:.0f}"


INSTALLED = (("import, ms", "import_seconds", _import), ("packages installed (MB)", "packages", _packages))
"""Titles, keys, and what returns the text, of what is not a job."""
