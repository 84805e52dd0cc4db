"""``if_exists``: what a session does if there is a run with its identifier."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import railtracks as rt
from tests.durability.world import FOLDER
from tests.postgres import POSTGRES, store_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Crash(Exception):
    pass


def job_of(done, crash_at=None):
    """Return a node that does three pieces of work, and crashes once at one of them."""

    @rt.function_node
    async def work(number: int) -> str:
        if number in (crash_at or ()):
            crash_at.remove(number)
            raise Crash
        done.append(number)
        return f"part {number}"

    @rt.function_node
    async def job(count: int = 3) -> list[str]:
        return [await rt.call(work, number) for number in range(count)]

    return job


def flow_of(job, backend="asyncio", **options):
    given = {"run_identifier": "job", "if_exists": "resume", "logging_setting": "QUIET", "backend": backend, **options}
    return rt.Flow("Job", job, **given)


def test_same_command_goes_on_after_a_failure(backend):
    done = []
    flow = flow_of(job_of(done, [2]), backend)
    with pytest.raises(Crash):
        flow.invoke(3)
    assert flow.invoke(3) == ["part 0", "part 1", "part 2"]
    assert done == [0, 1, 2]


def test_run_that_has_completed_gives_its_result_without_running(backend):
    done = []
    flow = flow_of(job_of(done), backend)
    assert flow.invoke() == flow.invoke() == ["part 0", "part 1", "part 2"]
    assert done == [0, 1, 2]


async def test_session_goes_on_too():
    done = []
    job = job_of(done, [1])
    for _ in range(3):
        try:
            async with rt.Session(run_identifier="job", if_exists="resume") as session:
                result = await rt.call(job, 3)
        except Crash:
            continue
    assert (result, done, session.resumes) == (["part 0", "part 1", "part 2"], [0, 1, 2], "job")


async def test_session_that_begins_resumes_nothing():
    session = rt.Session(run_identifier="job", if_exists="resume")
    assert session.resumes is None
    async with session:
        await rt.call(len, "abc")
        assert session.resumes is None
    assert session.info.resumed == []


def test_other_arguments_stop_it(backend):
    done = []
    flow = flow_of(job_of(done, [2]), backend)
    with pytest.raises(Crash):
        flow.invoke(3)
    with pytest.raises(rt.exceptions.StateError) as caught:
        flow.invoke(4)
    assert str(caught.value) == (
        "the run 'job' was started with other arguments of job: (3), and not (4); pass those to go on with it, or use "
        "another run_identifier for new work"
    )
    assert done == [0, 1]
    assert flow.invoke(3) == ["part 0", "part 1", "part 2"]  # nothing of it was lost


@pytest.mark.parametrize("way", ["invoke", "resume"])
def test_flow_of_another_name_goes_on_with_a_warning(way, backend, logged):
    done = []
    job = job_of(done, [1])
    with pytest.raises(Crash):
        flow_of(job, backend).invoke()
    other = rt.Flow("Other", job, run_identifier="job", if_exists="resume", logging_setting="QUIET", backend=backend)
    for _ in range(2):  # from then on it is a run of that flow
        assert (other.invoke() if way == "invoke" else other.resume("job")) == ["part 0", "part 1", "part 2"]
    text = (
        "The run job was begun by the flow 'Job', and the flow 'Other' goes on with it now; if they do different work, "
        "give each a run_identifier of its own"
    )
    assert logged("WARNING") == [text]
    assert done == [0, 1, 2]


async def test_session_without_a_flow_goes_on_with_a_run_of_one(logged):
    job = job_of([])
    await flow_of(job).ainvoke()
    async with rt.Session(resume="job", run_identifier="job"):
        await rt.call(job)
    assert logged("WARNING") == []


def test_arguments_that_cannot_be_compared_do_not_stop_it(backend):
    done = []
    part = job_of(done)

    @rt.function_node
    async def job(client: object) -> list[str]:
        return await rt.call(part, 2)

    flow = flow_of(job, backend)
    for _ in range(2):
        assert flow.invoke(object()) == ["part 0", "part 1"]


def test_run_that_is_open_elsewhere_is_left_alone(backend):
    flow = flow_of(job_of([]), backend)
    with (
        rt.Session(run_identifier="job", logging_setting="NONE"),
        pytest.raises(rt.exceptions.RunInUseError, match="job"),
    ):
        flow.invoke()


def test_killed_process_is_started_again_and_goes_on(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        """
import os
import railtracks as rt

@rt.function_node
async def work(number: int) -> int:
    with open("done.txt", "a") as file:
        file.write(f"{number} ")
    if number == 2 and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getpid(), 9)
    return number

@rt.function_node
async def job() -> int:
    return sum([await rt.call(work, number) for number in range(4)])

if __name__ == "__main__":
    print(rt.Flow("Job", job, run_identifier="job", if_exists="resume", logging_setting="QUIET").invoke())
