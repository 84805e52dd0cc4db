"""The forms of resuming: flows, connections, sessions, in async and in plain code, in another process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, SessionError
from tests.durability.world import check, failing, flow_of, resumed, reused


async def test_after_a_failure_only_what_had_not_completed_runs_again(world):
    world.broken.add("c")
    flow = flow_of(world.steps)
    first = await failing(flow, "a", "b", "c", "d")
    assert world.ran() == ["a", "b", "c"]
    world.broken.clear()
    result, session = await resumed(flow)
    assert result == ["a!", "b!", "c!", "d!"]
    assert world.ran() == ["c", "d"]
    assert session.identifier == first.identifier == "run"
    assert [(d.name, d.reused, d.why) for d in session.info.resumed] == [
        ("steps", False, "it had failed"),
        ("step", True, ""),
        ("step", True, ""),
        ("step", False, "it had failed"),
        ("step", False, "it is not on record"),
    ]
    assert [d.node_id for d in session.info.resumed] == [f"run-n{i}" for i in range(5)]


def test_synchronous_forms_resume_and_fork_too(world, backend):
    world.broken.add("b")
    flow = flow_of(world.steps, backend=backend)
    with pytest.raises(ValueError, match="b"):
        flow.invoke("a", "b")
    world.broken.clear()
    assert world.ran() == ["a", "b"]
    assert flow.fork("run", before=world.steps) == ["a!", "b!"]
    assert world.ran() == ["a", "b"]
    assert flow.fork("run", before=2) == ["a!", "b!"]
    assert world.ran() == ["a", "b"]
    assert flow.fork("run", before=3) == ["a!", "b!"]
    assert world.ran() == ["b"]
    assert flow.resume("run") == ["a!", "b!"]
    assert world.ran() == ["b"]


def test_a_connection_shows_the_session_of_the_resumed_run(world, backend):
    world.broken.add("b")
    connection = flow_of(world.steps, backend=backend).connect()
    with pytest.raises(ValueError):
        connection.invoke("a", "b")
    world.broken.clear()
    assert connection.resume("run") == ["a!", "b!"]
    assert connection.session.resumes == connection.session_id == "run"
    assert reused(connection.session.info) == ["step"]
    check(connection.session)
    assert connection.fork("run", before=world.step) == ["a!", "b!"]
    assert connection.session.resumes == "run" != connection.session_id


async def test_synchronous_forms_in_async_code_show_the_await_to_write(world):
    flow = flow_of(world.steps)
    with pytest.raises(SessionError, match=r"await flow\.aresume"):
        flow.resume("run")
    with pytest.raises(SessionError, match=r"await flow\.afork"):
        flow.fork("run", before=world.step)


async def test_a_session_resumes_too(world):
    for broken in ({"c"}, set()):
        world.broken.clear()
        world.broken.update(broken)
        session = rt.Session(resume="run") if not broken else rt.Session(run_identifier="run")
        try:
            async with session:
                session.start_soon(world.steps, "x", "y")
                await anyio.sleep(1)  # when the body raises, children that still run are cancelled
                await rt.call(world.step, "a")
                await rt.call(world.step, "c")
        except ValueError:
            pass
        check(session)
    assert session.identifier == "run"
    assert sorted(world.ran()) == ["a", "c", "c", "x", "y"]
    assert set(reused(session.info)) >= {"step"}


def test_a_plain_session_in_synchronous_code_resumes_too(world, backend):
    for broken in ({"b"}, set()):
        world.broken.clear()
        world.broken.update(broken)
        options: dict[str, Any] = {"run_identifier": "run"} if broken else {"resume": "run"}
        session = rt.Session(backend=backend, **options)
        try:
            with session:
                assert rt.call_sync(world.step, "a") == "a!"
                assert rt.call_sync(world.step, "b") == "b!"
        except ValueError:
            pass
    assert world.ran() == ["a", "b", "b"]
    assert reused(session.info) == ["step"]
    check(session)


async def test_a_plain_session_in_async_code_resumes_too(world):
    for option in ("run_identifier", "resume"):
        options: dict[str, Any] = {option: "run"}
        with rt.Session(**options) as session:
            assert await rt.call(world.step, "a") == "a!"
    assert world.ran() == ["a"]
    assert reused(session.info) == ["step"]
    check(session)


def test_decorator_refuses_resume_where_it_is_written():
    with pytest.raises(ConfigError, match="resume"):

        @rt.session(resume="run")  # type: ignore[call-overload]
        async def main(): ...


def test_after_the_death_of_the_process_another_one_resumes(backend):
    script = """
import os, sys
import railtracks as rt

async def step(name):
    print("ran", name)
    if name == "b" and sys.argv[2] == "dies":
        sys.stdout.flush()
        os._exit(3)
    return name

async def inner(name):
    return await rt.call(step, name)

async def main(*names):
    return [await rt.call(inner, name) for name in names]

flow = rt.Flow("F", main, backend=sys.argv[1], run_identifier="run", logging_setting="QUIET")
print(flow.invoke("a", "b", "c") if sys.argv[2] == "dies" else flow.resume("run"))
"""
    found = []
    for mode in ("dies", "resumes"):
        command = [sys.executable, "-c", script, backend, mode]
        found.append(subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}))
    assert [run.returncode for run in found] == [3, 0], found[1].stderr
    assert [run.stdout.split("\n")[:-1] for run in found] == [
        ["ran a", "ran b"],
        ["ran b", "ran c", "['a', 'b', 'c']"],
    ]
