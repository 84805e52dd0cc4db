"""Resuming a run that ended in each possible way: done, failed, timed out, cancelled, or with its process."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import FatalError, GlobalTimeOutError
from railtracks.state import Reason, Status
from tests.durability.world import FOLDER, failing, flow_of, keep_journal, reasons, resumed, resumed_badly, shape


async def test_a_finished_run_runs_nothing_again(world):
    flow = flow_of(world.steps)
    connection = flow.connect()
    await connection.ainvoke("a", "b")
    world.ran()
    result, session = await resumed(flow)
    assert (result, world.ran()) == (["a!", "b!"], [])
    assert [(d.name, d.reused) for d in session.info.resumed] == [("steps", True)]
    assert shape(session.info) == shape(connection.session.info)
    assert session.info.earlier == ()
    assert (await resumed(flow))[0] == result
    assert world.ran() == []


async def test_after_a_timeout_what_was_cancelled_runs_again(world):
    world.hanging.add("b")
    with pytest.raises(GlobalTimeOutError):
        await flow_of(world.steps, timeout=60).ainvoke("a", "b")
    world.hanging.clear()
    world.ran()
    result, session = await resumed(flow_of(world.steps, timeout=60))
    assert (result, world.ran()) == (["a!", "b!"], ["b"])
    assert set(reasons(session.info).values()) == {"it had been cancelled"}


async def test_after_outside_cancellation_cancelled_calls_run_again(world):
    world.hanging.add("b")
    flow = flow_of(world.steps)
    with anyio.move_on_after(5):
        await flow.ainvoke("a", "b")
    world.hanging.clear()
    world.ran()
    assert (await resumed(flow))[0] == ["a!", "b!"]
    assert world.ran() == ["b"]


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_what_was_running_when_the_process_died_runs_again(world, durability):
    async def main():
        await rt.call(world.steps, "a", "b")
        await rt.call(world.die)
        return await rt.call(world.step, "c")

    flow = flow_of(main, durability=durability)
    await flow.ainvoke()
    assert world.ran() == ["a", "b", "die", "c"]
    known = rt.state.load_run("dead")
    assert [r.reason for r in known.records if r.status is Status.OPEN] == [Reason.PROCESS_DIED] * 2
    result, session = await resumed(flow, "dead")
    assert (result, world.ran()) == ("c!", ["die", "c"])
    assert reasons(session.info) == {
        "main": "it had not ended",
        "die": "it had not ended",
        "step": "it is not on record",
    }
    assert not (FOLDER / "dead.journal").exists()


async def test_death_within_the_journal_loses_only_what_comes_after(world):
    """A death between two frames of the journal, or in one, loses only what comes after."""

    async def main():
        result = await rt.call(world.steps, "a", "b", "c")
        keep_journal("whole")
        return result

    flow = flow_of(main)
    await flow.ainvoke()
    world.ran()
    whole = (FOLDER / "whole.journal").read_bytes()
    store = rt.state.FileStore()
    for size in range(whole.index(b'"main"') + 200, len(whole), 97):
        store.open("cut", whole[:size]).close()
        done = {r.args[0] for r in rt.state.load_run("cut").records if r.name == "step" and r.status == "Completed"}
        result, session = await resumed(flow, "cut")
        assert result == ["a!", "b!", "c!"]
        assert set(world.ran()) == {"a", "b", "c"} - done
        assert len(session.info.records) == 5
        store.remove("cut")


@pytest.mark.parametrize("end_on_error", [True, False])
async def test_a_run_that_an_error_ended_can_be_resumed(world, end_on_error):
    async def fatal():
        world.note("fatal")
        if world.broken:
            raise ValueError if end_on_error else FatalError("it is over")

    async def main():
        await rt.call(world.step, "a")
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, world.step, "slow")
            await rt.call(world.step, "b")
            await rt.call(fatal)
        return "done"

    world.delays.update(slow=9, b=1)
    world.broken.add("fatal")
    flow = flow_of(main, end_on_error=end_on_error)
    with pytest.raises((ValueError, FatalError)):
        await flow.ainvoke()
    assert sorted(world.ran()) == ["a", "b", "fatal", "slow"]
    world.broken.clear()
    result, session = await resumed(flow)
    assert result == "done"
    assert sorted(world.ran()) == ["fatal", "slow"]
    assert reasons(session.info)["fatal"] == "it had failed"
    assert reasons(session.info)["step"] == "it had been cancelled"


async def test_error_in_a_resumed_run_leaves_reused_calls_completed(world):
    """An error that ends a resumed run leaves what was reused completed."""
    world.broken.add("b")
    flow = flow_of(world.steps, end_on_error=True)
    await failing(flow, "a", "b")
    session = await resumed_badly(flow)
    assert [r.status for r in session.info.records] == [Status.FAILED, Status.COMPLETED, Status.FAILED]
