"""The calls that the report of a failed test shows."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest

from tests.harness.suites import QUIET


def sections(result):
    """Return the sections of reports that the plugin added, each as its lines."""
    found: list[list[str]] = []
    own: list[str] | None = None
    for line in result.outlines:
        if line.startswith("---") and "railtracks session" in line:
            found.append(own := [])
        elif line.startswith(("___", "===", "---")):
            own = None
        elif own is not None:
            own.append(line)
    return found


FAILED_CALLS = [
    "session {}  Failed  4 s  3 calls, 2 failed",
    "└─ parent(1, 3)  Failed  4 s (own 0 µs)  ValueError (raised by child)",
    "   ├─ child(1)  Completed  1 s",
    "   └─ child(3)  Failed  3 s  ValueError: three",
]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("async def test_it(rt_session):\n    await rt.call(parent, 1, 3)", "s0"),
        ("def test_it(simulated):\n    raise simulated(parent, 1, 3).exception", "s0"),
    ],
    ids=["rt_session", "simulated"],
)
def test_a_failure_shows_the_calls(suite, code, name):
    result = suite(code)
    result.assert_outcomes(failed=2)
    assert sections(result) == [[line.format(name) for line in FAILED_CALLS]] * 2


INSTANT = """
@pytest.fixture(autouse=True)
def instant(monkeypatch):
    async def no_sleep(seconds):
        pass

    monkeypatch.setattr(anyio, "sleep", no_sleep)

"""


@pytest.mark.parametrize(
    "body",
    [
        f"rt.Flow('mine', parent, {QUIET}).invoke(0, 3)",
        f"""
        with rt.Session(name='mine', {QUIET}):
            rt.call_sync(parent, 0, 3)
        """,
        f"""
        async def main():
            async with rt.Session(name='mine', {QUIET}):
                await rt.call(parent, 0, 3)
        asyncio.run(main())
        """,
    ],
    ids=["flow", "with", "async-with"],
)
def test_a_failure_in_real_time_shows_the_calls_too(suite, body):
    result = suite(INSTANT + "def test_it():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    result.assert_outcomes(failed=1)
    (lines,) = sections(result)
    seconds = re.compile(r"[\d.]+ [mµ]?s\b")
    expected = [line.replace("(1", "(0") for line in FAILED_CALLS]
    assert re.match("(flow|session) mine", lines[0])
    assert [seconds.sub("_", line) for line in lines[1:]] == [seconds.sub("_", line) for line in expected[1:]]


def test_a_failure_shows_the_latest_three_sessions_with_calls(suite):
    result = suite(f"""
        async def test_it(virtual_clock):
            for number in range(5):
                async with rt.Session(name=f"number {{number}}", {QUIET}):
                    await rt.call(child, number * 10)
            assert False
    """)
    result.assert_outcomes(failed=2)
    titles = [re.search(r"\(number \d\)", lines[0]) for lines in sections(result)]
    assert [title and title[0] for title in titles] == [f"(number {number})" for number in (2, 3, 4)] * 2


def test_the_calls_stand_at_the_end_of_the_report(suite):
    result = suite("""
        async def test_it(rt_session):
            print("printed")
            await rt.call(parent, 3)
    """)
    text = result.stdout.str()
    assert text.index("Error: three") < text.index("Captured stdout call") < text.index("railtracks session s0")


def test_a_call_that_is_still_open_is_shown_as_such(suite):
    result = suite("""
        async def test_it(rt_session):
            rt_session.start_soon(child, 60)
            await anyio.sleep(1)
            assert False
    """)
    assert (
        sections(result)
        == [["session s0  Cancelled  1 s  1 call, 1 cancelled", "└─ child(60)  Cancelled (session_ended)  1 s"]] * 2
    )


def test_a_pass_or_a_failure_elsewhere_shows_nothing(suite):
    result = suite(
        """
        async def test_passes(rt_session):
            await rt.call(parent, 1)

        def test_no_session():
            assert False

        @pytest.fixture
        def broken():
            yield
            assert False

        async def test_teardown_fails(rt_session, broken):
            await rt.call(parent, 1)
        """,
        "-rA",
    )
    result.assert_outcomes(passed=4, failed=1, errors=2)
    assert sections(result) == []


def test_with_colour_the_calls_are_in_colour(suite):
    result = suite("async def test_it(rt_session):\n    await rt.call(parent, 1, 3)", "--color=yes")
    text = result.stdout.str()
    assert "\x1b[31mparent(1, 3)  Failed  4 s" in text
    assert "\x1b[32mchild(1)  Completed  1 s" in text


def test_without_rich_the_calls_are_plain(suite, monkeypatch):
    for name in ("rich", "rich.console", "rich.text"):
        monkeypatch.setitem(sys.modules, name, None)
    result = suite("async def test_it(rt_session):\n    await rt.call(parent, 1, 3)", "--color=yes")
    result.assert_outcomes(failed=2)
    assert "   ├─ child(1)  Completed  1 s" in result.outlines


def test_long_lines_stay_whole_in_colour(suite):
    result = suite(
        """
        @rt.function_node(name="n" * 70)
        async def long():
            raise ValueError("e " * 60)

        async def test_it(rt_session):
            await rt.call(long)
        """,
        "--color=yes",
    )
    (line, _) = [each for each in result.outlines if "n" * 70 in each and "Failed" in each]
    assert "ValueError" in line


def test_a_failure_where_there_is_no_terminal(pytester):
    pytester.makepyfile("def test_it():\n    assert False")
    assert pytester.inline_run("-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.slow
def test_with_workers_of_xdist(suite):
    pytest.importorskip("xdist")
    result = suite(
        """
        async def test_passes(rt_session):
            await rt.call(parent, 1)

        async def test_fails(rt_session):
            await rt.call(parent, 1, 3)
        """,
        "-n2",
        *("-p", "no:hypothesispytest", "-p", "no:anyio"),  # which take their time to start
        "--railtracks-leaks",
        in_process=False,
    )
    result.assert_outcomes(passed=2, failed=2)
    assert sections(result) == [[line.format("s0") for line in FAILED_CALLS]] * 2
