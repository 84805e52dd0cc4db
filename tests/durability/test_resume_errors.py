"""Resumes that are impossible are refused, with the reason, before anything is changed."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, RunInUseError, SessionEndedError, SessionError, StateError
from tests.durability.world import FOLDER, flow_of


@rt.function_node
async def anything(): ...


async def test_missing_run_is_refused_with_those_that_exist(world):
    flow = flow_of(world.steps)
    with pytest.raises(StateError, match=r"no run 'nowhere'.*none"):
        await flow.aresume("nowhere")
    await flow.ainvoke("a")
    for resumption in (flow.aresume("nowhere"), flow.afork("nowhere", before=world.step)):
        with pytest.raises(StateError, match=r"no run 'nowhere'.*nowhere\.json.*the latest are run"):
            await resumption
    assert not list(FOLDER.glob("nowhere*.j*")), "nothing was made"


def test_missing_run_is_refused_in_the_plain_form_too():
    """The plain form refuses a missing run too, and releases the lock."""
    with pytest.raises(StateError, match="no run 'nowhere'"), rt.Session(resume="nowhere"):
        pytest.fail("it was entered")
    assert rt.session_id() is None
    with rt.Session(run_identifier="nowhere"):  # it let go of the lock
        pass


@pytest.mark.parametrize("identifier", ["", "../x", "a/b", "x\x00", 5, b"run"], ids=repr)
async def test_bad_identifier_of_a_run_is_refused(world, identifier):
    with pytest.raises(ConfigError):
        rt.Session(resume=identifier)
    with pytest.raises(ConfigError):
        await flow_of(world.steps).aresume(identifier)
    with pytest.raises(ConfigError):
        await flow_of(world.steps).afork(identifier, before=world.step)


async def test_none_is_refused_as_the_identifier_to_resume(world):
    flow = flow_of(world.steps)
    with pytest.raises(ConfigError):
        await flow.aresume(None)
    with pytest.raises(ConfigError):
        await flow.afork(None, before=world.step)


async def test_running_run_is_refused(world):
    flow = flow_of(world.steps)
    async with rt.Session(run_identifier="run"):
        await rt.call(world.step, "a")
        with pytest.raises(RunInUseError, match="'run'"):
            await flow.aresume("run")
        with pytest.raises(RunInUseError), rt.Session(resume="run"):
            pytest.fail("it was entered")
        assert await rt.call(world.step, "b") == "b!"
    saved = rt.ExecutionInfo.load(FOLDER / "run.json")
    assert [r.args for r in saved.records] == [("a",), ("b",)]


async def test_unreadable_document_is_refused_and_stays(world):
    FOLDER.mkdir()
    (FOLDER / "run.json").write_text("{")
    with pytest.raises(StateError, match=r"'run'.*run\.json"):
        await flow_of(world.steps).aresume("run")
    assert (FOLDER / "run.json").read_text() == "{"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"before": anything}, r"before.*resume"),
        ({"before": anything, "resume": "run", "run_identifier": "run"}, r"'run'.*another run_identifier"),
        ({"before": 1.5, "resume": "run"}, r"1\.5.*node.*name.*step"),
        ({"before": True, "resume": "run"}, "True"),
        ({"before": [anything], "resume": "run"}, "before"),
        ({"resume": 5}, "5"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        rt.Session(**options)


async def test_recorded_arguments_need_an_open_session_that_resumes(world):
    with pytest.raises(SessionError, match=r"rt\.Session\(resume=\.\.\.\)"):
        rt.Session().recorded_arguments(world.step)
    async with rt.Session(run_identifier="run") as session:
        await rt.call(world.step, "a")
        with pytest.raises(SessionError, match=r"rt\.Session\(resume=\.\.\.\)"):
            session.recorded_arguments(world.step)
    async with rt.Session(resume="run") as session:
        assert session.recorded_arguments(world.step) == (("a",), {})
        with pytest.raises(StateError, match="no top-level call of gate"):
            session.recorded_arguments(world.gate)


async def test_late_call_is_refused_before_it_is_matched(world):
    await flow_of(world.steps).ainvoke("a")
    called = anyio.Event()

    async def late():
        await called.wait()
        with pytest.raises(SessionEndedError):
            await rt.call(world.steps, "a")

    async with anyio.create_task_group() as group:
        async with rt.Session(resume="run"):
            group.start_soon(late)
            await anyio.sleep(1)
        called.set()
