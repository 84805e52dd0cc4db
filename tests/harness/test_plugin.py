"""The pytest plugin, as its users meet it: each test here runs a small suite of theirs, and reads what pytest says."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import warnings

import pytest
import rich.console  # noqa: F401 (this and what follows: a run of pytester forgets what it was the first to import)
import trio.testing  # noqa: F401

import railtracks.testing._simulation._report
import railtracks.testing.strategies  # noqa: F401
from railtracks._context_variable import current

NODES = """
import asyncio, sys, threading, time
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
QUIET = "save_state=False, logging_setting='NONE'"


@pytest.fixture
def suite(pytester, monkeypatch):
    """Run pytest over a file with the nodes above and ``code``."""
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


def sections(result):
    """The sections of reports that are ours, each as its lines."""
    found, own = [], None
    for line in result.outlines:
        if line.startswith("---") and "railtracks session" in line:
            found.append(own := [])
        elif line.startswith(("___", "===", "---")):
            own = None
        elif own is not None:
            own.append(line)
    return found


def left_behind(result):
    """Of each test, what it left behind; by --railtracks-leaks."""
    lines = [line for line in result.outlines if " left behind: " in line and not line.startswith("ERROR")]
    return dict(line.split(" left behind: ") for line in lines)


# ---- rt_session


def test_an_async_test_with_a_session_runs_in_virtual_time_on_both_backends(suite):
    result = suite("""
        import trio
        seen = []

        async def test_minutes(rt_session, rt_backend):
            real, started = time.monotonic(), anyio.current_time()
            assert await rt.call(parent, 60, 60) == [60, 60]
            assert anyio.current_time() - started == pytest.approx(120)
            assert time.monotonic() - real < 10
            record = rt_session.info.records[0]
            assert (record.name, round(record.ended - record.started)) == ("parent", 120)
            seen.append((rt_backend, trio.lowlevel.in_trio_run()))

        def test_both():
            assert seen == [("asyncio", False), ("trio", True)]
    """)
    result.assert_outcomes(passed=3)


def test_a_session_of_a_test_writes_and_logs_nothing(suite, pytester):
    result = suite(
        """
        import logging

        async def test_it(rt_session, caplog):
            with pytest.raises(ValueError):
                await rt.call(parent, 1, 3)
            assert rt_session.executor_config.save_state
            assert not caplog.records
        """
    )
    result.assert_outcomes(passed=2)
    assert not (pytester.path / ".railtracks").exists()
    result.stderr.no_fnmatch_line("*RT*")


def test_the_mark_gives_the_options_of_the_session(suite):
    result = suite("""
        @pytest.mark.railtracks(timeout=5, name="mine", context={"a": 1}, seed=3)
        async def test_options(rt_session):
            assert (rt_session.name, rt_session.executor_config.timeout) == ("mine", 5)
            assert rt.context.get("a") == 1
            with pytest.raises(rt.exceptions.GlobalTimeOutError):
                await rt.call(parent, 6)

        @pytest.mark.railtracks(end_on_error=True)
        class TestOfAClass:
            async def test_options(self, rt_session):
                assert rt_session.executor_config.end_on_error
                assert rt_session.executor_config.timeout == 150
    """)
    result.assert_outcomes(passed=4)


ORDER = """
orders = set()

@rt.function_node
def in_thread(name, log):
    log.append(name)

@rt.function_node
async def in_task(name, log):
    await anyio.sleep(1)
    log.append(name)

async def order(node):
    log = []
    await rt.call_batch(node, range(6), [log] * 6)
    return tuple(log)
"""


@pytest.mark.parametrize("node", ["in_task", "in_thread"])
@pytest.mark.parametrize("clock", ["", ", virtual_clock"])
def test_the_seed_of_the_mark_decides_the_order(suite, node, clock):
    result = suite(
        ORDER
        + f"""
@pytest.mark.parametrize("n", range(8))
@pytest.mark.railtracks(seed=7)
async def test_same(n, rt_session, rt_backend{clock}):
    orders.add((rt_backend, await order({node})))

def test_one_order_of_each():
    assert len(orders) == 2
    assert any(log != tuple(range(6)) for _, log in orders)
"""
    )
    result.assert_outcomes(passed=17)


def test_a_sync_test_with_a_session_is_told_what_to_write(suite):
    result = suite("def test_sync(rt_session): pass", "-k", "asyncio")
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(
        "*test_sync?asyncio? uses rt_session, which needs an event loop: write `async def`, or use `simulated`"
    )


