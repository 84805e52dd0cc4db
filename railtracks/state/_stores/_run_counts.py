"""A warning of a folder that holds many runs, and the removal of what killed processes have left in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from railtracks._concurrency._after_fork import after_fork
from railtracks.state._stores._files import FileStore
from railtracks.state._stores._protocols import Store

MANY_RUNS = 1_000
"""The number of runs in a folder from which on a session that saves to it warns, once per process."""
SWEEP_AGE = 60.0
"""Seconds after which a session removes a temporary file that a killed process left behind. A younger one may be of a
program that saves a document there without a session."""


class _RunCounts:
    """When to warn of a folder that holds many runs: once per process.

    Listing a folder takes long if there are many runs. So a folder is not listed again before this process has saved as
    many runs to it as were missing.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, as is right in a forked child."""
        self._guard = threading.Lock()
        self._has_warned = False
        self._missing: dict[Path, int] = {}  # by folder: how many runs to save before it is listed again

    def on_save(self, store: FileStore) -> int | None:
        """Return the number of runs in the folder if it is time to warn of them."""
        with self._guard:
            missing = self._missing.get(store.folder, 0)
            if self._has_warned or missing > 0:
                self._missing[store.folder] = missing - 1
                return None
            if store.folder not in self._missing:
                store.sweep_temporary(older_than=SWEEP_AGE)
            count = store.count()
            self._missing[store.folder] = MANY_RUNS - count - 1
            self._has_warned = count >= MANY_RUNS
            return count if self._has_warned else None


_run_counts = _RunCounts()
after_fork(_run_counts.reset)


def warn_if_many_runs(store: Store, warn: Callable[[str], None]) -> None:
    """Call ``warn`` with a message if the folder that a run is about to be saved to holds many, once per process."""
    if isinstance(store, FileStore) and (count := _run_counts.on_save(store)) is not None:
        warn(
            f"there are {count} runs in {store.folder}, and nothing is removed automatically; "
            f"remove old ones with rt.state.prune(keep=...) or rt.state.prune(older_than=...)"
        )
