"""The workflow for forges runs the sessions of noxfile.py, and all that ``.ci/run`` does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
NOXFILE = (ROOT / "noxfile.py").read_text("utf-8")


def sessions_of_workflow() -> set[str]:
    """The names of what it runs, by itself or from a matrix."""
    listed = re.findall(r"^ {10}- ([\w-]+)", WORKFLOW, re.MULTILINE)
    weekly = [part.split()[0] for part in re.findall(r"session: \[(.*)\]", WORKFLOW)[0].split(", ")]
    return {*listed, *weekly, *re.findall(r"run: python -m nox -s ([\w-]+)", WORKFLOW)}


def test_the_workflow_runs_sessions_that_there_are():
    there_are = set(re.findall(r"^def (\w+)\(session", NOXFILE, re.MULTILINE))
    assert sessions_of_workflow() >= {"tests", "lint", "types", "docs", "bench", "release_check", "soak"}
    assert sessions_of_workflow() <= there_are


def test_the_workflow_runs_what_the_ci_of_the_project_runs():
    notified = set(re.findall(r'session\.notify\(\s*f?"(\w+)', NOXFILE))
    assert "slow" in notified
    assert notified - {"wheel"} <= sessions_of_workflow()  # release_check does more than wheel
    [live] = re.findall(r'"live", \[(.*?)\]', NOXFILE)
    assert f"live -- {live.replace(', ', ' ').replace(chr(34), '')}" in WORKFLOW


def test_the_workflow_runs_each_supported_python():
    pythons = re.findall(r"^PYTHONS = \[(.*)\]", NOXFILE, re.MULTILINE)
    assert re.findall(r"python: \[(.*)\]", WORKFLOW) == pythons


@pytest.mark.parametrize("line", [line for line in WORKFLOW.splitlines() if "run:" in line])
def test_the_workflow_runs_nothing_but_sessions(line):
    assert re.search(r"run: (python -m pip install nox uv|python -m nox -s [\w${ .}]+)$", line)