def test_a_test_that_would_hang_fails_and_says_where_it_waits(suite):
    result = suite("async def test_hangs(rt_session):\n    await anyio.Event().wait()")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*Deadlock: at 0 s of virtual time nothing can run*", "*waiting: test_hangs (test_it*"]
    )


def test_fixtures_parameters_and_classes_work_in_async_tests(suite):
    result = suite("""
        @pytest.fixture
        def gone():
            values = []
            yield values
            assert values == ["used"]

        @pytest.fixture
        def clocked(virtual_clock):
            return virtual_clock

        @pytest.mark.parametrize("seconds", [1, 2])
        async def test_all(seconds, tmp_path, gone, rt_session, monkeypatch):
            monkeypatch.setenv("A", str(tmp_path))
            assert tmp_path.is_dir()
            assert await rt.call(child, seconds) == seconds
            gone.append("used")

        class TestClass:
            def setup_method(self):
                self.ready = True

            async def test_method(self, rt_session):
                assert self.ready
                assert await rt.call(child, 1) == 1

            async def test_clock_of_a_fixture(self, clocked):
                await anyio.sleep(2)
                assert clocked.now == 2
    """)
    result.assert_outcomes(passed=8)


def test_a_session_that_a_mark_asks_for_is_open(suite):
    result = suite("""
        @pytest.mark.usefixtures("rt_session")
        async def test_it(rt_backend):
            rt.context.put("a", 1)
    """)
    result.assert_outcomes(passed=2)


def test_a_fixture_can_use_the_session_or_is_told_that_it_cannot(suite):
    result = suite("""
        @pytest.fixture
        def service(rt_session):
            return rt_session

        async def test_it(service, rt_session):
            assert service.identifier == rt_session.identifier

        @pytest.fixture
        def early(rt_session):
            return rt_session.identifier

        async def test_early(early): pass
    """)
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*rt_session is open while the test runs, and not yet in its fixtures*"])


def test_arguments_that_are_no_fixtures_are_left_to_whoever_gives_them(suite):
    result = suite("""
        from unittest import mock

        @mock.patch("os.getcwd")
        async def test_patched(getcwd, rt_session):
            assert isinstance(getcwd, mock.Mock)

        async def test_with_default(rt_session, n=3):
            assert n == 3
    """)
    result.assert_outcomes(passed=4)


# ---- the clock, and the backend


def test_the_clock_by_itself(suite):
    result = suite("""
        async def test_time(virtual_clock):
            started = anyio.current_time()
            assert virtual_clock.now == 0
            await anyio.sleep(3600)
            virtual_clock.jump(60)
            assert virtual_clock.now == 3660
            assert anyio.current_time() - started == pytest.approx(3660)
            with pytest.raises(rt.exceptions.ContextError):
                rt.context.get("a")

        async def test_jump_past_a_deadline(virtual_clock):
            with anyio.move_on_after(5) as scope:
                virtual_clock.jump(6)
                await anyio.sleep(1)
            assert scope.cancelled_caught
            assert virtual_clock.now == 6

        async def test_clock_of_a_session(rt_session, virtual_clock):
            await rt.call(child, 2)
            assert virtual_clock.now == 2
            assert rt_session.info.records[0].ended == 2
    """)
    result.assert_outcomes(passed=6)


BACKEND = """
@pytest.fixture(scope="{scope}")
def rt_backend():
    return "trio"
"""
ONE_EACH = """
async def test_session(rt_session, rt_backend):
    assert rt_backend == "trio"
    assert sys.modules["trio"].lowlevel.in_trio_run()

async def test_clock(virtual_clock):
    assert sys.modules["trio"].lowlevel.in_trio_run()

def test_simulated(simulated):
    assert simulated(child, 1).backend == "trio"
"""


@pytest.mark.parametrize("scope", ["module", "session"])
def test_one_backend_by_the_conftest(suite, scope):
    suite(ONE_EACH, conftest="import pytest" + BACKEND.format(scope=scope)).assert_outcomes(passed=3)


def test_one_backend_in_a_module(suite):
    suite(BACKEND.format(scope="module") + ONE_EACH).assert_outcomes(passed=3)


def test_one_backend_for_one_test(suite):
    one = '@pytest.mark.parametrize("rt_backend", ["trio"], scope="module")\n'
    suite(re.sub(r"(?m)^(?=async def|def)", one, ONE_EACH)).assert_outcomes(passed=3)


