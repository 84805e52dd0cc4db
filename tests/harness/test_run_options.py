"""The options of a simulation: declared and checked in one place, and repeated by the code of its outcome."""

from __future__ import annotations

import inspect

import anyio
import attrs
import pytest
import sniffio

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import (
    ClockHeldError,
    VirtualClock,
    compare,
    explore,
    replay,
    resume,
    run,
    simulate,
    sweep,
)
from railtracks.testing._simulation._options import SimulationOptions
from railtracks.testing._sweep_options import SweepOptions
from railtracks.testing._virtual_time._run_options import RunOptions
from railtracks.testing.faults import Delay, Fault, Kill
from railtracks.testing.strategies import fault_plans


@rt.function_node
async def node():
    await anyio.sleep(3)


def test_options_of_a_sweep_have_the_defaults_of_its_arguments():
    parameters = inspect.signature(sweep).parameters
    declared = {field.name: field.default for field in attrs.fields(SweepOptions)}
    assert declared == {name: parameters[name].default for name in declared}


@pytest.mark.either_backend
@pytest.mark.parametrize(("function", "options"), [(simulate, SimulationOptions), (run, RunOptions)])
def test_options_are_declared_once_with_their_defaults(function, options):
    parameters = inspect.signature(function).parameters.values()
    given = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    if function is simulate:
        assert given["backend"] is None  # the flow decides, and the options have what it has decided
        given["backend"] = "asyncio"
    assert given == {field.name: field.default for field in attrs.fields(options)}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seed": None}, "seed is None; use a whole number"),
        ({"seed": True}, "seed is True; use a whole number"),
        ({"backend": "curio"}, "backend is 'curio'; use 'asyncio' or 'trio'"),
        ({"clock": 3}, "clock is 3; use a VirtualClock"),
        ({"max_steps": 0}, "max_steps is 0; use a whole number of at least 1"),
        ({"max_total_steps": 0}, "max_total_steps is 0; use a whole number of at least 1"),
        ({"patience": -1}, "patience is -1; use a number of real seconds of at least 0"),
        ({"patience": "long"}, "patience is 'long'; use a number"),
        ({"clock": VirtualClock(), "patience": 3}, r"patience=3 .* clock=VirtualClock\(patience=3\)"),
        ({"clock": VirtualClock(), "max_steps": 3}, "max_steps=3 is given beside clock"),
        ({"clock": VirtualClock(), "max_total_steps": 3}, "max_total_steps=3 is given beside clock"),
    ],
)  # fmt: skip
@pytest.mark.either_backend
def test_a_wrong_option_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        simulate(node, **options)


def test_the_code_of_an_outcome_repeats_all_options(backend):
    faults = [Fault("node", Delay(1))]
    outcome = simulate(node, seed=3, backend=backend, faults=faults, max_steps=10_000, patience=5, timeout=9)
    assert outcome.code == (
        f"simulate(node, seed=3, backend={backend!r}, faults={faults!r}, max_steps=10000, patience=5, timeout=9)"
    )
    again = eval(outcome.code, {**globals()})
    assert again.story == outcome.story
    assert (again.seed, again.backend, again.faults, again.max_steps) == (3, backend, tuple(faults), 10_000)


def test_a_run_takes_place_on_the_clock_of_the_user(backend):
    clock = VirtualClock(max_steps=9_000)
    outcome = simulate(node, backend=backend, clock=clock)
    assert clock.now == 3
    assert outcome.max_steps == 9_000
    assert "clock=VirtualClock(max_steps=9000)" in outcome.code
    with pytest.raises(ConfigError, match="a VirtualClock can be used for one run only"):
        simulate(node, backend=backend, clock=clock)


def test_patience_is_an_option(backend):
    clocks = []

    @rt.function_node
    async def held():
        with clocks[0].hold():
            await anyio.sleep(1)

    clocks.append(VirtualClock(patience=0.05))
    with pytest.raises(ClockHeldError, match=r"for 0\.05 s of real time"):
        simulate(held, backend=backend, clock=clocks[0])


# ---- the backend

OTHER = {"asyncio": "trio", "trio": "asyncio"}


def flow_on(backend, seen=None):
    """Return a flow that notes on which backends it has run."""
    seen = [] if seen is None else seen

    @rt.function_node
    async def library():
        seen.append(sniffio.current_async_library())
        await rt.call(node)

    return rt.Flow("Library", library, backend=backend), seen


def test_a_flow_runs_on_its_own_backend(backend, tmp_path):
    flow, seen = flow_on(backend)
    outcome = simulate(flow, faults=[Kill(3)])
    assert (outcome.backend, outcome.run_options.backend) == (backend, backend)
    assert f"backend={backend!r}" in outcome.code
    assert resume(outcome).backend == backend
    outcome.save_replay(tmp_path / "run.json")
    assert replay(tmp_path / "run.json", flow).backend == backend
    assert sweep(flow, kills=False, pairs=0, exceptions=[], max_runs=5).clean.backend == backend
    explore(flow, max_runs=2)
    compare(flow, flow, seeds=[0])
    fault_plans(like=flow)
    assert {*seen} == {backend}


def test_a_backend_that_is_given_wins(backend, tmp_path):
    flow, seen = flow_on(OTHER[backend])
    outcome = simulate(flow, backend=backend)
    outcome.save_replay(tmp_path / "run.json")
    assert replay(tmp_path / "run.json", flow).backend == backend
    assert resume(simulate(flow, backend=backend, faults=[Kill(3)])).backend == backend
    sweep(flow, kills=False, pairs=0, exceptions=[], max_runs=5, backend=backend)
    explore(flow, max_runs=2, backend=backend)
    compare(flow, flow, seeds=[0], backend=backend)
    assert {*seen} == {backend}


@pytest.mark.either_backend
def test_each_version_is_compared_on_its_own_backend():
    (old, first), (new, second) = flow_on("trio"), flow_on("asyncio")
    compare(old, new, seeds=[0]).check()
    assert (first, second) == (["trio"], ["asyncio"])


def test_without_one_it_is_the_configured_backend(backend):
    flow, seen = flow_on(None)
    assert simulate(node).backend == simulate(flow).backend == "asyncio"
    seen.clear()
    rt.set_config(backend=backend)
    assert simulate(node).backend == simulate(flow).backend == backend
    flow.invoke()
    assert seen == [backend, backend]
