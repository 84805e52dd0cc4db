"""How hard Hypothesis tries: ``HYPOTHESIS_PROFILE=nightly`` runs a hundred times as many examples."""

from __future__ import annotations

import os

from hypothesis import settings

FACTOR = {"nightly": 100, "long": 10}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 1)


def examples(count: int) -> settings:
    return settings(max_examples=count * FACTOR, deadline=None)
