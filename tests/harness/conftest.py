"""The fixture ``suite``: pytest runs a small test suite of a user inside a test."""

from __future__ import annotations

import textwrap
import warnings

import pytest
import rich.console  # noqa: F401 (these four: a run of pytester removes from sys.modules what it imported first)
import trio.testing  # noqa: F401

import railtracks.testing._simulation._report
import railtracks.testing.strategies  # noqa: F401
from tests.harness.suites import NODES


@pytest.fixture
def suite(pytester, monkeypatch):
    """Run pytest over a file with the nodes of ``suites.py`` and ``code``."""
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")

    def run(code, *options, conftest=None, in_process=True, **how):
        if conftest is not None:
            pytester.makeconftest(conftest)
        pytester.makepyfile(test_it=NODES + textwrap.dedent(code))
        start = pytester.runpytest_inprocess if in_process else pytester.runpytest_subprocess
        with warnings.catch_warnings():
            warnings.resetwarnings()  # this project's filters are not those of its users
            return start("-p", "no:cacheprovider", "--tb=short", "--color=no", *options, **how)

    return run
