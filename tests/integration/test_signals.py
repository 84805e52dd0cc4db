"""Programs that get real signals at any moment, in each form of a session, on both backends.

Real time passes: signals come from outside, when they come. ``HYPOTHESIS_PROFILE=long`` runs 300 of each, for half an
hour; ``python -m tests.integration.signals --runs 300`` does the same, and sums up what it finds.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.effort import FACTOR
from tests.integration.programs import FORMS
from tests.integration.signals import KINDS, cases, examine_all

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the processes are watched by their descriptors"),
]

RUNS = 20 if FACTOR == 1 else 300
"""The runs of each form, on each backend, with each signal."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_at_any_moment_ends_a_session_well(backend, kind, tmp_path):
    todo = [case for form in FORMS for case in cases(form, backend, kind, RUNS)]
    random.Random(kind).shuffle(todo)
    wrong = [finding for finding in examine_all(todo, tmp_path) if finding.problems]
    for each in wrong:
        print(each.case.label, each.ended.errors)
    assert [(each.case.label, each.moment, each.ended.where(), each.problems) for each in wrong] == []