"""
    )
    runs = [subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True) for _ in range(3)]
    assert [run.returncode for run in runs] == [-9, 0, 0]
    assert [run.stdout for run in runs] == ["", "6\n", "6\n"]
    assert (tmp_path / "done.txt").read_text() == "0 1 2 2 3 "  # that which ran when it was killed runs again


def test_fail_raises_before_anything_runs(backend):
    done = []
    flow_of(job_of(done), backend).invoke()
    with pytest.raises(rt.exceptions.RunExistsError, match=r"there is a run 'job' at .*if_exists=\"resume\""):
        flow_of(job_of(done), backend, if_exists="fail").invoke()
    assert done == [0, 1, 2]
    assert [run.status.value for run in rt.state.list_runs()] == ["Completed"]


def test_fail_begins_where_there_is_no_run(backend):
    assert flow_of(job_of([]), backend, if_exists="fail").invoke() == ["part 0", "part 1", "part 2"]


def test_replace_begins_from_the_start(backend):
    done = []
    flow = flow_of(job_of(done), backend, if_exists="replace")
    flow.invoke()
    flow.invoke()
    assert done == [0, 1, 2] * 2
    assert [run.identifier for run in rt.state.list_runs()] == ["job"]


def test_replace_keeps_a_run_that_had_failed(backend, logged):
    done = []
    flow = flow_of(job_of(done, [2]), backend, if_exists="replace")
    with pytest.raises(Crash):
        flow.invoke()
    flow.invoke()
    kept, job = sorted(rt.state.list_runs(), key=lambda run: len(run.identifier), reverse=True)
    assert (job.identifier, job.status.value, kept.status.value) == ("job", "Completed", "Failed")
    warning = (
        f"The earlier run job had not completed (Failed); it is kept as {kept.identifier}. To go on with such a run "
        f'when the program is started again, use if_exists="resume".'
    )
    assert warning in logged("WARNING")
    assert not [each for each in logged("WARNING") if "overwriting" in each]
    assert flow.resume(kept.identifier) == ["part 0", "part 1", "part 2"]
    assert done == [0, 1, 0, 1, 2, 2]


def test_resume_that_is_asked_for_does_not_look_at_the_option(backend):
    done = []
    flow = flow_of(job_of(done, [2]), backend, if_exists="fail")
    with pytest.raises(Crash):
        flow.invoke()
    assert flow.resume("job") == ["part 0", "part 1", "part 2"]
    assert done == [0, 1, 2]


@pytest.mark.parametrize("value", ["resume", "fail"])
def test_option_needs_an_identifier(value):
    with pytest.raises(rt.exceptions.ConfigError, match="needs a run_identifier"):
        rt.Session(if_exists=value)


async def test_as_a_default_it_needs_no_identifier(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_IF_EXISTS", "fail")
    for _ in range(2):
        async with rt.Session():
            await rt.call(len, "abc")


async def test_without_saving_an_existing_run_is_used_and_left():
    done = []
    job = job_of(done)
    async with rt.Session(run_identifier="job"):
        await rt.call(job)
    before = (FOLDER / "job.json").read_bytes()
    async with rt.Session(run_identifier="job", if_exists="resume", save_state=False):
        await rt.call(job)
    assert done == [0, 1, 2]
    assert (FOLDER / "job.json").read_bytes() == before


@pytest.mark.parametrize("kind", ["file", "sqlite", "memory", POSTGRES])
def test_every_store_can_do_it(kind, backend, tmp_path):
    kinds: dict[str, Any] = {"file": rt.state.FileStore, "sqlite": rt.state.SQLiteStore, "postgres": store_of}
    store = kinds[kind](tmp_path / "runs") if kind in kinds else rt.state.MemoryStore()
    done = []
    flow = flow_of(job_of(done, [1, 2]), backend, store=store)
    for _ in range(2):
        with pytest.raises(Crash):
            flow.invoke()
    assert flow.invoke() == ["part 0", "part 1", "part 2"]
    assert done == [0, 1, 2]
    assert rt.state.run_exists("job", store)
    with pytest.raises(rt.exceptions.RunExistsError):
        flow_of(job_of(done), backend, store=store, if_exists="fail").invoke()
    if kind in ("sqlite", "postgres"):
        store.close()


# ---- what is there


def test_run_exists():
    assert not rt.state.run_exists("job")
    flow_of(job_of([])).invoke()
    assert rt.state.run_exists("job")
    with pytest.raises(rt.exceptions.ConfigError, match="identifier"):
        rt.state.run_exists("../job")


def test_run_that_is_missing_has_an_error_of_its_own():
    with pytest.raises(rt.exceptions.RunNotFoundError, match="there is no run 'job'"):
        rt.state.load_run("job")
    with pytest.raises(rt.exceptions.RunNotFoundError, match="there is no run 'job'"):
        flow_of(job_of([])).resume("job")


def test_runs_are_found_by_flow_state_and_time():
    job = job_of([], [1])
    with pytest.raises(Crash):
        flow_of(job, run_identifier="failed").invoke()
    rt.Flow("Other", job, run_identifier="other", logging_setting="QUIET").invoke()
    flow_of(job, run_identifier="whole").invoke()
    with rt.Session(run_identifier="open", flow_name="Job", logging_setting="QUIET"):
        rt.call_sync(len, "abc")

        def found(**wanted):
            return {run.identifier for run in rt.state.list_runs(**wanted)}

        assert found() == {"failed", "other", "whole", "open"}
        assert found(unfinished=True) == {"failed", "open"}
        assert found(flow="Job") == found(flow=flow_of(job)) == {"failed", "whole", "open"}
        assert found(flow="Job", unfinished=True) == {"failed", "open"}
        times = sorted(run.start_time or 0.0 for run in rt.state.list_runs())
        assert len(found(since=times[2])) == 2
        assert found(since=times[3] + 1) == set()


@pytest.mark.parametrize("wanted", [{"flow": 3}, {"since": "today"}, {"since": True}])
def test_arguments_of_list_runs_are_checked(wanted):
    with pytest.raises(rt.exceptions.ConfigError, match="list_runs"):
        rt.state.list_runs(**wanted)
