"""The harness finds every planted defect within Hypothesis's default budget, small, and passes the corrected twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.planted import PLANTED, find

MOST_CALLS = 4


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_finds_the_defect_and_shrinks_it(planted):
    found = find(planted)
    assert found is not None, "not found"
    assert found.calls <= MOST_CALLS, f"shrunk to {found.calls} calls only:\n{found.outcome}"


def test_the_documentation_lists_each():
    page = (Path(__file__).parents[2] / "docs/testing-reference.md").read_text(encoding="utf-8")
    assert [planted.name for planted in PLANTED if f"| {planted.name}: {planted.defect} | " not in page] == []


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_passes_the_corrected_twin(planted):
    assert find(planted, broken=False) is None
