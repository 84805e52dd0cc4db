"""The records of a resumed run, and reused calls as subscribers, the log and the saved state show them."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.state import CallCreated, CallSucceeded, Status
from tests.durability.world import FOLDER, failing, failing_once, flow_of, resumed, shape


async def test_the_state_holds_whole_subtrees_of_what_was_reused(world):
    async def deep(level):
        if level:
            return [await rt.call(deep, level - 1), await rt.call(world.step, level)]
        return "bottom"

    async def main():
        results = await rt.call_batch(deep, [2, 3])
        await rt.call(world.step, "last")
        return results

    whole = flow_of(main, run_identifier="whole").connect()
    await whole.ainvoke()
    flow = flow_of(main)
    await failing_once(flow, world, "last")
    _, session = await resumed(flow)
    assert world.ran() == ["last"]
    assert sorted(map(repr, shape(session.info))) == sorted(map(repr, shape(whole.session.info)))
    assert len(session.info.records) == 14
    assert [d.name for d in session.info.resumed] == ["main", "deep", "deep", "step"]


async def test_what_was_reused_keeps_the_times_it_had(world):
    world.delays["a"] = 3
    world.broken.add("b")
    flow = flow_of(world.steps)
    first = await failing(flow, "a", "b")
    world.broken.clear()
    await anyio.sleep(1000)
    _, session = await resumed(flow)
    old, new = first.info.records[1], session.info.records[1]
    for name in ("started", "ended"):
        before = getattr(old, name)
        assert getattr(new, name) == pytest.approx(before)
    node = session.info.node_forest.heap()["run-n1"]
    assert node.details["internals"]["latency"]["total_time"] == pytest.approx(3)


async def test_failure_that_a_completed_call_caught_stays_below_it(world):
    async def patient():
        try:
            return await rt.call(world.step, "bad")
        except ValueError:
            return await rt.call(world.step, "good")

    async def main():
        await rt.call(patient)
        return await rt.call(world.step, "last")

    world.broken.update({"bad", "last"})
    flow = flow_of(main)
    await failing(flow)
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow)
    assert world.ran() == ["last"]
    assert [r.status for r in session.info.records if r.parent == 1] == [Status.FAILED, Status.COMPLETED]


async def test_call_that_outlived_its_completed_caller_runs_again(world):
    """A call that still ran when its caller had completed runs again."""
    gone_on, groups = anyio.Event(), []

    async def background():
        world.note("background")
        await gone_on.wait()

    async def launch():
        groups[0].start_soon(rt.call, background)  # not an argument: a task group cannot be compared
        await anyio.sleep(1)

    async def main():
        async with anyio.create_task_group() as group:
            groups[:] = [group]
            await rt.call(launch)
            await rt.call(world.die)
            gone_on.set()
        return "done"

    flow = flow_of(main)
    await flow.ainvoke()
    assert world.ran() == ["background", "die"]
    result, session = await resumed(flow, "dead")
    assert result == "done"
    assert "background" in world.ran(), "it was running when the process died"
    assert all(record.status is not Status.OPEN for record in session.info.records)


async def test_subscribers_are_notified_of_reused_calls(world):
    world.broken.add("b")
    await failing(flow_of(world.steps), "a", "b")
    world.broken.clear()
    events = []
    session = rt.Session(resume="run")
    session.subscribe(events.append, kinds=(CallCreated, CallSucceeded))
    async with session:
        await rt.call(world.steps, "a", "b")
    assert [(type(e).__name__, e.node_id) for e in events] == [
        ("CallCreated", "run-n0"),
        ("CallCreated", "run-n1"),
        ("CallSucceeded", "run-n1"),
        ("CallCreated", "run-n2"),
        ("CallSucceeded", "run-n2"),
        ("CallSucceeded", "run-n0"),
    ]


async def test_log_names_reused_calls(world, caplog):
    world.broken.add("b")
    await failing(flow_of(world.steps), "a", "b")
    world.broken.clear()
    caplog.clear()
    await resumed(flow_of(world.steps, logging_setting="VERBOSE"))
    lines = [record.getMessage() for record in caplog.records]
    assert sum(text.startswith("steps CREATED step(") for text in lines) == 2
    assert (lines.count("step REUSED"), lines.count("step DONE")) == (1, 1)
    assert not any("overwriting" in text for text in lines)


async def test_session_that_resumes_nothing_makes_no_decisions(world):
    connection = flow_of(world.steps).connect()
    await connection.ainvoke("a")
    assert connection.session.info.resumed == []
    assert connection.session.resumes is None


async def test_the_decisions_are_in_the_saved_state_and_in_the_journal(world):
    async def main():
        await rt.call(world.steps, "a")
        await rt.call(world.die, "later")

    world.broken.add("b")
    flow = flow_of(main)
    await flow.ainvoke()
    _, session = await resumed(flow, "later")
    assert rt.ExecutionInfo.load(FOLDER / "later.json").resumed == session.info.resumed
    assert [(d.name, d.reused) for d in session.info.resumed] == [("main", False), ("steps", True), ("die", False)]


async def test_the_times_of_all_records_lie_in_those_of_their_session():
    """Those of calls that end at once too: recorded values, and a session that a call opens."""

    @rt.function_node
    async def step():
        rt.now()
        async with rt.Session(run_identifier="inner"):
            await rt.call(anyio.sleep, 1)

    async with rt.Session(run_identifier="outer") as session:
        await rt.call(step)
        rt.uuid4()
    info = session.info
    times = [time for record in info.records for time in (record.started, record.ended) if time is not None]
    assert len(times) == 8
    start, end = info.start_time, info.end_time
    assert start is not None
    assert end is not None
    assert all(start <= time <= end for time in times)
