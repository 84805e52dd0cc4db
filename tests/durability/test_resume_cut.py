"""State files that are cut off: what is resumed of them."""

from __future__ import annotations

import sqlite3

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import FileStore
from tests.durability.world import FOLDER, failing_once, flow_of

pytestmark = pytest.mark.either_backend

CALLS = 12


def chain(world):
    async def main():
        for number in range(CALLS):
            await rt.call(world.step, number)
        return await rt.call(world.step, "x")

    return main


async def test_what_stands_before_the_cut_is_not_run_again(world, logged):
    """The later it is cut off, the fewer calls run again. Calls that are used are those that completed."""
    flow = flow_of(chain(world), allow_rerun=True)
    await failing_once(flow, world, "x")
    path = FOLDER / "run.json"
    content = path.read_bytes()
    first = content.index(b'{"identifier": "run-e1"')  # before that the arguments of the flow are lost
    ran_again = []
    for cut in (*range(first, len(content), 1500), len(content) - 1):
        path.write_bytes(content[:cut])
        assert await flow.aresume("run") == "x!"
        ran_again.append([name for name in world.ran() if name != "x"])
        assert any("The record of run: the document is cut off: " in each for each in logged("WARNING"))
    assert ran_again[0] == list(range(CALLS))
    assert ran_again[-1] == []
    assert all(ran == list(range(CALLS))[CALLS - len(ran) :] for ran in ran_again)
    assert [len(ran) for ran in ran_again] == sorted((len(ran) for ran in ran_again), reverse=True)
    assert len(set(map(len, ran_again))) > 5


@pytest.mark.parametrize("cut", [0, 1, 20, 300])
async def test_a_state_file_that_is_cut_off_early_says_what_to_do(world, cut):
    flow = flow_of(chain(world))
    await failing_once(flow, world, "x")
    path = FOLDER / "run.json"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StateError, match=r"run\.json: .*(not a state file|cut off)"):
        await flow.aresume("run")


async def test_calls_of_whole_runs_before_the_cut_are_all_used(world):
    """The calls that are lost stand behind them, so they cannot have been made by them."""
    async with rt.Session(run_identifier="run"):
        for number in range(6):
            await rt.call(world.steps, number, -number)
    world.ran()
    path = FOLDER / "run.json"
    content = path.read_bytes()
    cut = content[: content.index(b'"run_id": "run-r9"')]
    path.write_bytes(cut)
    async with rt.Session(resume="run") as session:
        for number in range(6):
            assert await rt.call(world.steps, number, -number) == [f"{number}!", f"{-number}!"]
    assert world.ran() == [3, -3, 4, -4, 5, -5]
    assert "the records of 9 of its 18 calls" in str(rt.state.ExecutionInfo.from_document(cut).damage)
    assert session.info.damage is None


async def test_a_cut_document_in_sqlite(world, tmp_path):
    flow = flow_of(chain(world), store=f"sqlite:{tmp_path / 'runs.db'}")
    world.broken.add("x")
    with pytest.raises(ValueError, match="x"):
        await flow.ainvoke()
    world.broken.clear()
    world.ran()
    connection = sqlite3.connect(tmp_path / "runs.db")
    with connection:
        [(content,)] = connection.execute("SELECT document FROM runs").fetchall()
        connection.execute("UPDATE runs SET document = ?", (content[:-1],))
    connection.close()
    assert await flow.aresume("run") == "x!"
    assert world.ran() == ["x"]


async def test_a_cut_file_is_only_read(world, tmp_path):
    """Reading leaves it as it is, so that it can still be replaced by a copy."""
    flow = flow_of(chain(world), store=FileStore(tmp_path))
    world.broken.add("x")
    with pytest.raises(ValueError, match="x"):
        await flow.ainvoke()
    world.broken.clear()
    world.ran()
    path = tmp_path / "run.json"
    cut = path.read_bytes()[:-100]
    path.write_bytes(cut)
    assert "cut off" in str(rt.state.load_run("run", FileStore(tmp_path)).damage)
    assert path.read_bytes() == cut
