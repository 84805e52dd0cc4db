"""A flow or session that is opened in a call is a step of the outer run, and goes on with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from tests.durability.world import FOLDER, failing, flow_of, resumed, resumed_badly

pytestmark = pytest.mark.usefixtures("nothing_is_left")

API_KEY = "sk-123456789012345678901234"


def copy_runs():
    """Copy all runs as they are on disk: what is left if the process dies now."""
    shutil.copytree(FOLDER, "copy", ignore=shutil.ignore_patterns("*.lock"))


def restore_runs():
    """Put the copy of the runs in their place."""
    shutil.rmtree(FOLDER)
    Path("copy").rename(FOLDER)


def runs():
    """Return the number of stored runs."""
    return len(rt.state.list_runs())


# ---- forms of an inner session: each makes the calls of ``world.steps`` with the arguments


async def flow_in_task(world, *names, **options):
    return await rt.Flow("Inner", world.steps, **options).ainvoke(*names)


async def flow_in_thread(world, *names, **options):
    @rt.function_node(memo=False)
    def sync(*names):
        return rt.Flow("Inner", world.steps, **options).invoke(*names)

    return await rt.call(sync, *names)


async def session_in_task(world, *names, **options):
    async with rt.Session(**options):
        return await rt.call(world.steps, *names)


async def session_in_thread(world, *names, **options):
    @rt.function_node(memo=False)
    def sync(*names):
        with rt.Session(**options):
            return rt.call_sync(world.steps, *names)

    return await rt.call(sync, *names)


async def plain_session_in_task(world, *names, **options):
    with rt.Session(**options):
        return await rt.call(world.steps, *names)


FORMS = [flow_in_task, flow_in_thread, session_in_task, session_in_thread, plain_session_in_task]
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


@each_form
@pytest.mark.parametrize("identifier", [None, "inner"])
@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
async def test_inner_run_that_failed_goes_on(world, form, identifier, durability):
    @rt.function_node
    async def main():
        return await form(world, "a", "b", "c", run_identifier=identifier)

    rt.set_config(durability=durability)
    world.broken.add("b")
    await failing(flow_of(main))
    assert runs() == 2
    world.broken = {"c"}
    await resumed_badly(flow_of(main))
    world.broken.clear()
    result, _ = await resumed(flow_of(main))
    assert result == ["a!", "b!", "c!"]
    assert world.ran() == ["a", "b", "b", "c", "c"]
    assert runs() == 2


@each_form
async def test_inner_run_that_completed_is_not_run_again(world, form):
    @rt.function_node
    async def main():
        found = await form(world, "a", "b")
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    await failing(flow_of(main))
    await resumed_badly(flow_of(main))
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == ["a!", "b!"]
    assert world.ran() == ["a", "b", "gate", "gate", "gate"]
    assert runs() == 2


@each_form
@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_inner_run_of_a_process_that_died_goes_on(world, form, durability):
    @rt.function_node
    async def crash():
        world.note("crash")
        if not Path("copy").exists() and "crash" in world.broken:
            copy_runs()

    @rt.function_node
    async def steps(*names):
        return [await rt.call(crash if name == "crash" else world.step, *([] if name == "crash" else [name]))
                for name in names]  # fmt: skip

    world.steps = steps

    @rt.function_node
    async def main():
        return await form(world, "a", "crash", "b")

    rt.set_config(durability=durability)
    world.broken.add("crash")
    await flow_of(main).ainvoke()
    world.broken.clear()
    restore_runs()
    world.ran()
    assert (await resumed(flow_of(main)))[0] == ["a!", None, "b!"]
    assert world.ran() == ["crash", "b"]
    assert runs() == 2


@each_form
async def test_inner_session_that_saves_nothing_runs_again(world, form):
    @rt.function_node
    async def main():
        found = await form(world, "a", save_state=False)
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == ["a!"]
    assert world.ran() == ["a", "gate", "a", "gate"]
    assert runs() == 1


async def test_inner_session_of_one_that_is_not_recorded(world):
    async with rt.Session(save_state=False) as session:

        async def main():
            return await flow_in_task(world, "a")

        assert await rt.call(main) == ["a!"]
    assert [record.name for record in session.info.records] == ["main"]
    assert runs() == 1


async def test_several_inner_flows_in_one_call(world):
    """Each goes on with its own run, also where the arguments are the same."""

    @rt.function_node
    async def main():
        found = [await flow_in_task(world, name) for name in ("a", "b", "a")]
        await rt.call(world.gate)
        return [*found, await flow_in_task(world, "a")]

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == [["a!"], ["b!"], ["a!"], ["a!"]]
    assert world.ran() == ["a", "b", "a", "gate", "gate", "a"]
    assert runs() == 5


async def test_concurrent_inner_flows(world):
    """They are found in whatever order they begin."""
    names = ["a", "b", "c"]

    @rt.function_node
    async def main():
        found = {}

        async def run(name):
            found[name] = await flow_in_task(world, name, f"{name}2")

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(run, name)
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    names.reverse()
    result, _ = await resumed(flow_of(main))
    assert result == {name: [f"{name}!", f"{name}2!"] for name in "abc"}
    assert world.ran() == ["gate"]
    assert runs() == 4


async def test_inner_flows_do_not_wait_for_each_other(world):
    """Their steps end where they begin, so they have no turn; nor does anything wait for them."""

    @rt.function_node
    async def main():
        async def run(name):
            await flow_in_task(world, name)
            await rt.call(world.step, f"after {name}")

        async with anyio.create_task_group() as group:
            for name in ("slow", "fast"):
                group.start_soon(run, name)
        await rt.call(world.gate)

    world.delays = {"slow": 2.0, "fast": 1.0}
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert anyio.current_time() == started


async def test_another_flow_with_equal_arguments_has_a_run_of_its_own(world):
    """It begins before the one that is on record does."""

    @rt.function_node
    async def pay(order):
        return await rt.call(world.step, f"pay {order}")

    @rt.function_node
    async def ship(order):
        return await rt.call(world.step, f"ship {order}")

    flows = [rt.Flow("Pay", pay)]

    @rt.function_node
    async def main():
        found = [await flow.ainvoke("o1") for flow in flows]
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    flows.insert(0, rt.Flow("Ship", ship))
    assert (await resumed(flow_of(main)))[0] == ["ship o1!", "pay o1!"]
    assert world.ran() == ["ship o1", "gate"]


async def test_three_levels(world):
    @rt.function_node
    async def middle(name):
        first = await flow_in_task(world, name, run_identifier=None)
        second = await rt.call(world.step, f"middle {name}")
        return [*first, second]

    @rt.function_node
    async def main():
        found = [await rt.Flow("Middle", middle).ainvoke(name) for name in ("x", "y")]
        await rt.call(world.gate)
        return found

    for broken in ("x", "middle x", "y", "middle y", "gate"):
        world.broken = {broken}
        if broken == "x":
            await failing(flow_of(main))
        else:
            await resumed_badly(flow_of(main))
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == [["x!", "middle x!"], ["y!", "middle y!"]]
    assert world.ran() == ["x", "x", "middle x", "middle x", "y", "y", "middle y", "middle y", "gate", "gate"]
    assert runs() == 5


async def test_fork_leaves_the_inner_run_alone(world):
    """It goes on with a copy."""

    @rt.function_node
    async def main():
        found = await flow_in_task(world, "a", "b", run_identifier="inner")
        await rt.call(world.gate)
        return found

    world.broken.add("b")
    await failing(flow_of(main))
    before = (FOLDER / "inner.json").read_bytes()
    world.broken.clear()
    world.ran()
    assert await flow_of(main).afork("run", before=1_000) == ["a!", "b!"]
    assert world.ran() == ["b", "gate"]
    assert (FOLDER / "inner.json").read_bytes() == before
    assert runs() == 4
    assert (await resumed(flow_of(main)))[0] == ["a!", "b!"]
    assert world.ran() == ["b", "gate"]
    assert runs() == 4


async def test_secrets_among_the_arguments_of_an_inner_flow(world):
    """They are masked in both runs, and the inner one goes on all the same."""

    @rt.function_node
    async def pay(order, api_key):
        assert api_key == API_KEY
        found = await rt.call(world.step, order)
        await rt.call(world.gate)
        return found

    @rt.function_node
    async def main():
        return await rt.Flow("Inner", pay).ainvoke("o1", API_KEY)

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    assert (await resumed(flow_of(main)))[0] == "o1!"
    assert world.ran() == ["gate"]
    for path in FOLDER.iterdir():
        assert API_KEY.encode() not in path.read_bytes()


async def test_client_among_the_arguments_of_an_inner_flow(world):
    class Client: ...

    @rt.function_node
    async def pay(client, order):
        assert isinstance(client, Client)
        found = await rt.call(world.step, order)
        await rt.call(world.gate)
        return found

    @rt.function_node
    async def main():
        return await rt.Flow("Inner", pay).ainvoke(Client(), "o1")

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    assert (await resumed(flow_of(main)))[0] == "o1!"
    assert world.ran() == ["gate"]
    assert runs() == 2


async def test_inner_run_that_was_removed_begins_again(world):
    @rt.function_node
    async def main():
        found = await flow_in_task(world, "a", run_identifier="inner")
        await rt.call(world.gate)
        return found

    world.broken.add("gate")
    await failing(flow_of(main))
    (FOLDER / "inner.json").unlink()
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == ["a!"]
    assert world.ran() == ["a", "gate", "a", "gate"]


async def test_handled_failure_of_an_inner_flow(world):
    """The outer flow takes the same way, whatever the inner one would do now."""

    @rt.function_node
    async def main():
        try:
            found = await flow_in_task(world, "a", "flaky")
        except ValueError:
            found = await rt.call(world.step, "instead")
        await rt.call(world.gate)
        return found

    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    result, _ = await resumed(flow_of(main))
    assert result == "instead!"
    assert world.ran() == ["gate"]


@pytest.mark.parametrize("way", ["passed on", "cleanup", "from"])
@each_form
async def test_failure_of_an_inner_run_that_ended_the_outer_one(world, form, way):
    """It is tried again, also if the outer one made a call before it failed."""

    @rt.function_node
    async def main():
        try:
            return await form(world, "a", "flaky")
        except ValueError as exc:
            if way == "passed on":
                raise
            await rt.call(world.step, "cleanup")
            if way == "cleanup":
                raise
            raise ValueError("other") from exc

    world.broken.add("flaky")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    assert (await resumed(flow_of(main)))[0] == ["a!", "flaky!"]
    assert world.ran() == ["flaky"]


async def test_inner_flow_in_a_task_that_handles_its_failure(world):
    """What other tasks did meanwhile says nothing about it."""

    @rt.function_node
    async def main():
        found = {}

        async def run(name):
            try:
                found[name] = await flow_in_task(world, name)
            except ValueError:
                found[name] = await rt.call(world.step, f"instead of {name}")

        async with anyio.create_task_group() as group:
            for name in ("slow", "flaky"):
                group.start_soon(run, name)
        await rt.call(world.gate)
        return found

    world.delays = {"slow": 2.0, "flaky": 1.0}
    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    result, _ = await resumed(flow_of(main))
    assert result == {"slow": ["slow!"], "flaky": "instead of flaky!"}
    assert world.ran() == ["gate"]


async def test_retried_inner_flow(world):
    """The second try begins a run of its own, which is found as such."""

    @rt.function_node
    async def main():
        for _ in range(2):
            try:
                found = await flow_in_task(world, "a", "flaky")
                break
            except ValueError:
                world.broken.discard("flaky")
        await rt.call(world.gate)
        return found

    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    assert world.ran() == ["a", "flaky", "a", "flaky", "gate"]
    world.broken.clear()
    result, _ = await resumed(flow_of(main))
    assert result == ["a!", "flaky!"]
    assert world.ran() == ["gate"]


async def test_inner_resume_is_that_of_the_program(world):
    """A session that says itself which run it resumes is left to do so."""
    world.broken.add("b")
    inner = rt.Flow("Inner", world.steps, run_identifier="inner")
    with pytest.raises(ValueError, match="b"):
        await inner.ainvoke("a", "b")
    world.broken = {"gate"}
    world.ran()

    @rt.function_node
    async def main():
        found = await inner.aresume("inner")
        await rt.call(world.gate)
        return found

    await failing(flow_of(main))
    world.broken.clear()
    assert (await resumed(flow_of(main)))[0] == ["a!", "b!"]
    assert world.ran() == ["b", "gate", "gate"]


async def test_one_shot_calls_in_a_session_body_are_on_their_own(world):
    """A flow that runs in the body of a session, outside of calls, is no step of it."""
    async with rt.Session(run_identifier="run") as session:
        assert await flow_in_task(world, "a") == ["a!"]
    assert session.info.records == ()
