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


def test_simulated_in_an_async_test_says_what_to_write(suite):
    result = suite("async def test_it(simulated):\n    simulated(child, 1)")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines("*SessionError: *call this from a plain `def`, not from an `async def`")
