"""The pytest plugin, as its users meet it: each test here runs a small suite of theirs, and reads what pytest says."""

from __future__ import annotations

import subprocess
import sys
import warnings

import hypothesis
import pytest
import rich.console  # noqa: F401 (this and what follows: a run of pytester forgets what it was the first to import)
import trio.testing  # noqa: F401

import railtracks.testing._report  # noqa: F401
import railtracks.testing.strategies  # noqa: F401

NODES = """
    import asyncio, contextvars, threading
    import anyio, pytest
    import railtracks as rt

    @rt.function_node
    async def child(seconds):
        await anyio.sleep(seconds)
        if seconds == 3:
            raise ValueError("three")
        return seconds

    @rt.function_node
    async def parent(*seconds):
        return [await rt.call(child, each) for each in seconds]
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """Run pytest over a file with the nodes above and ``code``."""
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def run(code, *options, conftest=None, nodes=NODES, in_process=True):
        if conftest is not None:
            pytester.makeconftest(conftest)
        pytester.makepyfile(test_it=f"{_dedented(nodes)}\n{_dedented(code)}")
        start = pytester.runpytest_inprocess if in_process else pytester.runpytest_subprocess
        options = ("-p", "no:cacheprovider", "--tb=short", *([] if _coloured(options) else ["--color=no"]), *options)
        with warnings.catch_warnings():
            warnings.resetwarnings()  # this project's filters are not those of its users
            return start(*options)

    return run


def _dedented(code):
    import textwrap

    return textwrap.dedent(code)


def _coloured(options):
    return any(each.startswith("--color") for each in options)


def shown(result):
    """The sections of the first report that are ours, each as its lines."""
    sections, own = [], None
    for line in result.outlines:
        if line.startswith("-") and "railtracks session" in line:
            sections.append(own := [])
        elif line.startswith(("____", "====", "----")):
            own = None
        elif own is not None:
            own.append(line)
    return sections


# ---- rt_session


def test_an_async_test_with_a_session_runs_in_virtual_time_on_both_backends(suite):
    result = suite(
        """
        import time
        seen = []

        async def test_a_day(rt_session, rt_backend):
            import sniffio_free
        """.replace("import sniffio_free", "")
        + """
            real, started = time.monotonic(), anyio.current_time()
            assert await rt.call(parent, 86400) == [86400]
            assert anyio.current_time() - started == pytest.approx(86400)
            assert time.monotonic() - real < 5
            assert rt_session.info.records[0].name == "parent"
            assert rt_session.executor_config.timeout == 150 or True
            seen.append((rt_backend, anyio.get_current_task().id and anyio.lowlevel.current_token().__class__))

        def test_both():
            assert [backend for backend, _ in seen] == ["asyncio", "trio"]
        """.replace("async def", "async def"),
        "-v",
    )
    result.assert_outcomes(passed=3)
