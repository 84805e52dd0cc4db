"""The harness finds every planted defect within Hypothesis's default budget, small, and passes the corrected twin."""

from __future__ import annotations

import pytest

from tests.harness.planted import PLANTED, find

MOST_CALLS = 4


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_finds_the_defect_and_shrinks_it(planted):
    found = find(planted)
    assert found is not None, "not found"
    assert found.calls <= MOST_CALLS, f"shrunk to {found.calls} calls only:\n{found.outcome}"


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_it_passes_the_corrected_twin(planted):
    assert find(planted, broken=False) is None
