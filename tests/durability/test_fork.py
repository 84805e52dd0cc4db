"""Forks: a run is begun again from one of its calls on, under an identifier of its own."""

from __future__ import annotations

import functools

import pytest

import railtracks as rt
from railtracks.exceptions import RunInUseError, StateError
from tests.durability.world import FOLDER, check, failing, flow_of, keep_journal, reasons, resumed


async def test_fork_runs_again_from_a_node_on_and_leaves_the_run_alone(world):
    flow = flow_of(world.steps)
    await flow.ainvoke("a", "b", "c")
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    world.ran()
    for what, again in (
        (world.step, "abc"),
        ("step", "abc"),
        (world.steps, "abc"),
        (1, "abc"),
        (3, "bc"),
        (6, "c"),
        (7, ""),
    ):
        connection = flow.connect()
        assert await connection.afork("run", before=what) == ["a!", "b!", "c!"]
        assert world.ran() == list(again), what
        assert connection.session_id != "run"
        assert connection.session.resumes == "run"
        check(connection.session)
    assert {name: (FOLDER / name).read_bytes() for name in before} == before


async def test_fork_before_a_node_keeps_what_completed_before_it(world):
    """A fork before a node keeps what had completed before its first call."""

    async def other(name):
        world.note(name)
        return name

    async def main(*names):
        return [await rt.call(other if name.isupper() else world.step, name) for name in names]

    flow = flow_of(main, allow_rerun=True)
    await flow.ainvoke("a", "B", "c", "D")
    world.ran()
    connection = flow.connect()
    assert await connection.afork("run", before=other) == ["a!", "B", "c!", "D"]
    assert world.ran() == ["B", "c", "D"]
    assert reasons(connection.session.info)["other"] == "it is not on record"
    assert await flow.afork("run", "a", "B", "c", "E", before="other") == ["a!", "B", "c!", "E"]
    assert world.ran() == ["B", "c", "E"]  # other arguments, but the same ones for what it calls first


async def test_fork_leaves_the_journal_of_a_run_that_died_alone(world):
    async def main():
        await rt.call(world.step, "a")
        if not FOLDER.joinpath("dead.journal").exists():
            keep_journal()
        await rt.call(world.step, "b")

    flow = flow_of(main)
    await flow.ainvoke()
    before = (FOLDER / "dead.journal").read_bytes()
    world.ran()
    await flow.afork("dead", before=3)
    assert world.ran() == ["b"]
    assert (FOLDER / "dead.journal").read_bytes() == before


async def test_a_fork_can_be_resumed_like_any_run(world):
    world.broken.add("c")
    flow = flow_of(world.steps)
    await failing(flow, "a", "b", "c")
    connection = flow.connect()
    with pytest.raises(ValueError):
        await connection.afork("run", before=3)
    world.broken.clear()
    world.ran()
    assert (await resumed(flow, connection.session_id))[0] == ["a!", "b!", "c!"]
    assert world.ran() == ["c"]


async def test_a_session_forks_into_the_identifier_that_it_is_given(world):
    flow = flow_of(world.steps)
    await flow.ainvoke("a", "b")
    before = (FOLDER / "run.json").read_bytes()
    world.ran()
    async with rt.Session(resume="run", before=3, run_identifier="fork") as session:
        await rt.call(world.steps, "a", "b")
    assert world.ran() == ["b"]
    check(session)
    assert (FOLDER / "run.json").read_bytes() == before


async def test_a_session_can_resume_into_another_identifier(world):
    world.broken.add("b")
    await failing(flow_of(world.steps), "a", "b")
    world.broken.clear()
    before = (FOLDER / "run.json").read_bytes()
    world.ran()
    async with rt.Session(resume="run", run_identifier="copy") as session:
        await rt.call(world.steps, "a", "b")
    assert (session.identifier, world.ran()) == ("copy", ["b"])
    assert (FOLDER / "run.json").read_bytes() == before


async def test_forking_a_named_session_leaves_its_run_alone(world):
    async with rt.Session(name="nightly") as session:
        await rt.call(world.steps, "a", "b")
    before = (FOLDER / "nightly.json").read_bytes()
    async with rt.Session(name="nightly", resume="nightly", before=world.step) as session:
        await rt.call(world.steps, "a", "b")
    assert session.identifier != "nightly"
    assert (FOLDER / "nightly.json").read_bytes() == before


async def test_a_fork_does_not_destroy_another_run_that_died(world):
    await flow_of(world.steps).ainvoke("a")
    (FOLDER / "other.journal").write_bytes(b"what is left of a run that died")
    async with rt.Session(resume="run", before=world.step, run_identifier="other"):
        await rt.call(world.steps, "a")
    assert [path.read_bytes() for path in FOLDER.glob("other.*.journal")] == [b"what is left of a run that died"]


async def test_fork_has_a_random_identifier_despite_the_configuration(world, monkeypatch):
    flow = rt.Flow("Flow", world.steps)
    monkeypatch.setenv("RAILTRACKS_RUN_IDENTIFIER", "run")
    await flow.ainvoke("a", "b")
    connection = flow.connect()
    await connection.afork("run", before=3)
    assert connection.session_id != "run"


async def test_fork_before_an_uncalled_node_is_refused(world):
    """A fork before a node that was never called is refused with the nodes that were."""

    class Scale(rt.nodes.Node):
        def __init__(self, factor):
            self.factor = factor

        async def invoke(self):
            return self.factor

    flow = flow_of(world.steps)
    await flow.ainvoke("a")
    for before in ("other", world.gate, Scale, functools.partial(Scale, 2)):
        with pytest.raises(StateError, match=r"'run' has no call of \w+; it has calls of step, steps"):
            await flow.afork("run", before=before)


async def test_open_run_can_be_forked_but_not_copied(world):
    async with rt.Session(run_identifier="run"):
        await rt.call(world.step, 1)
        with pytest.raises(RunInUseError):
            async with rt.Session(resume="run", run_identifier="copy"):
                pass
        async with rt.Session(resume="run", before=99) as fork:
            assert await rt.call(world.step, 1) == "1!"
    assert fork.info.resumed[0].reused


@pytest.mark.parametrize(("before", "again"), [(10**6, "e"), ("d", "de"), ("c", "cde"), (1, "abcde")])
async def test_fork_knows_what_all_attempts_completed(world, before, again):
    """The latest attempt failed before it came to what an earlier one had completed."""
    ran, failing_at = [], ["e", "b", None]

    def step(name):
        async def run():
            ran.append(name)
            return f"{name}!"

        run.__qualname__ = name
        return rt.function_node(run, name=name)

    steps = {name: step(name) for name in "abcde"}

    @rt.function_node
    async def main():
        results = []
        for name, node in steps.items():
            if name == failing_at[0]:
                raise ValueError(name)
            results.append(await rt.call(node))
        return results

    flow = flow_of(main)
    for attempt in (flow.ainvoke, lambda: flow.aresume("run")):
        with pytest.raises(ValueError, match=failing_at[0]):
            await attempt()
        failing_at.pop(0)
    ran.clear()
    assert await flow.afork("run", before=before) == ["a!", "b!", "c!", "d!", "e!"]
    assert "".join(ran) == again
