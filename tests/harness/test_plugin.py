"""``rt_session``, and how the plugin gets on with pytest, anyio and other suites."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from railtracks._context_variable import current
from tests.harness.suites import QUIET

# ---- rt_session


def test_an_async_test_runs_in_virtual_time_on_both_backends(suite):
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


def test_the_mark_sets_the_options_of_the_session(suite):
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


@pytest.mark.parametrize("fixture", ["rt_session", "virtual_clock"])
def test_a_sync_test_with_a_session_says_what_to_write(suite, fixture):
    result = suite(f"def test_sync({fixture}): pass", "-k", "asyncio")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        f"*test_sync?asyncio? uses {fixture}, which needs an event loop; write `async def`, or use `simulated`"
    )


def test_a_fixture_of_a_sync_test_may_have_the_clock(suite):
    result = suite("""
        pytestmark = pytest.mark.usefixtures("virtual_clock")

        @pytest.fixture
        def service(virtual_clock):
            return [virtual_clock]

        def test_sync(service):
            assert service
    """)
    result.assert_outcomes(passed=2)


def test_a_test_that_would_hang_fails_and_says_where_it_waits(suite):
    result = suite("async def test_hangs(rt_session):\n    await anyio.Event().wait()")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*Deadlock: at 0 s of virtual time nothing can run*", "*waiting: test_hangs (test_it*"]
    )


def test_a_violation_is_shown_without_the_code_of_check(suite):
    result = suite("""
        from railtracks.testing import check, simulate

        async def three():
            return 3

        def four(outcome):
            assert outcome.result == 4

        def test_four():
            check(simulate(three), four)
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*check(simulate(three), four)", "*simulate(three, seed=0*"])
    result.stdout.no_fnmatch_line("*in check*")


def test_a_test_that_would_spin_fails_and_says_where(suite):
    result = suite("async def test_spins(rt_session):\n    while True:\n        await anyio.sleep(0)")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*Livelock: at 0 s of virtual time tasks run on*", "*running: test_spins (test_it*"])


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


def test_a_fixture_can_hold_the_session_and_not_use_it(suite):
    """The session is open only while the test runs."""
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
    result.stdout.fnmatch_lines(["*rt_session is open only while the test runs; use it in the test, not in fixtures*"])


def test_arguments_that_are_not_fixtures_are_left_alone(suite):
    """Such as those of ``mock.patch``, and those with a default."""
    result = suite("""
        from unittest import mock

        @mock.patch("os.getcwd")
        async def test_patched(getcwd, rt_session):
            assert isinstance(getcwd, mock.Mock)

        async def test_with_default(rt_session, n=3):
            assert n == 3
    """)
    result.assert_outcomes(passed=4)


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


@pytest.mark.parametrize("scope", ["function", "module"])
def test_an_async_fixture_of_anyio_is_refused_by_its_name(suite, scope):
    code = f"""
        @pytest.fixture(scope="{scope}")
        async def database():
            yield 1

        async def test_first(database, rt_session): ...
        async def test_second(database, virtual_clock): ...
        async def test_alone(database): assert database == 1
        async def test_without(rt_session): ...
    """
    result = suite(code, "-o", "anyio_mode=auto", "-p", "no:asyncio", "-p", "no:trio")
    # The fixture of a module keeps the event loop open for the last test, too.
    result.assert_outcomes(**({"failed": 8, "passed": 6} if scope == "function" else {"failed": 12, "passed": 2}))
    result.stdout.fnmatch_lines(
        "*database is an async fixture, for which the plugin of anyio*anyio_mode=auto*`async w*"
    )
    result.stdout.no_fnmatch_line("*Already running*")


def test_without_the_plugin(suite):
    result = suite("def test_plain(): pass\ndef test_fixture(rt_backend): pass", "-p", "no:railtracks")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines("*fixture 'rt_backend' not found")


# ---- how a test ends


def test_skips_and_failures_of_async_tests_come_out_unchanged(suite):
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


# ---- what it costs, and what pytest shows of it


def test_a_session_builds_no_events_for_it(suite):
    result = suite(f"""
        def test_plain():
            with rt.Session({QUIET}) as session:
                assert not session._coordinator.publisher.watches_calls

        async def test_ours(rt_session):
            assert not rt_session._coordinator.publisher.watches_calls
    """)
    result.assert_outcomes(passed=3)


def test_the_help_of_pytest_describes_the_plugin(suite):
    suite("", "--help").stdout.fnmatch_lines(["railtracks:", "*--railtracks-leaks*fail each test that leaves*"])
    suite("", "--markers").stdout.fnmatch_lines("@pytest.mark.railtracks(seed=None, *, [*][*]options): *")
    listed = suite("", "--fixtures")
    for name in ("rt_backend", "virtual_clock", "rt_session", "simulated"):
        listed.stdout.re_match_lines(rf"{name}( \[module scope\])? -- .*pytest_plugin.__init__\.py")
    assert "no docstring available" not in listed.stdout.str().partition("railtracks.pytest_plugin")[2][:2000]


def test_the_mark_is_known_to_a_strict_suite(suite):
    result = suite(
        "@pytest.mark.railtracks(timeout=1)\nasync def test_it(rt_session): pass", "--strict-markers", "-W", "error"
    )
    result.assert_outcomes(passed=2)


def test_importing_it_imports_no_event_loop():
    code = "import sys, railtracks.pytest_plugin; print(*{'asyncio', 'trio', 'hypothesis', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""


def test_these_suites_leave_nothing_in_this_process():
    assert current.get() is None


def test_hypothesis_draws_examples_for_an_async_test(suite):
    """Each example has a session and a clock of its own."""
    result = suite("""
        from hypothesis import given, settings, strategies as st
        seen = []

        @settings(max_examples=5, database=None)
        @given(seconds=st.integers(4, 99))
        async def test_any(rt_session, virtual_clock, rt_backend, seconds):
            assert virtual_clock.now == 0
            assert await rt.call(child, seconds) == seconds
            assert virtual_clock.now == seconds
            assert len(rt_session.info.records) == 1
            seen.append(rt_backend)

        class TestClass:
            @settings(max_examples=3, database=None)
            @given(st.integers(4, 99))
            async def test_method(self, rt_session, seconds):
                await rt.call(child, seconds)

        @settings(max_examples=50, database=None)
        @given(seconds=st.sampled_from([1, 2, 3]))
        async def test_fails(rt_session, seconds):
            await rt.call(child, seconds)

        def test_both():
            assert seen.count("asyncio") == seen.count("trio") == 5
    """)
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(["*ValueError: three*", "*Failing test case: test_fails(*"])
    result.stdout.no_fnmatch_line("*HealthCheck*")


def test_the_mark_says_in_which_world_a_test_runs(suite):
    result = suite(
        """
        import pytest

        @pytest.mark.railtracks(world="virtual", seed=3, start=7)
        async def test_virtual(virtual_clock):
            assert time.time() == 1e9 and time.monotonic() == 7

        async def test_real(virtual_clock):
            assert time.time() > 1.5e9

        def test_simulated(simulated):
            @rt.function_node
            async def clock():
                return time.time()
            assert simulated(clock).result == 1e9
            assert simulated(clock, world="real").result > 1.5e9
        """
    )
    result.assert_outcomes(passed=6)


def test_the_mark_has_the_options_of_the_clock(suite):
    result = suite(
        """
        import pytest

        @pytest.mark.railtracks(max_total_steps=20_000, max_steps=5_000, patience=3, timeout=9_000)
        async def test_beats(virtual_clock, rt_session):
            assert (virtual_clock.max_steps, virtual_clock.patience) == (5_000, 3)
            assert rt_session.executor_config.timeout == 9_000
            while True:
                await anyio.sleep(1)
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*EndlessRun: at * s of virtual time the run has taken 20_000 steps*"])
