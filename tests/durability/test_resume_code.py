"""``code_changes``: recorded results of functions whose code has changed since."""

from __future__ import annotations

import json

import pytest

import railtracks as rt
from railtracks.nodes._code import code_of
from tests.durability.world import (
    FOLDER,
    check,
    failing,
    flow_of,
    keep_journal,
    reasons,
    resumed,
    reused,
    without_checksums,
)

WARNING = (
    "The code of these nodes has changed, and recorded results of the former code were reused: price (2 calls), Ship. "
    'To run such calls again, use code_changes="rerun", or a new version= of the node; if the change does not matter, '
    'use code_changes="ignore"'
)


def edition(world, number):
    """Return nodes of one name whose code differs from edition to edition: a function, and a class."""
    if number == 1:

        async def price(item):
            return await rt.call(world.step, item)

        class Ship(rt.nodes.Node[str]):
            async def invoke(self):
                world.note("ship 1")
                return "shipped"
    else:

        async def price(item):
            return [await rt.call(world.step, item), number]

        class Ship(rt.nodes.Node[str]):  # type: ignore[no-redef]
            async def invoke(self):
                world.note(f"ship {number}")
                return "sent"

    return rt.function_node(price), Ship


def flow(world, number, **options):
    price, ship = edition(world, number)

    async def main():
        found = [await rt.call(price, "a"), await rt.call(price, "b"), await rt.call(ship)]
        await rt.call(world.step, "x")
        return found

    return flow_of(main, **options)


async def begin(world):
    """A run of the first edition that failed."""
    world.broken.add("x")
    await failing(flow(world, 1))
    world.broken.clear()
    assert world.ran() == ["a", "b", "ship 1", "x"]


async def test_a_changed_function_is_warned_of_and_reused(world, logged):
    await begin(world)
    result, session = await resumed(flow(world, 2))
    assert result == ["a!", "b!", "shipped"]
    assert world.ran() == ["x"]
    assert logged("WARNING") == [WARNING]
    decisions = {(decision.name, decision.reused, decision.why) for decision in session.info.resumed}
    assert decisions >= {("price", True, "its code has changed"), ("Ship", True, "its code has changed")}
    assert reused(session.info) == ["price", "price", "Ship"]
    assert rt.state.load_run("run").resumed == session.info.resumed


async def test_calls_of_a_changed_function_run_again(world, logged):
    """With "rerun". What they call is found as before."""
    await begin(world)
    result, session = await resumed(flow(world, 2, code_changes="rerun"))
    assert result == [["a!", 2], ["b!", 2], "sent"]
    assert world.ran() == ["ship 2", "x"]
    assert reasons(session.info)["price"] == reasons(session.info)["Ship"] == "its code has changed"
    assert not any("code of these nodes" in text for text in logged("WARNING"))
    world.ran()
    await resumed(flow(world, 2, code_changes="rerun"))
    assert world.ran() == []


async def test_a_change_can_be_ignored(world, logged):
    await begin(world)
    result, session = await resumed(flow(world, 2, code_changes="ignore"))
    assert result == ["a!", "b!", "shipped"]
    assert logged("WARNING") == []
    assert {decision.why for decision in session.info.resumed if decision.reused} == {""}


@pytest.mark.parametrize("code_changes", ["warn", "rerun"])
async def test_a_function_that_has_not_changed_is_reused(world, logged, code_changes):
    await begin(world)
    result, _ = await resumed(flow(world, 1, code_changes=code_changes))
    assert (result, world.ran(), logged("WARNING")) == (["a!", "b!", "shipped"], ["x"], [])


async def test_results_of_several_editions_are_kept_apart(world, logged):
    """Each recorded call keeps the digest of the code that it was of, over any number of attempts."""
    await begin(world)
    world.broken.add("x")
    await failing(flow(world, 2, if_exists="resume"))
    world.broken.clear()
    info = rt.state.load_run("run")
    first = {record.code for record in info.records if record.name == "price"}
    assert first == {code_of(edition(world, 1)[0].func)}
    world.ran()
    result, _ = await resumed(flow(world, 1, code_changes="rerun"))
    assert (result, world.ran()) == (["a!", "b!", "shipped"], ["x"])
    assert any("price (2 calls), Ship" in text for text in logged("WARNING"))  # of the second attempt


@pytest.mark.parametrize("recorded", ["another interpreter", "nothing"])
async def test_what_is_not_known_has_not_changed(world, logged, recorded):
    await begin(world)
    path = FOLDER / "run.json"
    text = without_checksums(path.read_text())
    if recorded == "nothing":
        text = text.replace('"code": "', '"other": "')
    else:
        text = text.replace('"code": "cpython-', '"code": "cpython-2.')
    path.write_text(text)
    await resumed(flow(world, 2, code_changes="rerun"))
    assert (world.ran(), logged("WARNING")) == (["x"], [])


async def test_the_digest_is_written_once_for_many_calls(world):
    """In the journal, in the document, and in the journal of a session that resumes."""
    world.broken.add("x")

    async def main():
        await rt.call_batch(world.step, [1, 2, 3])
        keep_journal("copy")
        await rt.call(world.step, "x")

    connection = flow_of(main).connect()
    with pytest.raises(ValueError):
        await connection.ainvoke()
    check(connection.session)
    for file in ("run.json", "copy.journal"):
        assert (FOLDER / file).read_bytes().count(code_of(world.step.func).encode()) == 1
        info = rt.ExecutionInfo.load(FOLDER / file)
        assert [record.code == code_of(world.step.func) for record in info.records][1:4] == [True] * 3
    world.broken.clear()
    await resumed(flow_of(main))
    journal = (FOLDER / "copy.journal").read_bytes()
    assert journal.count(code_of(world.step.func).encode()) == 2  # before and after `attempt`
    records = rt.ExecutionInfo.load(FOLDER / "copy.journal").records
    assert {record.code for record in records if record.name == "step"} == {code_of(world.step.func)}


async def test_builtins_and_lambdas_have_no_digest():
    async with rt.Session(run_identifier="run") as session:
        await rt.call(len, "abc")
        await rt.call(lambda: 1)
    assert [record.code for record in session.info.records] == [None, None]
    assert "code" not in json.loads((FOLDER / "run.json").read_text())["runs"][0]["edges"][0]["details"]