def test_a_backend_that_there_is_not(suite):
    result = suite(BACKEND.format(scope="module").replace("trio", "curio") + "async def test_it(rt_session): pass")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*ConfigError: backend is 'curio'; give 'asyncio' or 'trio'")


# ---- simulated


def test_a_flow_is_simulated_on_both_backends(suite):
    result = suite("""
        from railtracks.testing import faults
        backends = []

        @pytest.mark.parametrize("seconds", [1, 2])
        def test_runs(simulated, seconds):
            outcome = simulated(rt.Flow("flow", parent), seconds, 1, seed=2, timeout=9)
            assert (outcome.result, outcome.duration, outcome.seed) == ([seconds, 1], seconds + 1, 2)
            backends.append(outcome.backend)

        def test_an_error_is_in_the_outcome(simulated):
            assert isinstance(simulated(child, 3).exception, ValueError)

        def test_faults(simulated):
            fault = faults.Fault("child", faults.Raise(KeyError("k")))
            assert isinstance(simulated(parent, 1, faults=[fault]).exception, KeyError)

        def test_both():
            assert sorted(backends) == ["asyncio", "asyncio", "trio", "trio"]
    """)
    result.assert_outcomes(passed=9)


def test_the_promise_is_checked(suite):
    result = suite("""
        @rt.function_node
        async def forgets():
            threading.Thread(target=threading.Event().wait, args=(2,), name="stray", daemon=True).start()

        def test_breaks(simulated):
            simulated(forgets)
    """)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*Violation: *stray*")


def test_simulated_goes_with_hypothesis(suite):
    result = suite("""
        from hypothesis import given, settings
        from railtracks.testing import strategies as s

        @settings(max_examples=5, database=None)
        @given(flow=s.flows(), seed=s.seeds())
        def test_any(flow, simulated, seed):
            simulated(flow, seed=seed)

        @pytest.mark.parametrize("extra", [1, 2])
        class TestClass:
            @settings(max_examples=5, database=None)
            @given(seed=s.seeds())
            def test_method(self, simulated, seed, extra):
                assert simulated(child, extra, seed=seed).result == extra
    """)
    assert set(result.parseoutcomes()) == {"passed"}
    assert result.parseoutcomes()["passed"] == 6
    result.stdout.no_fnmatch_line("*HealthCheck*")


def test_simulated_in_an_async_test_is_told_what_to_write(suite):
    result = suite("async def test_it(simulated):\n    simulated(child, 1)")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*SessionError: *call this from a plain `def`, not from an `async def`")


# ---- what others run


def test_async_tests_of_others_are_left_alone(suite):
    result = suite("""
        async def test_nobody_runs_this():
            pass

        @pytest.mark.anyio
        async def test_of_anyio(anyio_backend_name):
            assert anyio.get_current_task().name
            started = time.monotonic()
            await anyio.sleep(0.01)
            assert time.monotonic() - started > 0.005

        async def test_of_ours(rt_session):
            await rt.call(child, 60)
    """)
    result.assert_outcomes(failed=1, passed=4)
    result.stdout.fnmatch_lines("*async def functions are not natively supported*")


@pytest.mark.parametrize("how", ["mark", "anyio_mode"])
def test_in_a_suite_of_anyio_a_test_with_a_session_is_ours(suite, how):
    code = """
        async def test_it(rt_session):
            assert rt_session is not None
            assert await rt.call(child, 60) == 60
    """
    if how == "mark":
        result = suite("pytestmark = pytest.mark.anyio\n" + textwrap.dedent(code))
    else:
        result = suite(code, "-o", "anyio_mode=auto")
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}


def test_without_the_plugin(suite):
    result = suite("def test_plain(): pass\ndef test_fixture(rt_backend): pass", "-p", "no:railtracks")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("*fixture 'rt_backend' not found")


# ---- how a test ends


def test_skips_and_failures_of_an_async_test_come_out_as_they_are(suite):
    result = suite(
        """
        @rt.function_node
        async def skips():
            pytest.skip("in a node")

        async def test_skip(rt_session): pytest.skip("a reason")
        async def test_skip_in_a_node(rt_session): await rt.call(skips)
        async def test_xfail(rt_session): pytest.xfail("known")
        @pytest.mark.xfail(raises=ValueError)
        async def test_xfail_mark(rt_session): await rt.call(child, 3)
        async def test_fail(rt_session): pytest.fail("the text")
        async def test_fail_without_session(virtual_clock): pytest.fail("the text")
        async def test_assert(rt_session): assert [1, 2] == [1, 3]
        """,
        "-rsxX",
    )
    result.assert_outcomes(skipped=4, xfailed=4, failed=6)
    result.stdout.fnmatch_lines(["SKIPPED *a reason", "SKIPPED *in a node", "XFAIL *known"])
    assert "Failed: the text" in result.stdout.str()
    assert "At index 1 diff: 2 != 3" in result.stdout.str()
    assert "ExceptionGroup" not in result.stdout.str()


