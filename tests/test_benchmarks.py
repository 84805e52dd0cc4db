"""Every benchmark runs, in a tiny form, and leaves no file behind. No figure is checked."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

import benchmarks
from benchmarks import __main__ as command
from benchmarks import imports
from benchmarks.measure import Result

HELPERS = ("__main__", "measure", "peers")
ALL = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)} - set(HELPERS)

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(monkeypatch):
    """Shrink the counts of all benchmarks."""
    for module in (*command.MODULES, imports):
        for name, value in vars(module).items():
            if name.isupper() and type(value) is int:
                monkeypatch.setattr(module, name, min(value, 3))


def test_the_command_runs_every_benchmark():
    assert {module.__name__.removeprefix("benchmarks.") for module in (*command.MODULES, imports)} == ALL


@pytest.mark.parametrize("module", command.MODULES, ids=lambda module: module.__name__)
def test_a_benchmark_returns_results_and_leaves_no_file(module, backend, tiny, tmp_path):
    results = module.measure(backend, 1)
    assert results
    assert all(isinstance(result, Result) for result in results)
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path


def test_the_benchmark_of_imports_leaves_no_file(tiny, tmp_path):
    results = imports.measure(1)
    assert results
    assert all(isinstance(result, Result) for result in results)
    assert list(tmp_path.iterdir()) == []


def test_the_command_fails_if_a_benchmark_leaves_a_file(monkeypatch, tmp_path):
    class Careless:
        __name__ = "benchmarks.careless"

        def measure(self, backend, rounds):
            Path("plain").write_text("x")
            return []

    monkeypatch.setattr(command, "MODULES", (Careless(),))
    with pytest.raises(RuntimeError, match=r"benchmarks\.careless .*\['plain'\]"):
        command.measure(1)
    assert list(tmp_path.iterdir()) == []
