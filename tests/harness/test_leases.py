"""Leases that expire: a run that another machine has taken is written no more by the session that had it."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError, RunInUseError, RunLostError
from railtracks.state import Status
from railtracks.testing import check, simulate
from railtracks.testing.faults import FailSave, LeaseStore, LoseLease
from railtracks.testing.strategies import backends, fault_plans, flows, seeds
from tests import virtual


@rt.function_node
async def step(number):
    await anyio.sleep(10)
    return number


@rt.function_node
async def steps(count):
    return [await rt.call(step, number) for number in range(count)]


# ---- a fault of simulate


@pytest.mark.parametrize("durability", ["async", "sync"])
@pytest.mark.parametrize("on_write_error", ["continue", "stop"])
@pytest.mark.parametrize("after", range(9))
def test_a_session_whose_run_is_taken_ends_and_writes_nothing(backend, after, on_write_error, durability):
    outcome = simulate(
        steps, 5, backend=backend, faults=[LoseLease(after)], durability=durability, on_write_error=on_write_error
    )
    check(outcome)
    if outcome.unused_faults:
        assert outcome.unwrap() == [0, 1, 2, 3, 4]
        return
    assert isinstance(outcome.exception, RunLostError)
    stored = outcome.store.read(outcome.info.session_id)
    assert stored is None or stored.document is None
    assert not outcome.store.is_locked(outcome.info.session_id)
    for record in outcome.info.records:
        assert record.status in (Status.COMPLETED, Status.CANCELLED) or record.exception is outcome.exception


def test_its_repr_is_the_code_that_makes_it():
    assert repr(LoseLease(3)) == "LoseLease(3)"
    assert eval(repr(LoseLease(3))) == LoseLease(3)


def test_it_goes_with_other_faults_of_the_store(backend):
    check(simulate(steps, 3, backend=backend, faults=[LoseLease(4), FailSave()]))


# ---- a store whose leases expire


async def run(store, count, resume=None):
    session = rt.Session(store=store, run_identifier="run", if_exists="resume", timeout=1000, logging_setting="NONE")
    async with session:
        return await session.call(steps, count)


@pytest.mark.parametrize("pause", [35, 38, 45])
def test_another_machine_goes_on_when_the_lease_has_expired(backend, pause):
    here = LeaseStore(lease=20)
    there = here.machine()
    seen: dict[str, object] = {}

    async def first():
        with pytest.raises(RunLostError, match="does not have the run 'run' any more"):
            await run(here, 10)

    async def main():
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await anyio.sleep(15)
            here.cut_off()
            await anyio.sleep(19)
            with pytest.raises(RunInUseError, match="20 s"):
                await run(there, 10)
            await anyio.sleep(began + pause - anyio.current_time())
            seen["result"] = await run(there, 10)
        return rt.state.load_run("run", there)

    info = virtual.run(backend, main)
    assert seen["result"] == list(range(10))
    assert here.refused
    assert not there.refused
    assert {record.status for record in info.records} == {Status.COMPLETED}
    assert [record.result for record in info.records if record.name == "step"] == list(range(10))
    assert not here.is_locked("run")


def test_a_machine_that_is_back_notices_what_it_has_lost(backend):
    here = LeaseStore(lease=20)
    there = here.machine()

    async def main():
        lock = here.lock("run")
        lost = []
        lock.on_lost = lost.append
        here.cut_off()
        await anyio.sleep(19)
        here.reconnect()
        assert not lost
        here.cut_off()
        await anyio.sleep(20)
        there.lock("run")
        assert not lost
        here.reconnect()
        assert isinstance(lost[0], RunLostError)
        lock.release()
        assert there.is_locked("run")

    virtual.run(backend, main)


def test_a_lease_that_is_no_time_is_refused():
    with pytest.raises(ConfigError, match="LeaseStore: lease is -1; expected seconds, 0 or more"):
        LeaseStore(lease=-1)


@given(
    flows(),
    fault_plans(lease=True, hang=True, returns={None: None}),
    st.sampled_from(["async", "sync"]),
    seeds(),
    backends(),
)
def test_any_flow_keeps_the_promise_when_its_run_is_taken(flow, faults, durability, seed, backend):
    check(simulate(flow, seed=seed, backend=backend, faults=faults, durability=durability))
