"""Runs that are resumed again and again: what any attempt completed counts, and nothing is lost."""

from __future__ import annotations

import os
from typing import Any

import pytest

import railtracks as rt
from tests.durability.world import FOLDER, check, failing, flow_of, keep_journal, resumed, resumed_badly, shape


async def test_run_that_fails_again_and_again_runs_each_step_once(world):
    """A run that fails at one place after the other runs each step that completes once."""
    names = ["a", "b", "c", "d", "e"]
    flow = flow_of(world.steps)
    world.broken.add("b")
    await failing(flow, *names)
    for broken in "cde":
        world.broken.clear()
        world.broken.add(broken)
        await resumed_badly(flow)
    world.broken.clear()
    result, session = await resumed(flow)
    assert result == [f"{name}!" for name in names]
    assert world.ran() == ["a", "b", "b", "c", "c", "d", "d", "e", "e"]
    assert session.info.earlier == ()


async def test_resumed_run_that_fails_earlier_loses_nothing(world):
    """A resumed run that fails earlier than the first one loses nothing."""

    async def main():
        await rt.call(world.gate)
        return await rt.call(world.steps, "a", "b", "c")

    flow = flow_of(main)
    world.broken.add("c")
    await failing(flow)
    world.broken.add("gate")
    for _ in range(3):
        session = await resumed_badly(flow)
        assert [r.name for r in session.info.records] == ["main", "gate"]
        assert {r.args[0] for r in session.info.earlier if r.name == "step" and r.status == "Completed"} == {"a", "b"}
    world.broken.clear()
    world.ran()
    result, session = await resumed(flow)
    assert (result, world.ran()) == (["a!", "b!", "c!"], ["gate", "c"])
    assert session.info.earlier == ()


async def test_what_each_of_several_attempts_completed_counts(world):
    async def main():
        await rt.call(world.gate)
        results = await rt.call_batch(world.step, "abc")
        failures = [each for each in results if isinstance(each, Exception)]
        if failures:
            raise failures[0]
        return results

    flow = flow_of(main)
    world.broken.update("bc")
    await failing(flow)
    world.broken.remove("b")
    await resumed_badly(flow)
    world.broken.add("gate")
    await resumed_badly(flow)
    world.broken.clear()
    world.ran()
    assert (await resumed(flow))[0] == ["a!", "b!", "c!"]
    assert world.ran() == ["gate", "c"]


async def test_later_results_below_an_earlier_completed_call_are_kept(world):
    """What a later attempt completed below a call that an earlier one had completed is kept."""

    child = "one child"

    async def outer():
        await rt.call(world.step, child)
        await rt.call(world.gate, "late")

    async def main():
        await rt.call(world.gate)
        await rt.call(rt.function_node(outer, memo=False))
        await rt.call(world.step, "x")

    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    child = "another child"
    for broken in ("late", "gate"):
        world.broken.clear()
        world.broken.add(broken)
        await resumed_badly(flow)
    world.broken.clear()
    world.ran()
    await resumed(flow)
    assert world.ran() == ["gate", "late", "x"]


async def test_session_whose_body_raises_between_calls_loses_nothing(world):
    """A session whose body raises between calls that completed loses nothing."""

    async def body(breaks_after):
        options: dict[str, Any] = {"resume": "run"} if exists else {"run_identifier": "run"}
        async with rt.Session(**options) as session:
            for count, name in enumerate("abc"):
                await rt.call(world.step, name)
                if count == breaks_after:
                    raise ValueError
        return session

    exists = False
    with pytest.raises(ValueError):
        await body(1)
    exists = True
    with pytest.raises(ValueError):
        await body(0)  # all calls that it made have completed, but it has not come to b
    assert world.ran() == ["a", "b"]
    session = await body(9)
    assert world.ran() == ["c"]
    check(session)


async def test_a_resumed_run_dies_and_is_resumed_and_so_on(world):
    def main_that_dies(at):
        async def main():
            results = []
            for count, name in enumerate("abcd"):
                if count == at:
                    keep_journal(f"dead-{at}")
                results.append(await rt.call(world.steps, name, name * 2))
            return results

        return flow_of(main)

    await main_that_dies(1).ainvoke()
    world.ran()
    await resumed(main_that_dies(2), "dead-1")
    assert world.ran() == ["b", "bb", "c", "cc", "d", "dd"]
    await resumed(main_that_dies(3), "dead-2")
    assert world.ran() == ["c", "cc", "d", "dd"]
    result, session = await resumed(main_that_dies(9), "dead-3")
    assert world.ran() == ["d", "dd"]
    assert result == [["a!", "aa!"], ["b!", "bb!"], ["c!", "cc!"], ["d!", "dd!"]]
    assert len(session.info.records) == 13


async def test_journal_of_a_resumed_run_holds_the_whole_history(world):
    """The journal of a resumed run holds all that is known of deep trees."""

    async def leaf(name):
        return name

    async def branch(name):
        return [await rt.call(leaf, f"{name}{i}") for i in range(2)]

    async def tree():
        return await rt.call_batch(branch, "ab")

    async def main():
        await rt.call(tree)
        await rt.call(world.die, "died")
        return "done"

    flow = flow_of(main)
    connection = flow.connect()
    await connection.ainvoke()
    first = rt.state.load_run("died")
    (FOLDER / "dead.journal").write_bytes((FOLDER / "died.journal").read_bytes())
    await resumed(flow, "dead")
    second = rt.ExecutionInfo.load(FOLDER / "died.journal")  # of the resumed run, in the middle
    assert second.damage is None
    assert [(r.name, r.args, r.status) for r in second.records] == [(r.name, r.args, r.status) for r in first.records]
    assert shape(second) == shape(first)
    world.ran()
    assert (await resumed(flow, "died"))[0] == "done"
    assert world.ran() == ["die"]


async def test_a_session_that_resumes_and_makes_no_call_loses_nothing(world):
    world.broken.add("b")
    flow = flow_of(world.steps)
    await failing(flow, "a", "b")
    async with rt.Session(resume="run"):
        pass
    world.broken.clear()
    world.ran()
    assert (await resumed(flow))[0] == ["a!", "b!"]
    assert world.ran() == ["b"]


async def test_death_while_the_new_journal_is_begun_loses_nothing(world, monkeypatch):
    """A death while the journal of the resumed run is begun loses nothing."""
    torn = []

    def write(handle, content, whole=os.write):
        if b'"header"' in content:
            torn.append(content[: content.index(b"b!")])  # what a kill in the middle of it leaves
        return whole(handle, content)

    world.broken.add("d")
    flow = flow_of(world.steps)
    await failing(flow, "a", "b", "c", "d")
    document = (FOLDER / "run.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        await resumed_badly(flow)
    (FOLDER / "run.json").write_bytes(document)
    for content in torn:
        (FOLDER / "run.journal").write_bytes(content)
    world.broken.clear()
    world.ran()
    assert (await resumed(flow))[0] == ["a!", "b!", "c!", "d!"]
    assert world.ran() == ["d"]
