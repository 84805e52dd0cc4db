"""The fixtures ``virtual_clock``, ``rt_backend`` and ``simulated``."""

from __future__ import annotations

import re

import pytest

# ---- virtual_clock and rt_backend


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
            record = rt_session.info.records[0]
            assert record.ended - record.started == 2
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
    result.stdout.fnmatch_lines("*ConfigError: backend is 'curio'; use 'asyncio' or 'trio'")


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

        def test_an_error_is_raised(simulated):
            with pytest.raises(ValueError, match="three"):
                simulated(child, 3)

        def test_an_error_that_is_expected_is_in_the_outcome(simulated):
            for raises in (ValueError, Exception, (KeyError, ValueError)):
                outcome = simulated(child, 3, raises=raises)
                assert isinstance(outcome.exception, ValueError)
                with pytest.raises(ValueError, match="three") as caught:
                    outcome.unwrap()
                assert caught.value is outcome.exception
            assert simulated(child, 1).unwrap() == 1

        def test_another_error_is_raised(simulated):
            with pytest.raises(ValueError, match="three"):
                simulated(child, 3, raises=KeyError)

        def test_faults(simulated):
            fault = faults.Fault("child", faults.Raise(KeyError("k")))
            assert isinstance(simulated(parent, 1, faults=[fault], raises=KeyError).exception, KeyError)

        def test_after_a_kill_the_outcome_is_returned(simulated):
            killed = simulated(parent, 1, faults=[faults.Kill(1)])
            assert simulated(parent, store=killed.store, resume=killed.info.session_id).result == [1]

        def test_both():
            assert sorted(backends) == ["asyncio", "asyncio", "trio", "trio"]
    """)
    result.assert_outcomes(passed=15)


def test_an_exit_that_is_expected_is_in_the_outcome(suite):
    result = suite("""
        @rt.function_node
        async def leave():
            raise SystemExit(3)

        def test_expected(simulated):
            assert simulated(leave, raises=SystemExit).exception.code == 3

        def test_not_expected(simulated):
            with pytest.raises(SystemExit):
                simulated(leave, raises=ValueError)
    """)
    result.assert_outcomes(passed=4)


def test_what_is_no_class_of_exceptions_is_refused_as_raises(suite):
    """It is refused before the run."""
    result = suite("""
        @rt.function_node
        async def never():
            raise AssertionError("it ran")

        @pytest.mark.parametrize("raises", ["ValueError", [ValueError], ValueError("x"), (ValueError, int), ()])
        def test_it(simulated, raises):
            with pytest.raises(rt.exceptions.ConfigError, match=r"simulated: raises=.* is not allowed; use a class of"):
                simulated(never, raises=raises)
    """)
    result.assert_outcomes(passed=10)


def test_what_is_expected_and_does_not_come_fails_the_test(suite):
    result = suite("""
        def test_it(simulated):
            simulated(child, 1, raises=ValueError)
    """)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*DID NOT RAISE <class 'ValueError'>: the run returned 1*")


def test_a_fault_that_was_never_used_fails_the_test(suite):
    result = suite("""
        from railtracks.testing import faults
        MISSPELT = faults.Fault("chidl", faults.Raise(KeyError("k")))

        def test_misspelt(simulated):
            simulated(parent, 1, faults=[MISSPELT])

        def test_allowed(simulated):
            assert simulated(parent, 1, faults=[MISSPELT], allow_unused_faults=True).unused_faults == (MISSPELT,)
    """)
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines("*Fault('chidl', * was never used; the run has called child, parent.*")


ENDINGS = """
    @rt.function_node
    async def in_group(end):
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, end)

    async def failing(): pytest.fail("bad")
    async def skipping(): pytest.skip("no database")
    async def expected(): pytest.xfail("known")
    def in_thread(): pytest.fail("bad")

    @pytest.mark.parametrize("nested", [False, True])
    class TestEndings:
        def run(self, simulated, end, nested):
            if nested:
                simulated(in_group, end)
            else:
                simulated(end)
        def test_fail(self, simulated, nested): self.run(simulated, failing, nested)
        def test_skip(self, simulated, nested): self.run(simulated, skipping, nested)
        def test_xfail(self, simulated, nested): self.run(simulated, expected, nested)
        def test_thread(self, simulated, nested): self.run(simulated, in_thread, nested)
"""


def test_what_pytest_raises_has_the_effect_that_it_has_elsewhere(suite):
    suite(ENDINGS).assert_outcomes(failed=8, skipped=4, xfailed=4)


def test_exit_ends_the_run(suite):
    result = suite("""
        async def leave(): pytest.exit("that is all")

        def test_it(simulated): simulated(leave)
        def test_never(simulated): pass
    """)
    result.stdout.fnmatch_lines("*Exit: that is all*")
    assert "passed" not in result.parseoutcomes()


def test_tests_in_virtual_time_write_no_files(suite, pytester):
    suite("""
        async def test_it(virtual_clock):
            flow = rt.Flow("Flow", parent, run_identifier="mine")
            assert await flow.ainvoke(1) == await flow.aresume("mine") == [1]
            assert rt.state.load_run("mine", flow=flow).answer == [1]
    """).assert_outcomes(passed=2)
    assert not (pytester.path / ".railtracks").exists()


def test_a_store_that_was_configured_is_used(suite, pytester):
    suite("""
        async def test_it(virtual_clock):
            rt.set_config(store="file:kept")
            await rt.Flow("Flow", parent, run_identifier="mine").ainvoke(1)
    """).assert_outcomes(passed=2)
    assert (pytester.path / "kept" / "mine.json").exists()


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
        from railtracks.testing import check, simulate, strategies as s

        @settings(max_examples=5, database=None)
        @given(flow=s.flows(), seed=s.seeds())
        def test_any(flow, simulated, seed):
            check(simulate(flow, seed=seed, backend=simulated.backend))

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


def test_simulated_in_an_async_test_says_what_to_write(suite):
    result = suite("async def test_it(simulated):\n    simulated(child, 1)")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*SessionError: *call this from a plain `def`, not from an `async def`")
