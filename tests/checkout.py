"""A pytest plugin that fails a test run that leaves files in the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CACHES = {
    "__pycache__", ".git", ".hypothesis", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".venv", "build",
    "dist", "site",
}  # fmt: skip
"""Folders that tools write into, wherever they are."""


def files(root: Path) -> set[str]:
    """Return the files below ``root``, relative to it, without what tools write: caches, builds, coverage."""
    found = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in CACHES and not name.endswith(".egg-info")]
        found.update(os.path.relpath(os.path.join(folder, name), root) for name in names)
    return {path for path in found if not os.path.basename(path).startswith(".coverage")}


class CheckoutGuard:
    """Compares the checkout before and after the tests. One process does it, also if pytest-xdist runs many."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before = files(root)
        self._left: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._left = sorted(files(self._root) - self._before)
        if self._left and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for path in self._left:
            terminalreporter.write_line(
                f"ERROR: expected the tests to leave no files in the checkout; they left {path}; use tmp_path", red=True
            )
