"""A test run that leaves files in the checkout fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.checkout import CheckoutGuard


@pytest.mark.parametrize("path", ["plain", ".railtracks/run.json"])
def test_a_run_that_leaves_a_file_in_the_checkout_fails(pytester, path):
    pytester.makepyfile(
        f"""
        from pathlib import Path

        def test_it():
            Path({path!r}).parent.mkdir(exist_ok=True)
            Path({path!r}).write_text("x")
        """
    )
    result = pytester.runpytest_inprocess(plugins=[CheckoutGuard(pytester.path)])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"ERROR: *they left {path}; use tmp_path"])


@pytest.mark.parametrize("path", [".hypothesis/x", "sub/__pycache__/x.pyc", "railtracks.egg-info/x", ".coverage.1"])
def test_what_tools_write_is_not_counted(pytester, path):
    pytester.makepyfile(
        f"""
        from pathlib import Path

        def test_it():
            Path({path!r}).parent.mkdir(parents=True, exist_ok=True)
            Path({path!r}).write_text("x")
        """
    )
    result = pytester.runpytest_inprocess(plugins=[CheckoutGuard(pytester.path)])
    assert result.ret == pytest.ExitCode.OK


def test_no_name_of_a_test_is_longer_than_60_characters():
    tests = Path(__file__).parent
    names = [name for path in tests.rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))]
    assert [name for name in names if len(name) > 60] == []
