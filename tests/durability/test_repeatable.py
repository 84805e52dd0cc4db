"""``rt.now``, ``rt.uuid4``, ``rt.random`` and ``rt.sleep``: a resumed run sees what it saw before."""

from __future__ import annotations

import datetime
import uuid

import anyio
import pytest

import railtracks as rt
from railtracks import testing
from tests.durability.world import flow_of, keep_journal, resumed

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Crash(Exception):
    pass


def values():
    return rt.now(), rt.uuid4(), rt.random().random(), rt.random().random()


@rt.function_node
async def in_task():
    return values()


@rt.function_node
def in_thread():
    return values()


@pytest.mark.parametrize("node", [in_task, in_thread], ids=lambda node: node.name)
@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_resumed_run_gets_the_same_values(node, durability):
    seen = []

    @rt.function_node
    async def main():
        seen.append((values(), await rt.call(rt.function_node(node.func, name="inner", memo=False))))
        if len(seen) == 1:
            raise Crash
        return "done"

    with pytest.raises(Crash):
        await flow_of(main, durability=durability).ainvoke()
    result, session = await resumed(flow_of(main, durability=durability))
    assert result == "done"
    assert seen[0] == seen[1]
    assert [d.name for d in session.info.resumed if not d.reused] == ["main", "inner"]


async def test_values_are_what_they_are_said_to_be():
    async with rt.Session(save_state=False):
        now, unique, first, second = await rt.call(in_task)
    assert now.tzinfo is datetime.UTC
    assert abs(now.timestamp() - 1e9) < 1  # the virtual time
    assert isinstance(unique, uuid.UUID)
    assert unique.version == 4
    assert first != second


def test_outside_a_session_they_are_plain(backend):
    before = datetime.datetime.now(datetime.UTC)
    now, unique, first, second = values()
    assert before <= now <= datetime.datetime.now(datetime.UTC)
    assert unique.version == 4
    assert first != second
    anyio.run(rt.sleep, 0, backend=backend)


def test_in_a_plain_session_they_are_recorded(backend):
    with rt.Session(run_identifier="run", backend=backend) as session:
        first = values()
        assert rt.call_sync(in_thread)
    assert [record.name for record in session.info.records][:4] == ["now", "uuid4", "random", "random"]
    with rt.Session(resume="run", backend=backend):
        assert values() == first


async def test_body_of_a_session_gets_the_same_values():
    async with rt.Session(run_identifier="run"):
        first = values()
    async with rt.Session(resume="run") as session:
        assert values() == first
    assert all(decision.reused for decision in session.info.resumed)


async def test_cleanup_of_a_cancelled_call_gets_values_too():
    seen = []

    @rt.function_node
    async def node():
        try:
            await anyio.sleep_forever()
        finally:
            seen.append(rt.now())

    async with rt.Session(save_state=False) as session:
        with anyio.move_on_after(1):
            await rt.call(node)
    assert len(seen) == 1
    assert [record.status.value for record in session.info.records] == ["Cancelled", "Completed"]


def test_after_its_session_a_call_gets_plain_values():
    session = rt.Session(save_state=False)
    with session:
        rt.call_sync(len, "abc")
    assert rt.now()
    assert len(session.info.records) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_under_a_seed_the_same_run_sees_the_same(seed, backend):
    async def main():
        async with rt.Session(save_state=False):
            return await rt.call(in_task), await rt.call(in_thread)

    runs = [testing.run(main, seed=each, backend=backend) for each in (seed, seed, seed + 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


# ---- sleep


async def test_sleep_waits():
    async with rt.Session(save_state=False) as session:
        started = anyio.current_time()
        await rt.sleep(10)
        assert anyio.current_time() == started + 10
    [record] = session.info.records
    assert (record.name, record.args) == ("sleep", (10,))


async def test_resumed_run_sleeps_what_is_left():
    slept = []

    @rt.function_node
    async def main():
        started = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.sleep, 100)
            await anyio.sleep(30)
            keep_journal()  # the process dies, as far as "dead" shows it
        slept.append(anyio.current_time() - started)

    flow = flow_of(main)
    await flow.ainvoke()
    assert slept == [100]
    started = anyio.current_time()
    await flow.aresume("dead")
    # It goes on 100 seconds after the sleep began: that is over, and the rest of the node takes its 30 seconds.
    assert anyio.current_time() - started == 30


async def test_sleep_that_is_not_over_goes_on_over_several_resumes():
    attempts = []

    @rt.function_node
    async def main():
        attempts.append(rt.session_id())
        async with anyio.create_task_group() as group:
            group.start_soon(rt.sleep, 100)
            await anyio.sleep(10)
            keep_journal(f"dead{len(attempts)}")
            if len(attempts) < 3:
                raise Crash

    started = anyio.current_time()
    flow = flow_of(main)
    with pytest.raises(ExceptionGroup):
        await flow.ainvoke()
    with pytest.raises(ExceptionGroup):
        await flow.aresume("dead1")
    await flow.aresume("dead2")
    assert anyio.current_time() - started == 100


async def test_completed_sleep_is_not_repeated():
    @rt.function_node
    async def main():
        await rt.sleep(100)
        keep_journal()
        return rt.now()

    flow = flow_of(main)
    first = await flow.ainvoke()
    started = anyio.current_time()
    second = await flow.aresume("dead")
    assert anyio.current_time() == started
    assert second >= first


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "1", True, None])
async def test_sleep_refuses_what_is_no_duration(seconds):
    with pytest.raises(rt.exceptions.NodeInvocationError, match=r"rt\.sleep: expected a number of seconds"):
        await rt.sleep(seconds)
