"""Standard error is what the fixture ``terminal`` or ``file`` of a test says, while the test itself runs.

A fixture cannot replace it: between the fixtures and the test, pytest puts its own in its place again.
"""

from __future__ import annotations

import sys

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    stream = pyfuncitem.funcargs.get("terminal") or pyfuncitem.funcargs.get("file")
    if stream is None:
        return (yield)
    before, sys.stderr = sys.stderr, stream
    try:
        return (yield)
    finally:
        sys.stderr = before