@pytest.mark.parametrize(
    "body",
    [
        "raise KeyboardInterrupt",
        "async with anyio.create_task_group(): raise KeyboardInterrupt",
    ],
    ids=["plain", "in-a-group"],
)
def test_ctrl_c_ends_the_run(suite, backend, body):
    code = f"async def test_it(rt_session):\n    {body}\ndef test_never(): pass"
    result = suite(code, "-k", f"{backend} or never", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines("*KeyboardInterrupt*")
    assert "passed" not in result.parseoutcomes()


def test_pytest_exit_ends_the_run(suite):
    result = suite("async def test_it(rt_session):\n    pytest.exit('enough', returncode=7)")
    assert result.ret == 7
    result.stdout.fnmatch_lines("*Exit: enough*")


# ---- the report of a failure

FAILED_CALLS = [
    "session {}",
    "└─ parent  Failed  4.000 s (own 0.000 s)  ValueError('three')",
    "   ├─ child  Completed  1.000 s",
    "   └─ child  Failed  3.000 s  ValueError('three')",
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
    seconds = re.compile(r"\d\.\d{3}")
    assert lines[0].startswith("session ")
    assert [seconds.sub("_", line) for line in lines[1:]] == [seconds.sub("_", line) for line in FAILED_CALLS[1:]]


def test_a_failure_shows_the_latest_three_sessions_that_made_calls(suite):
    result = suite(f"""
        async def test_it(virtual_clock):
            for number in range(5):
                async with rt.Session(name=f"number {{number}}", {QUIET}):
                    await rt.call(child, number * 10)
            assert False
    """)
    result.assert_outcomes(failed=2)
    assert [lines[0] for lines in sections(result)] == [f"session number {number}" for number in (2, 3, 4)] * 2


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
    assert sections(result) == [["session s0", "└─ child  Cancelled (outside)  1.000 s"]] * 2


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
    assert "\x1b[31mparent  Failed  4.000 s" in text
    assert "\x1b[32mchild  Completed  1.000 s" in text


def test_without_rich_the_calls_are_plain(suite, monkeypatch):
    for name in ("rich", "rich.console", "rich.text"):
        monkeypatch.setitem(sys.modules, name, None)
    result = suite("async def test_it(rt_session):\n    await rt.call(parent, 1, 3)", "--color=yes")
    result.assert_outcomes(failed=2)
    assert "   ├─ child  Completed  1.000 s" in result.outlines


def test_long_lines_stay_whole_in_colour(suite):
    result = suite(
        """
        @rt.function_node(name="n" * 100)
        async def long():
            raise ValueError("e " * 60)

        async def test_it(rt_session):
            await rt.call(long)
        """,
        "--color=yes",
    )
    (line, _) = [each for each in result.outlines if "n" * 100 in each and "Failed" in each]
    assert "ValueError" in line


def test_a_failure_where_there_is_no_terminal(pytester):
    pytester.makepyfile("def test_it():\n    assert False")
    assert pytester.inline_run("-p", "no:terminal").ret == pytest.ExitCode.TESTS_FAILED


# ---- leaks

LEAKS = f"""
async def forgotten():
    await asyncio.sleep(1000)

@pytest.fixture(scope="module")
def later():
    "Ended when all tests are over."
    events = []
    yield events
    for event in events:
        event.set()

def stray(ended):
    threading.Thread(target=ended.wait, args=(20,), name="stray").start()

def test_session():
    async def main():
        await rt.Session(name="unended", {QUIET}).__aenter__()
    asyncio.run(main())

def test_task():
    async def main():
        main.task = asyncio.create_task(forgotten())
        await asyncio.sleep(0)
    asyncio.run(main())

def test_thread(later):
    ended = threading.Event()
    later.append(ended)
    stray(ended)

@pytest.mark.parametrize("rt_backend", ["asyncio"])
async def test_task_beside_a_session(rt_session, later):
    later.append(type("", (), dict(task=asyncio.create_task(forgotten()), set=lambda self: None))())
    await asyncio.sleep(0)
"""


def test_what_a_test_leaves_behind_fails_it(suite):
    result = suite(LEAKS, "--railtracks-leaks")
    result.assert_outcomes(passed=4, errors=4)
    left = left_behind(result)
    assert left.pop("test_session") == "the session unended"
    assert left.pop("test_thread") == "the thread stray"
    assert re.fullmatch(r"a task that waits in forgotten \(test_it\.py:\d+\)", left.pop("test_task"))
    assert left.pop("test_task_beside_a_session[asyncio]").startswith("a task that waits in forgotten (test_it.py:")
    assert not left


def test_a_task_that_is_left_is_told_once(suite):
    left = left_behind(suite(LEAKS, "--railtracks-leaks", "-k", "beside"))
    assert left["test_task_beside_a_session[asyncio]"].count("forgotten") == 1


def test_without_the_option_nothing_of_it_fails(suite):
    suite(LEAKS).assert_outcomes(passed=4)


def test_what_is_cleaned_up_in_time_is_no_leak(suite):
    result = suite(
        f"""
        from concurrent.futures import ThreadPoolExecutor

        @pytest.fixture
        def opened():
            session = rt.Session({QUIET})
            yield session
            session.__exit__(None, None, None)

        @pytest.fixture
        def ended():
            event = threading.Event()
            yield event
            event.set()

        def test_session(opened):
            opened.__enter__()
            assert rt.call_sync(child, 0) == 0

        def test_thread(ended):
            threading.Thread(target=ended.wait, args=(20,)).start()

        def test_pools():
            async def work():
                await anyio.to_thread.run_sync(threading.get_ident)
            anyio.run(work)
            anyio.run(work, backend="trio")
            test_pools.pool = ThreadPoolExecutor(1)
            test_pools.pool.submit(threading.get_ident).result()

        @rt.function_node
        def in_thread():
            return threading.get_ident()

        async def test_ours(rt_session):
            assert await rt.call(in_thread) != threading.get_ident()
            rt_session.start_soon(child, 5)

        def test_invoke():
            assert rt.Flow("flow", parent, {QUIET}).invoke(0) == [0]

        def test_simulated(simulated):
            simulated(in_thread)

        async def test_awaited(virtual_clock, rt_backend):
            if rt_backend == "asyncio":
                task = asyncio.create_task(asyncio.sleep(5))
                task.add_done_callback(lambda _: None)
                await task
        """,
        "--railtracks-leaks",
    )
    result.assert_outcomes(passed=10)


def test_a_failing_test_that_leaves_something_is_told_both(suite):
    result = suite(LEAKS.replace("    stray(ended)", "    stray(ended)\n    assert 0"), "--railtracks-leaks")
    result.assert_outcomes(passed=3, failed=1, errors=4)


# ---- what it costs, and where it shows


def test_a_session_builds_no_events_for_it(suite):
    result = suite(f"""
        def test_plain():
            with rt.Session({QUIET}) as session:
                assert not session._coordinator.publisher.watches_calls

        async def test_ours(rt_session):
            assert not rt_session._coordinator.publisher.watches_calls
    """)
    result.assert_outcomes(passed=3)


def test_pytest_tells_of_it(suite):
    suite("", "--help").stdout.fnmatch_lines(["railtracks:", "*--railtracks-leaks*fail each test that leaves*"])
    suite("", "--markers").stdout.fnmatch_lines("@pytest.mark.railtracks(seed=None, [*][*]options): *")
    told = suite("", "--fixtures")
    for name in ("rt_backend", "virtual_clock", "rt_session", "simulated"):
        told.stdout.re_match_lines(rf"{name}( \[module scope\])? -- .*pytest_plugin\.py")
    assert "no docstring available" not in told.stdout.str().partition("railtracks.pytest_plugin")[2][:2000]


def test_the_mark_is_known_to_a_strict_suite(suite):
    result = suite(
        "@pytest.mark.railtracks(timeout=1)\nasync def test_it(rt_session): pass", "--strict-markers", "-W", "error"
    )
    result.assert_outcomes(passed=2)


def test_importing_it_imports_no_event_loop():
    code = "import sys, railtracks.pytest_plugin; print(*{'asyncio', 'trio', 'hypothesis', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


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


def test_these_suites_leave_nothing_in_this_process():
    assert current.get() is None
