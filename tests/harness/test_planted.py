"""The harness finds every planted defect within Hypothesis's default budget, small, and passes the corrected twin."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis.internal.conjecture import engine

from tests.harness.planted import PLANTED, find
from tests.harness.planted._planted import BUDGET

MOST_CALLS = 4
SLOW = {
    "slot not given back", "locks in opposite order", "consumer waits for ever", "lost wake-up",
    "cancellation swallowed", "lost cancellation",
}  # fmt: skip
"""The defects that take seconds to shrink, because the programs hang."""


@pytest.mark.parametrize("planted", [planted for planted in PLANTED if planted.name in SLOW], ids=str)
def test_it_finds_the_defect(planted, monkeypatch):
    monkeypatch.setattr(engine, "MAX_SHRINKS", 0)
    assert find(planted) is not None


@pytest.mark.parametrize(
    "planted", [pytest.param(each, marks=[pytest.mark.slow] * (each.name in SLOW)) for each in PLANTED], ids=str
)
def test_it_finds_the_defect_and_shrinks_it(planted):
    found = find(planted)
    assert found is not None, "not found"
    assert found.calls <= MOST_CALLS, f"shrunk to {found.calls} calls only:\n{found.outcome}"


def test_the_documentation_lists_each():
    page = (Path(__file__).parents[2] / "docs/testing-reference.md").read_text(encoding="utf-8")
    assert [planted.name for planted in PLANTED if f"| {planted.name}: {planted.defect} | " not in page] == []


@pytest.mark.parametrize("budget", [5, pytest.param(BUDGET, marks=pytest.mark.slow)])
@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_passes_the_corrected_twin(planted, budget):
    assert find(planted, broken=False, budget=budget) is None
