"""Resuming: the same code runs again, and calls that had completed return what is on record without running."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import fractions
import functools
import math
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Optional

import anyio
import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks.exceptions import (
    ConfigError,
    FatalError,
    GlobalTimeOutError,
    RunInUseError,
    SessionEndedError,
    SessionError,
    StateError,
)
from railtracks.state import CallCreated, CallSucceeded, MemoryStore, Reason, SQLiteStore, Status, _codec
from railtracks.state import _stores as stores

FOLDER = Path(".railtracks")
RAN: list[Any] = []
"""What really ran, in order."""
BROKEN: set[str] = set()
"""Steps that raise, for now."""
HANGING: set[str] = set()
"""Steps that never end, for now."""
DELAYS: dict[str, float] = {}
RESULT: list[Any] = []


@pytest.fixture(autouse=True)
def clean():
    for each in (RAN, BROKEN, HANGING, DELAYS, RESULT):
        each.clear()


@rt.function_node
async def step(name, *_equal):
    RAN.append(name)
    await anyio.sleep(DELAYS.get(name, 0))
    if name in HANGING:
        await anyio.sleep_forever()
    if name in BROKEN:
        raise ValueError(name)
    return f"{name}!"


@rt.function_node
async def steps(*names):
    return [await rt.call(step, name) for name in names]


@rt.function_node(memo=False)
async def gate(name="gate"):
    RAN.append(name)
    if name in BROKEN:
        raise ValueError(name)


@rt.function_node
async def die(to="dead"):
    """The process dies here, as far as the run ``to`` can tell."""
    RAN.append("die")
    keep_journal(to)


def keep_journal(to="dead"):
    (FOLDER / f"{to}.journal").write_bytes((FOLDER / f"{rt.session_id()}.journal").read_bytes())


def ran():
    """What ran since the last look."""
    found = RAN[:]
    RAN.clear()
    return found


def reasons(info):
    return {decision.name: decision.why for decision in info.resumed if not decision.reused}


def reused(info):
    return [decision.name for decision in info.resumed if decision.reused]


def shape(info):
    """The tree of calls, without what differs from run to run."""
    callers = [None if r.parent is None else info.records[r.parent].args for r in info.records]
    return [
        (caller, r.name, r.args, dict(r.kwargs), r.status, r.result)
        for caller, r in zip(callers, info.records, strict=True)
    ]


def check(session, folder=FOLDER):
    """What holds for every state, however it came about."""
    info = session.info
    assert rt.ExecutionInfo.load(folder / f"{session.identifier}.json") == info
    stamped = sorted(s for r in info.records for s in (r.started_step, r.ended_step) if s is not None)
    assert stamped == list(range(len(stamped)))
    assert [stamp.step for stamp in info.all_stamps] == stamped
    assert [r.index for r in info.records] == list(range(len(info.records)))
    assert sorted(info.records, key=lambda r: r.started_step) == list(info.records)
    for record in info.records:
        if record.parent is not None:
            parent = info.records[record.parent]
            assert parent.run == record.run
            assert parent.started_step < record.started_step
            assert record.ended_step is None or record.ended_step < parent.ended_step
        assert record.ended is None or record.started <= record.ended


async def failing(flow, *args, **kwargs):
    connection = flow.connect()
    with pytest.raises(ValueError):
        await connection.ainvoke(*args, **kwargs)
    check(connection.session)
    return connection.session


async def resumed(flow, run="run", *args, **kwargs):
    connection = flow.connect()
    result = await connection.aresume(run, *args, **kwargs)
    check(connection.session)
    return result, connection.session


async def resumed_badly(flow, run="run"):
    connection = flow.connect()
    with pytest.raises(ValueError):
        await connection.aresume(run)
    check(connection.session)
    return connection.session


def flow_of(entry, **options):
    return rt.Flow("Flow", entry, **{"run_identifier": "run", **options})


# ---- the forms


async def test_after_a_failure_only_what_had_not_completed_runs_again():
    BROKEN.add("c")
    flow = flow_of(steps)
    first = await failing(flow, "a", "b", "c", "d")
    assert ran() == ["a", "b", "c"]
    BROKEN.clear()
    result, session = await resumed(flow)
    assert result == ["a!", "b!", "c!", "d!"]
    assert ran() == ["c", "d"]
    assert session.identifier == first.identifier == "run"
    assert [(d.name, d.reused, d.why) for d in session.info.resumed] == [
        ("steps", False, "it had failed"),
        ("step", True, ""),
        ("step", True, ""),
        ("step", False, "it had failed"),
        ("step", False, "it is not on record"),
    ]
    assert [d.node_id for d in session.info.resumed] == [f"run-n{i}" for i in range(5)]


def test_synchronous_forms_resume_and_fork_too(backend):
    BROKEN.add("b")
    flow = flow_of(steps, backend=backend)
    with pytest.raises(ValueError, match="b"):
        flow.invoke("a", "b")
    BROKEN.clear()
    assert ran() == ["a", "b"]
    assert flow.fork("run", before=steps) == ["a!", "b!"]
    assert ran() == ["a", "b"]
    assert flow.fork("run", before=2) == ["a!", "b!"]
    assert ran() == ["a", "b"]
    assert flow.fork("run", before=3) == ["a!", "b!"]
    assert ran() == ["b"]
    assert flow.resume("run") == ["a!", "b!"]
    assert ran() == ["b"]


def test_a_connection_shows_the_session_of_the_resumed_run(backend):
    BROKEN.add("b")
    connection = flow_of(steps, backend=backend).connect()
    with pytest.raises(ValueError):
        connection.invoke("a", "b")
    BROKEN.clear()
    assert connection.resume("run") == ["a!", "b!"]
    assert connection.session.resumes == connection.session_id == "run"
    assert reused(connection.session.info) == ["step"]
    check(connection.session)
    assert connection.fork("run", before=step) == ["a!", "b!"]
    assert connection.session.resumes == "run" != connection.session_id


async def test_synchronous_forms_in_async_code_show_the_await_to_write():
    flow = flow_of(steps)
    with pytest.raises(SessionError, match=r"await flow\.aresume"):
        flow.resume("run")
    with pytest.raises(SessionError, match=r"await flow\.afork"):
        flow.fork("run", before=step)


async def test_a_session_resumes_too():
    for broken in ({"c"}, set()):
        BROKEN.clear()
        BROKEN.update(broken)
        session = rt.Session(resume="run") if not broken else rt.Session(run_identifier="run")
        try:
            async with session:
                session.start_soon(steps, "x", "y")
                await anyio.sleep(1)  # when the body raises, children that still run are cancelled
                await rt.call(step, "a")
                await rt.call(step, "c")
        except ValueError:
            pass
        check(session)
    assert session.identifier == "run"
    assert sorted(ran()) == ["a", "c", "c", "x", "y"]
    assert set(reused(session.info)) >= {"step"}


def test_a_plain_session_in_synchronous_code_resumes_too(backend):
    for broken in ({"b"}, set()):
        BROKEN.clear()
        BROKEN.update(broken)
        options = {"run_identifier": "run"} if broken else {"resume": "run"}
        session = rt.Session(backend=backend, **options)
        try:
            with session:
                assert rt.call_sync(step, "a") == "a!"
                assert rt.call_sync(step, "b") == "b!"
        except ValueError:
            pass
    assert ran() == ["a", "b", "b"]
    assert reused(session.info) == ["step"]
    check(session)


async def test_a_plain_session_in_async_code_resumes_too():
    for options in ({"run_identifier": "run"}, {"resume": "run"}):
        with rt.Session(**options) as session:
            assert await rt.call(step, "a") == "a!"
    assert ran() == ["a"]
    assert reused(session.info) == ["step"]
    check(session)


def test_decorator_refuses_resume_where_it_is_written():
    with pytest.raises(ConfigError, match="resume"):

        @rt.session(resume="run")
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


# ---- how the first run ended


async def test_a_finished_run_runs_nothing_again():
    flow = flow_of(steps)
    connection = flow.connect()
    await connection.ainvoke("a", "b")
    ran()
    result, session = await resumed(flow)
    assert (result, ran()) == (["a!", "b!"], [])
    assert [(d.name, d.reused) for d in session.info.resumed] == [("steps", True)]
    assert shape(session.info) == shape(connection.session.info)
    assert session.info.earlier == ()
    assert (await resumed(flow))[0] == result
    assert ran() == []


async def test_after_a_timeout_what_was_cancelled_runs_again():
    HANGING.add("b")
    with pytest.raises(GlobalTimeOutError):
        await flow_of(steps, timeout=60).ainvoke("a", "b")
    HANGING.clear()
    ran()
    result, session = await resumed(flow_of(steps, timeout=60))
    assert (result, ran()) == (["a!", "b!"], ["b"])
    assert set(reasons(session.info).values()) == {"it had been cancelled"}


async def test_after_outside_cancellation_cancelled_calls_run_again():
    HANGING.add("b")
    flow = flow_of(steps)
    with anyio.move_on_after(5):
        await flow.ainvoke("a", "b")
    HANGING.clear()
    ran()
    assert (await resumed(flow))[0] == ["a!", "b!"]
    assert ran() == ["b"]


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_what_was_running_when_the_process_died_runs_again(durability):
    async def main():
        await rt.call(steps, "a", "b")
        await rt.call(die)
        return await rt.call(step, "c")

    flow = flow_of(main, durability=durability)
    await flow.ainvoke()
    assert ran() == ["a", "b", "die", "c"]
    known = rt.state.load_run("dead")
    assert [r.reason for r in known.records if r.status is Status.OPEN] == [Reason.PROCESS_DIED] * 2
    result, session = await resumed(flow, "dead")
    assert (result, ran()) == ("c!", ["die", "c"])
    assert reasons(session.info) == {
        "main": "it had not ended",
        "die": "it had not ended",
        "step": "it is not on record",
    }
    assert not (FOLDER / "dead.journal").exists()


async def test_death_within_the_journal_loses_only_what_comes_after():
    """A death between two frames of the journal, or in one, loses only what comes after."""

    async def main():
        result = await rt.call(steps, "a", "b", "c")
        keep_journal("whole")
        return result

    flow = flow_of(main)
    await flow.ainvoke()
    ran()
    whole = (FOLDER / "whole.journal").read_bytes()
    store = rt.state.FileStore()
    for size in range(whole.index(b'"main"') + 200, len(whole), 97):
        store.open("cut", whole[:size]).close()
        done = {r.args[0] for r in rt.state.load_run("cut").records if r.name == "step" and r.status == "Completed"}
        result, session = await resumed(flow, "cut")
        assert result == ["a!", "b!", "c!"]
        assert set(ran()) == {"a", "b", "c"} - done
        assert len(session.info.records) == 5
        store.remove("cut")


@pytest.mark.parametrize("end_on_error", [True, False])
async def test_a_run_that_an_error_ended_can_be_resumed(end_on_error):
    async def fatal():
        RAN.append("fatal")
        if BROKEN:
            raise ValueError if end_on_error else FatalError("it is over")

    async def main():
        await rt.call(step, "a")
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, step, "slow")
            await rt.call(step, "b")
            await rt.call(fatal)
        return "done"

    DELAYS.update(slow=9, b=1)
    BROKEN.add("fatal")
    flow = flow_of(main, end_on_error=end_on_error)
    with pytest.raises((ValueError, FatalError)):
        await flow.ainvoke()
    assert sorted(ran()) == ["a", "b", "fatal", "slow"]
    BROKEN.clear()
    result, session = await resumed(flow)
    assert result == "done"
    assert sorted(ran()) == ["fatal", "slow"]
    assert reasons(session.info)["fatal"] == "it had failed"
    assert reasons(session.info)["step"] == "it had been cancelled"


async def test_error_in_a_resumed_run_leaves_reused_calls_completed():
    """An error that ends a resumed run leaves what was reused completed."""
    BROKEN.add("b")
    flow = flow_of(steps, end_on_error=True)
    await failing(flow, "a", "b")
    session = await resumed_badly(flow)
    assert [r.status for r in session.info.records] == [Status.FAILED, Status.COMPLETED, Status.FAILED]


# ---- again and again


async def test_run_that_fails_again_and_again_runs_each_step_once():
    """A run that fails at one place after the other runs each step that completes once."""
    names = ["a", "b", "c", "d", "e"]
    flow = flow_of(steps)
    BROKEN.add("b")
    await failing(flow, *names)
    for broken in "cde":
        BROKEN.clear()
        BROKEN.add(broken)
        await resumed_badly(flow)
    BROKEN.clear()
    result, session = await resumed(flow)
    assert result == [f"{name}!" for name in names]
    assert ran() == ["a", "b", "b", "c", "c", "d", "d", "e", "e"]
    assert session.info.earlier == ()


async def test_resumed_run_that_fails_earlier_loses_nothing():
    """A resumed run that fails earlier than the first one loses nothing."""

    async def main():
        await rt.call(gate)
        return await rt.call(steps, "a", "b", "c")

    flow = flow_of(main)
    BROKEN.add("c")
    await failing(flow)
    BROKEN.add("gate")
    for _ in range(3):
        session = await resumed_badly(flow)
        assert [r.name for r in session.info.records] == ["main", "gate"]
        assert {r.args[0] for r in session.info.earlier if r.name == "step" and r.status == "Completed"} == {"a", "b"}
    BROKEN.clear()
    ran()
    result, session = await resumed(flow)
    assert (result, ran()) == (["a!", "b!", "c!"], ["gate", "c"])
    assert session.info.earlier == ()


async def test_what_each_of_several_attempts_completed_counts():
    async def main():
        await rt.call(gate)
        results = await rt.call_batch(step, "abc")
        failures = [each for each in results if isinstance(each, Exception)]
        if failures:
            raise failures[0]
        return results

    flow = flow_of(main)
    BROKEN.update("bc")
    await failing(flow)
    BROKEN.remove("b")
    await resumed_badly(flow)
    BROKEN.add("gate")
    await resumed_badly(flow)
    BROKEN.clear()
    ran()
    assert (await resumed(flow))[0] == ["a!", "b!", "c!"]
    assert ran() == ["gate", "c"]


async def test_later_results_below_an_earlier_completed_call_are_kept():
    """What a later attempt completed below a call that an earlier one had completed is kept."""

    async def outer():
        await rt.call(step, f"c{len(RESULT)}")
        await rt.call(gate, "late")

    async def main():
        await rt.call(gate)
        await rt.call(rt.function_node(outer, memo=False))
        await rt.call(step, "x")

    flow = flow_of(main)
    BROKEN.add("x")
    await failing(flow)
    RESULT.append("another child")
    for broken in ("late", "gate"):
        BROKEN.clear()
        BROKEN.add(broken)
        await resumed_badly(flow)
    BROKEN.clear()
    ran()
    await resumed(flow)
    assert ran() == ["gate", "late", "x"]


async def test_session_whose_body_raises_between_calls_loses_nothing():
    """A session whose body raises between calls that completed loses nothing."""

    async def body(breaks_after):
        async with rt.Session(**({"resume": "run"} if exists else {"run_identifier": "run"})) as session:
            for count, name in enumerate("abc"):
                await rt.call(step, name)
                if count == breaks_after:
                    raise ValueError
        return session

    exists = False
    with pytest.raises(ValueError):
        await body(1)
    exists = True
    with pytest.raises(ValueError):
        await body(0)  # all calls that it made have completed, but it has not come to b
    assert ran() == ["a", "b"]
    session = await body(9)
    assert ran() == ["c"]
    check(session)


async def test_a_resumed_run_dies_and_is_resumed_and_so_on():
    def main_that_dies(at):
        async def main():
            results = []
            for count, name in enumerate("abcd"):
                if count == at:
                    keep_journal(f"dead-{at}")
                results.append(await rt.call(steps, name, name * 2))
            return results

        return flow_of(main)

    await main_that_dies(1).ainvoke()
    ran()
    await resumed(main_that_dies(2), "dead-1")
    assert ran() == ["b", "bb", "c", "cc", "d", "dd"]
    await resumed(main_that_dies(3), "dead-2")
    assert ran() == ["c", "cc", "d", "dd"]
    result, session = await resumed(main_that_dies(9), "dead-3")
    assert ran() == ["d", "dd"]
    assert result == [["a!", "aa!"], ["b!", "bb!"], ["c!", "cc!"], ["d!", "dd!"]]
    assert len(session.info.records) == 13


async def test_journal_of_a_resumed_run_holds_the_whole_history():
    """The journal of a resumed run holds all that is known of deep trees."""

    async def leaf(name):
        return name

    async def branch(name):
        return [await rt.call(leaf, f"{name}{i}") for i in range(2)]

    async def tree():
        return await rt.call_batch(branch, "ab")

    async def main():
        await rt.call(tree)
        await rt.call(die, "died")
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
    ran()
    assert (await resumed(flow, "died"))[0] == "done"
    assert ran() == ["die"]


async def test_a_session_that_resumes_and_makes_no_call_loses_nothing():
    BROKEN.add("b")
    flow = flow_of(steps)
    await failing(flow, "a", "b")
    async with rt.Session(resume="run"):
        pass
    BROKEN.clear()
    ran()
    assert (await resumed(flow))[0] == ["a!", "b!"]
    assert ran() == ["b"]


async def test_death_while_the_new_journal_is_begun_loses_nothing(monkeypatch):
    """A death while the journal of the resumed run is begun loses nothing."""
    torn = []

    def write(handle, content, whole=stores.os.write):
        if b'"header"' in content:
            torn.append(content[: content.index(b"b!")])  # what a kill in the middle of it leaves
        return whole(handle, content)

    BROKEN.add("d")
    flow = flow_of(steps)
    await failing(flow, "a", "b", "c", "d")
    document = (FOLDER / "run.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(stores.os, "write", write)
        await resumed_badly(flow)
    (FOLDER / "run.json").write_bytes(document)
    for content in torn:
        (FOLDER / "run.journal").write_bytes(content)
    BROKEN.clear()
    ran()
    assert (await resumed(flow))[0] == ["a!", "b!", "c!", "d!"]
    assert ran() == ["d"]


# ---- the state of a resumed run


async def test_the_state_holds_whole_subtrees_of_what_was_reused():
    async def deep(level):
        if level:
            return [await rt.call(deep, level - 1), await rt.call(step, level)]
        return "bottom"

    async def main():
        results = await rt.call_batch(deep, [2, 3])
        await rt.call(step, "last")
        return results

    whole = flow_of(main, run_identifier="whole").connect()
    await whole.ainvoke()
    BROKEN.add("last")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    _, session = await resumed(flow)
    assert ran() == ["last"]
    assert sorted(map(repr, shape(session.info))) == sorted(map(repr, shape(whole.session.info)))
    assert len(session.info.records) == 14
    assert [d.name for d in session.info.resumed] == ["main", "deep", "deep", "step"]


async def test_what_was_reused_keeps_the_times_it_had():
    DELAYS["a"] = 3
    BROKEN.add("b")
    flow = flow_of(steps)
    first = await failing(flow, "a", "b")
    BROKEN.clear()
    await anyio.sleep(1000)
    _, session = await resumed(flow)
    old, new = first.info.records[1], session.info.records[1]
    for name in ("started", "ended"):
        before = getattr(old, name) + first.info.clock_origin
        assert getattr(new, name) + session.info.clock_origin == pytest.approx(before)
    node = session.info.node_forest.heap()["run-n1"]
    assert node.details["internals"]["latency"]["total_time"] == pytest.approx(3)


async def test_failure_that_a_completed_call_caught_stays_below_it():
    async def patient():
        try:
            return await rt.call(step, "bad")
        except ValueError:
            return await rt.call(step, "good")

    async def main():
        await rt.call(patient)
        return await rt.call(step, "last")

    BROKEN.update({"bad", "last"})
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    _, session = await resumed(flow)
    assert ran() == ["last"]
    assert [r.status for r in session.info.records if r.parent == 1] == [Status.FAILED, Status.COMPLETED]


async def test_call_that_outlived_its_completed_caller_runs_again():
    """A call that still ran when its caller had completed runs again."""
    gone_on = anyio.Event()

    async def background():
        RAN.append("background")
        await gone_on.wait()

    async def launch():
        RESULT[0].start_soon(rt.call, background)  # not an argument: a task group cannot be compared
        await anyio.sleep(1)

    async def main():
        async with anyio.create_task_group() as group:
            RESULT[:] = [group]
            await rt.call(launch)
            await rt.call(die)
            gone_on.set()
        return "done"

    flow = flow_of(main)
    await flow.ainvoke()
    assert ran() == ["background", "die"]
    result, session = await resumed(flow, "dead")
    assert result == "done"
    assert "background" in ran(), "it was running when the process died"
    assert all(record.status is not Status.OPEN for record in session.info.records)


# ---- arguments


async def test_without_arguments_the_entry_point_gets_recorded_ones():
    async def main(a, b=2, *more, key=None, **rest):
        RAN.append((a, b, more, key, rest))
        await rt.call(step, "x")

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow, 1, [2], "three", key={"k": None}, other=1.5)
    BROKEN.clear()
    await resumed(flow)
    assert ran() == [(1, [2], ("three",), {"k": None}, {"other": 1.5}), "x"] * 2


async def test_equal_arguments_find_what_is_on_record():
    BROKEN.add("b")
    flow = flow_of(steps)
    await failing(flow, "a", "b")
    BROKEN.clear()
    ran()
    assert (await resumed(flow, "run", "a", "b"))[0] == ["a!", "b!"]
    assert ran() == ["b"]


async def test_with_other_arguments_everything_runs_with_reasons():
    """With other arguments everything runs, and the reasons say why."""
    flow = flow_of(steps)
    await flow.ainvoke("a", "b")
    ran()
    result, session = await resumed(flow, "run", "a", "c")
    assert (result, ran()) == (["a!", "c!"], ["a", "c"])
    assert reasons(session.info) == {
        "steps": "it is not on record",
        "step": "the call that made it is not on record",
    }


@dataclass
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Square:
    size: int


@dataclass(frozen=True)
class Circle:
    size: int


@dataclass
class Base:
    x: int


@dataclass
class Derived(Base):
    pass


@dataclass
class Holder:
    content: Any


@dataclass
class Line:
    start: Point
    end: Point | None = None


@attrs.frozen
class Track:
    title: str
    when: datetime.datetime
    parts: tuple[Square, ...] = ()


class Model(pydantic.BaseModel):
    name: str
    when: datetime.date
    path: Path | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    ONE = "one"


WHEN = datetime.datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=datetime.UTC)
UID = uuid.UUID(int=77)
TYPED = {
    "dataclass": (Point, Point(1, 2)),
    "frozen dataclass": (Square, Square(3)),
    "nested dataclass": (Line, Line(Point(1, 2), Point(3, 4))),
    "nested optional": (Line, Line(Point(1, 2))),
    "attrs": (Track, Track("t", WHEN, (Square(1), Square(2)))),
    "pydantic": (Model, Model(name="n", when=WHEN.date(), path=Path("a/b"))),
    "tuple": (tuple[int, str], (1, "a")),
    "endless tuple": (tuple[Point, ...], (Point(1, 2), Point(3, 4))),
    "empty tuple": (tuple[int, ...], ()),
    "named tuple": (Pair, Pair(1, "r")),
    "datetime": (datetime.datetime, WHEN),
    "naive datetime": (datetime.datetime, WHEN.replace(tzinfo=None)),
    "date": (datetime.date, WHEN.date()),
    "time": (datetime.time, WHEN.time()),
    "decimal": (decimal.Decimal, decimal.Decimal("1.10")),
    "fraction": (fractions.Fraction, fractions.Fraction(1, 3)),
    "uuid": (uuid.UUID, UID),
    "path": (Path, Path("a/b.txt")),
    "enum": (Color, Color.RED),
    "int enum": (Level, Level.LOW),
    "text enum": (Word, Word.ONE),
    "set": (set[int], {3, 1, 2}),
    "frozen set": (frozenset[str], frozenset({"a"})),
    "set of enums": (set[Color], {Color.RED}),
    "list of dataclasses": (list[Point], [Point(1, 2)]),
    "list of lists of tuples": (list[list[tuple[int, int]]], [[(1, 2)], []]),
    "list of models": (list[Model], [Model(name="n", when=WHEN.date())]),
    "list of attrs": (list[Track], [Track("a", WHEN), Track("b", WHEN)]),
    "dict of decimals": (dict[str, decimal.Decimal], {"a": decimal.Decimal("0.3")}),
    "dict by enum": (dict[Color, Path], {Color.BLUE: Path("b")}),
    "dict by int": (dict[int, tuple[int, int]], {1: (2, 3)}),
    "dict by tuple": (dict[tuple[int, int], str], {(1, 2): "a"}),
    "optional": (Optional[Point], Point(1, 2)),  # noqa: UP045
    "optional datetime": (datetime.datetime | None, WHEN),
    "optional list of optionals": (list[Point | None] | None, [None, Point(1, 2)]),
    "union": (Point | Track, Track("t", WHEN)),
    "optional model": (Model | None, Model(name="n", when=WHEN.date())),
    "bytes in a tuple": (tuple[bytes, int], (b"\x00\xff", 1)),
    "infinity in a tuple": (tuple[float, float], (math.inf, 1.5)),
}


def returning(annotation):
    async def typed():
        RAN.append("typed")
        return RESULT[0]

    if annotation is not None:
        typed.__annotations__["return"] = annotation
    return rt.function_node(typed, name="typed")


async def twice(node, value):
    """What a call of the node returns in a run that resumes one in which it completed, and why it ran, if it did."""
    RESULT[:] = [value]

    async def main():
        RESULT.append(await rt.call(node))
        await rt.call(step, "x")

    flow = flow_of(main)
    BROKEN.add("x")
    await failing(flow)
    BROKEN.clear()
    ran()
    _, session = await resumed(flow)
    anew = "typed" in ran()
    assert anew == ("typed" in reasons(session.info))
    return RESULT[-1], reasons(session.info).get("typed")


@pytest.mark.parametrize("name", TYPED)
async def test_a_result_comes_back_as_what_its_annotation_says(name):
    annotation, value = TYPED[name]
    result, why = await twice(returning(annotation), value)
    assert why is None
    assert (type(result), result, repr(result)) == (type(value), value, repr(value))


PLAIN = [
    None,
    True,
    0,
    -1.5,
    math.inf,
    "",
    "text\x00\u2028\U0001f600",
    [],
    [1, ["a", None]],
    {"a": {"b": 1}},
    b"\xff",
    {1: "a"},
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
async def test_a_plain_result_needs_no_annotation(value):
    result, why = await twice(returning(None), value)
    assert why is None
    assert (type(result), result) == (type(value), value)


@pytest.mark.parametrize("annotation", [None, Any, object], ids=str)
async def test_tuple_without_an_annotation_runs_again_with_a_reason(annotation):
    """A call that returns a tuple without an annotation runs again, and the reason says so."""
    result, why = await twice(returning(annotation), (1, 2))
    assert result == (1, 2)
    assert "type" in why
    assert "annotation" in why


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Point, (1, 2)),
        (int, Point(1, 2)),
        (Square, Point(1, 2)),
        (Color, Point(1, 2)),
        ("NoSuchName", (1, 2)),
        (datetime.datetime, Path("x")),
        (Point | Square | Circle, Circle(1)),
    ],
    ids=str,
)
async def test_result_that_does_not_fit_its_annotation_runs_again(annotation, value):
    result, why = await twice(returning(annotation), value)
    assert result == value
    assert "annotation" in why


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (dict[str, Any], {"when": WHEN}),
        (dict, {"a": (1, 2)}),
        (list, [(1, 2)]),
        (list[Any], [Color.RED]),
        (tuple, ((1, 2), [3])),
        (Holder, Holder(WHEN)),
        (Base, Derived(1)),
        (list[Base], [Base(1), Derived(2)]),
        (str | Path, Path("a")),
        (str | datetime.datetime, WHEN),
        (str | Color, Color.RED),
        (float, Level.LOW),
        (str, Word.ONE),
        (Sequence[int], (1, 2)),
        (Sequence[int], deque([1, 2])),
        (tuple[float, ...], (1, 2.0)),
        (PurePosixPath, Path("a")),
        (list[int] | tuple[int, ...], (1, 2)),
        (set[float], {1, 2}),
    ],
    ids=repr,
)
async def test_a_result_is_never_of_another_type_than_it_was(annotation, value):
    """Where an annotation says less than the value was, it may run anew, but nothing else may come back."""
    result, _ = await twice(returning(annotation), value)
    assert (type(result), result, repr(result)) == (type(value), value, repr(value))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (threading.Lock(), "opaque"),
        ([object()], "opaque"),
        ({"api_key": "sk-123456"}, "masked"),
        (rt.Secret("hidden-text"), "masked"),
        ("x" * (_codec.MAX_TEXT + 1), "cut"),
        (list(range(_codec.MAX_ITEMS + 1)), "cut"),
        (2**2000, "opaque"),
    ],
    ids=["lock", "object", "api key", "secret", "long text", "long list", "huge number"],
)
async def test_result_that_is_not_all_on_record_runs_again(value, why):
    result, told = await twice(returning(Any), value)
    assert result is value
    assert f"not all on record ({why})" in told


async def test_a_registered_type_comes_back_by_its_hooks():
    class Money:
        def __init__(self, cents):
            self.cents = cents

    rt.state.register_hooks(Money, lambda m: m.cents, Money)
    result, why = await twice(returning(None), Money(5))
    assert why is None
    assert (type(result), result.cents) == (Money, 5)


async def test_type_not_registered_in_this_process_runs_again(monkeypatch):
    """A result of a registered type runs again in a process in which the type is not registered."""

    class Money:
        pass

    async def main():
        result = await rt.call(node)
        await rt.call(step, "x")
        RESULT.append(result)

    rt.state.register_hooks(Money, lambda m: 5, lambda data: Money())
    node = returning(None)
    RESULT[:] = [Money()]
    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    monkeypatch.setattr(_codec, "_registered", set())
    monkeypatch.setattr(_codec, "_by_name", {})
    connection = flow.connect()
    await connection.aresume("run")
    assert type(RESULT[-1]) is Money
    assert "typed" in reasons(connection.session.info)


@pytest.mark.parametrize("name", TYPED)
async def test_recorded_arguments_have_the_types_of_their_annotations(name):
    annotation, value = TYPED[name]

    async def main(given, *, key=None):
        RAN.append((given, key))
        await rt.call(step, "x")

    main.__annotations__.update(given=annotation, key=annotation)
    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow, value, key=value)
    BROKEN.clear()
    await resumed(flow)
    first, _, second, _ = ran()
    assert repr(second) == repr(first)


async def test_recorded_arguments_work_for_class_nodes_and_partials():
    BROKEN.add("x")
    entry = functools.partial(Reaching, Point(0, 0))
    flow = flow_of(entry)
    with pytest.raises(ValueError):
        await flow.ainvoke(Point(1, 2))
    BROKEN.clear()
    result, _ = await resumed(flow)
    assert result == Point(1, 2)
    assert ran() == [Point(1, 2), "x"] * 2


class Reaching(rt.nodes.Node):
    def __init__(self, start: Point, end: Point) -> None:
        self.end = end

    async def invoke(self) -> Point:
        RAN.append(self.end)
        await rt.call(step, "x")
        return self.end


async def test_each_of_several_recorded_arguments_has_its_annotation():
    async def main(when: datetime.datetime, *squares: Square, **circles: Circle):
        RAN.append((when, squares, circles))
        await rt.call(step, "x")

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow, WHEN, Square(1), Square(2), a=Circle(1))
    BROKEN.clear()
    await resumed(flow)
    assert ran() == [(WHEN, (Square(1), Square(2)), {"a": Circle(1)}), "x"] * 2


async def test_unresolvable_annotation_does_not_spoil_the_others():
    async def main(given: OnlyForTypeCheckers) -> None:  # noqa: F821
        RESULT[:] = [(1, 2)]
        RAN.append(await rt.call(typed))
        await rt.call(step, "x")

    async def typed(given: OnlyForTypeCheckers = None) -> tuple[int, int]:  # noqa: F821
        RAN.append("typed")
        return RESULT[0]

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow, 1)
    BROKEN.clear()
    ran()
    await resumed(flow)
    assert ran() == [(1, 2), "x"]


async def unannotated(given):
    RAN.append(given)
    await rt.call(step, "x")


async def secretive(api_key):
    await rt.call(step, "x")


@pytest.mark.parametrize(
    ("entry", "value", "told"),
    [
        (unannotated, (1, 2), r"unannotated.*annotation of 'given'"),
        (unannotated, object(), r"unannotated.*not all on record \(opaque\)"),
        (secretive, "sk-12345678", r"secretive.*not all on record \(masked\)"),
    ],
    ids=["tuple", "object", "secret"],
)
async def test_recorded_arguments_that_cannot_be_read_are_refused(entry, value, told):
    """Recorded arguments that cannot be read back are refused with the reason, and nothing is lost."""
    BROKEN.add("x")
    flow = flow_of(entry)
    await failing(flow, value)
    before = (FOLDER / "run.json").read_bytes()
    with pytest.raises(StateError, match=f"(?s){told}.*give its arguments again.*flow.resume\\('run', ...\\)"):
        await flow.aresume("run")
    known = rt.state.load_run("run")
    assert [r.name for r in (*known.records, *known.earlier)] == [entry.__name__, "step"], "the run was replaced"
    with pytest.raises(StateError, match="give its arguments again"):  # and it is told again
        await flow.aresume("run")
    (FOLDER / "run.json").write_bytes(before)
    BROKEN.clear()
    await flow.aresume("run", value)


async def test_recorded_arguments_that_no_longer_fit_are_refused():
    """Recorded arguments that no longer fit the entry point are refused."""

    def main_of(kind):
        if kind == "old":

            async def main(first: Point, second: Point):
                await rt.call(step, "x")
        else:

            async def main(only: Point):
                await rt.call(step, "x")

        return flow_of(rt.function_node(main, name="main"))

    BROKEN.add("x")
    await failing(main_of("old"), Point(1, 2), Point(3, 4))
    with pytest.raises((StateError, TypeError), match="argument") as caught:
        await main_of("new").aresume("run")
    assert isinstance(caught.value, StateError)


# ---- what identifies a call


async def test_equal_calls_are_distinguished_by_their_order():
    async def numbered():
        RAN.append("numbered")
        if len(RESULT) in BROKEN:
            raise ValueError
        RESULT.append(None)
        return len(RESULT)

    async def main():
        return [await rt.call(numbered) for _ in range(5)]

    BROKEN.add(3)
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    result, session = await resumed(flow)
    assert result == [1, 2, 3, 4, 5]
    assert ran() == ["numbered"] * 2
    assert reused(session.info) == ["numbered"] * 3


async def test_arguments_of_equal_text_and_other_types_are_different():
    """Calls with arguments of equal text but of other types are different."""
    values = [1, "1", 1.0, [1], {"1": 1}, {1: 1}, None, "null", True, "true", b"1", math.nan]

    async def kind(value):
        RAN.append(value)
        return f"{type(value).__name__} {value!r}"

    async def main(reverse):
        results = [await rt.call(kind, value) for value in (values[::-1] if reverse else values)]
        await rt.call(step, "x")
        return results

    async def entry():
        return await main(bool(RESULT))

    BROKEN.add("x")
    flow = flow_of(entry)
    await failing(flow)
    BROKEN.clear()
    ran()
    RESULT.append("reverse")
    assert (await resumed(flow))[0] == [f"{type(value).__name__} {value!r}" for value in values[::-1]]
    assert ran() == ["x"]


async def area(shape):
    RAN.append(shape)
    await anyio.sleep(DELAYS.get(type(shape).__name__, 0))
    return f"{type(shape).__name__} {shape!r}"


@pytest.mark.parametrize(
    "shapes",
    [(Square(2), Circle(2)), ((1, 2), deque([1, 2])), (Color.RED, Path("red")), (WHEN, Holder(1), {1: (2,)}, {3})],
    ids=str,
)
async def test_arguments_of_different_types_are_not_mixed_up(shapes):
    """Arguments of different types that are written alike are not mixed up.

    In the second run they come in another order: of two concurrent branches the other one is faster.
    """

    async def main():
        results = {}

        async def branch(position, shape):
            await anyio.sleep(DELAYS.get(f"branch {position}", 0))
            results[position] = await rt.call(area, shape)

        async with anyio.create_task_group() as group:
            for position, shape in enumerate(shapes):
                group.start_soon(branch, position, shape)
        await rt.call(step, "x")
        return [results[position] for position in range(len(shapes))]

    DELAYS.update({f"branch {position}": position for position in range(len(shapes))})
    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    DELAYS.update({f"branch {position}": -position + 9 for position in range(len(shapes))})
    result, _ = await resumed(flow)
    assert result == [f"{type(shape).__name__} {shape!r}" for shape in shapes]


@pytest.mark.parametrize("how", ["batch", "limited batch", "task group", "native"])
async def test_concurrent_calls_are_found_whatever_their_order_was(backend, how):
    async def branch(name):
        await anyio.sleep(DELAYS.get(name, 0))
        first = await rt.call(step, f"{name}1", "equal")
        await anyio.sleep(DELAYS.get(name, 0))
        return [first, await rt.call(step, f"{name}2", "equal")]

    async def main():
        if "batch" in how:
            return await rt.call_batch(branch, "abcd", return_exceptions=False, limit=2 if "limited" in how else None)
        if how == "native" and backend == "asyncio":
            return await asyncio.gather(*(rt.call(branch, name) for name in "abcd"))
        found = {}

        async def one(name):
            found[name] = await rt.call(branch, name)

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(one, name)
        return [found[name] for name in "abcd"]

    DELAYS.update(a=4, b=3, c=2, d=1)
    BROKEN.add("a1")  # the slowest: by then some of the others are done
    flow = flow_of(main)
    with pytest.raises((ValueError, BaseExceptionGroup)):
        await flow.ainvoke()
    done = {r.args[0] for r in rt.state.load_run("run").records if r.name == "step" and r.status == "Completed"}
    assert done
    BROKEN.clear()
    ran()
    DELAYS.update(a=1, b=4, c=3, d=2)
    result, session = await resumed(flow)
    assert result == [[f"{name}1!", f"{name}2!"] for name in "abcd"]
    assert sorted(ran()) == sorted({f"{name}{i}" for name in "abcd" for i in (1, 2)} - done)
    assert len(session.info.records) == 13


async def test_equal_calls_are_found_below_the_right_caller():
    """Equal calls of concurrent callers are found below the right one."""

    async def who(caller_does_not_count):
        RAN.append("who")
        return RESULT.pop(0)

    async def branch(name, delay):
        await anyio.sleep(DELAYS.get(name, 0))
        return name, await rt.call(who, "equal")

    async def main():
        results = await rt.call_batch(branch, ["a", "b"], [0, 0])
        await rt.call(step, "x")
        return results

    RESULT[:] = ["first", "second"]
    DELAYS.update(a=1, b=2)
    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    RESULT[:] = ["wrong"] * 2
    DELAYS.update(a=2, b=1)
    result, _ = await resumed(flow)  # tuples without annotation: branch runs anew, and who must be found below it
    assert result == [("a", "first"), ("b", "second")]
    assert ran() == ["x"]


# ---- the code changed


def versioned(version, **options):
    async def change(name):
        RAN.append(f"change {version}")
        return await rt.call(step, name), version

    async def plain(name):
        RAN.append(f"change {version}")
        return [await rt.call(step, name), version]

    return rt.function_node(plain, name="change", version=version, **options)


async def main_with(node):
    result = await rt.call(node, "below")
    await rt.call(step, "x")
    return result


def flow_with(node, **options):
    async def main():
        return await main_with(node)

    return flow_of(main, **options)


async def test_node_of_another_version_runs_again():
    BROKEN.add("x")
    await failing(flow_with(versioned("1")))
    BROKEN.clear()
    ran()
    result, session = await resumed(flow_with(versioned("2")))
    assert result == ["below!", "2"]
    assert ran() == ["change 2", "below", "x"]
    assert "not on record" in reasons(session.info)["change"]
    assert reasons(session.info).keys() == {"main", "change", "step"}


async def test_a_node_of_the_same_version_is_reused():
    BROKEN.add("x")
    await failing(flow_with(versioned("1")))
    BROKEN.clear()
    ran()
    assert (await resumed(flow_with(versioned("1"))))[0] == ["below!", "1"]
    assert ran() == ["x"]


async def test_function_and_not_display_name_identifies_a_node():
    async def one():
        RAN.append("one")

    async def other():
        RAN.append("other")

    BROKEN.add("x")

    def flow(node):
        async def main():
            await rt.call(node)
            await rt.call(step, "x")

        return flow_of(main)

    await failing(flow(rt.function_node(one, name="N")))
    BROKEN.clear()
    ran()
    _, session = await resumed(flow(rt.function_node(one, name="renamed")))
    assert ran() == ["x"]
    assert "renamed" in reused(session.info)
    ran()
    _, session = await resumed(flow(rt.function_node(other, name="N")))
    assert ran() == []  # main had completed
    BROKEN.add("x")


async def test_node_of_another_function_of_the_same_name_runs_again():
    async def one():
        RAN.append("one")

    async def other():
        RAN.append("other")

    async def main():
        await rt.call(rt.function_node(RESULT[0], name="N"))
        await rt.call(step, "x")

    RESULT[:] = [one]
    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    RESULT[:] = [other]
    _, session = await resumed(flow)
    assert ran() == ["other", "x"]
    assert reasons(session.info)["N"] == "it is not on record"


@pytest.mark.parametrize(
    ("names", "again"),
    [("abc", "c"), ("anbc", "nc"), ("nabc", "nc"), ("bc", "c"), ("bac", "c"), ("aabc", "ac"), ("c", "c"), ("", "")],
)
async def test_calls_may_be_added_removed_and_moved(names, again):
    async def main():
        return [await rt.call(step, name) for name in RESULT]

    RESULT[:] = "abc"
    BROKEN.add("c")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    RESULT[:] = names
    assert (await resumed(flow))[0] == [f"{name}!" for name in names]
    assert ran() == list(again)


async def test_another_entry_point_finds_nothing_to_be_called_with():
    await flow_of(steps).ainvoke("a")
    with pytest.raises(StateError, match=r"'run' has no top-level call of unannotated; give its arguments"):
        await flow_of(unannotated).aresume("run")


# ---- memo


async def test_memo_false_runs_again_and_what_is_below_is_reused():
    async def outer():
        RAN.append("outer")
        return await rt.call(step, "below")

    BROKEN.add("x")
    node = rt.function_node(outer, memo=False)

    async def main():
        result = await rt.call(node)
        await rt.call(step, "x")
        return result

    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    result, session = await resumed(flow)
    assert (result, ran()) == ("below!", ["outer", "x"])
    assert reasons(session.info)["outer"] == "its node has memo=False"


async def test_memo_false_of_a_class_node_and_of_a_method():
    BROKEN.add("x")

    async def main():
        await rt.call(Forgetful)
        await rt.call(Service().forget)
        await rt.call(step, "x")

    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    _, session = await resumed(flow)
    assert ran() == ["Forgetful", "forget", "x"]
    assert reasons(session.info)["Forgetful"] == reasons(session.info)["forget"] == "its node has memo=False"


class Forgetful(rt.nodes.Node):
    @classmethod
    def memo(cls):
        return False

    async def invoke(self):
        RAN.append("Forgetful")


@dataclass
class Service:
    url: str = "here"

    async def fetch(self, name):
        RAN.append(f"{self.url}/{name}")
        return f"{self.url}/{name}"

    @rt.function_node(memo=False)
    async def forget(self):
        RAN.append("forget")

    @classmethod
    async def make(cls, name):
        RAN.append(f"{cls.__name__} {name}")
        return f"{cls.__name__} {name}"


class SubService(Service):
    pass


class OpaqueService:
    async def fetch(self, name):
        RAN.append(f"opaque/{name}")
        return name


# ---- kinds of nodes


class Scale(rt.nodes.Node[list]):
    def __init__(self, factor: int, value: int) -> None:
        self.factor, self.value = factor, value

    async def invoke(self) -> list[int]:
        RAN.append((self.factor, self.value))
        return [self.factor * self.value]


class Boxed(Scale):
    async def invoke(self) -> Square:
        RAN.append((self.factor, self.value))
        return Square(self.factor * self.value)


async def scale(factor, value, *, plus=0):
    RAN.append((factor, value, plus))
    return factor * value + plus


@rt.function_node
def in_thread(name) -> tuple[str, str]:
    RAN.append(f"thread {name}")
    rt.context.put(f"thread {name}", name)
    return name, rt.call_sync(step, name)


class Callable:
    def __init__(self):
        self.lock = threading.Lock()

    async def __call__(self):
        RAN.append("callable")


@attrs.frozen
class Adder:
    by: int

    async def __call__(self, x) -> tuple[int, int]:
        RAN.append(("add", self.by, x))
        return x, x + self.by


async def run_twice(*calls):
    """Run some calls in a run that fails after them, and again; the results, what ran again, and the info."""

    async def main():
        RESULT[:] = [await rt.call(*each) for each in (calls[::-1] if DELAYS.get("reverse") else calls)]
        await rt.call(step, "x")

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    expected = RESULT[:]
    BROKEN.clear()
    ran()
    DELAYS["reverse"] = 1
    _, session = await resumed(flow)
    assert expected[::-1] == RESULT
    again = ran()
    assert again.pop() == "x"
    return again, session.info


async def test_class_nodes_are_distinguished_by_class_and_arguments():
    """Class nodes and factories are distinguished by their class and their bound arguments."""
    half = functools.partial(Scale, 2)
    again, _ = await run_twice((Scale, 2, 4), (half, 4), (functools.partial(Scale, 3), 4), (Boxed, 2, 4), (half, 5))
    assert again == []


async def test_partials_are_distinguished_by_what_is_bound():
    double, triple = functools.partial(scale, 2), functools.partial(scale, 3)
    more = functools.partial(double, plus=1)
    again, _ = await run_twice((double, 1), (triple, 1), (more, 1), (functools.partial(more, plus=2), 1), (scale, 2, 1))
    assert again == []


async def test_methods_are_distinguished_by_the_objects_they_belong_to():
    calls = [(Service(url).fetch, "x") for url in ("here", "there")]
    again, _ = await run_twice(*calls, (Service.make, "a"), (SubService.make, "a"))
    assert again == []


async def test_callable_objects_are_distinguished_by_their_fields():
    again, _ = await run_twice((Adder(1), 1), (Adder(2), 1))
    assert again == []


async def test_methods_of_objects_that_cannot_be_compared_run_again():
    """Methods and callables whose objects cannot be compared run again."""
    again, info = await run_twice((OpaqueService().fetch, "a"), (Callable(),))
    assert again == ["callable", "opaque/a"]
    for name in ("fetch", "Callable"):
        assert "bound to what cannot be compared" in reasons(info)[name]


async def test_lambdas_run_again_and_so_does_what_they_call():
    again, info = await run_twice((lambda: rt.call_sync(step, "below"),))
    assert again == ["below"]
    assert "lambda" in reasons(info)["<lambda>"]
    assert "the call that made it is not on record" in [d.why for d in info.resumed if d.name == "step"]


async def test_partial_that_binds_a_secret_or_an_object_runs_again():
    async def login(password):
        RAN.append("login")

    async def use(thing):
        RAN.append("use")

    again, info = await run_twice(
        (functools.partial(login, password="swordfish"),), (functools.partial(use, object()),)
    )
    assert again == ["use", "login"]
    assert reasons(info).keys() >= {"login", "use"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (({"password": "swordfish-1"},), "masked"),
        ((rt.Secret("swordfish-2"),), "masked"),
        ((object(),), "opaque"),
        (("x" * (_codec.MAX_TEXT + 1),), "cut"),
        ((ValueError("x"),), "opaque"),
    ],
    ids=["password", "secret", "object", "long text", "error"],
)
async def test_calls_with_arguments_that_cannot_be_compared_run_again(arguments, why):
    async def use(thing):
        RAN.append("use")

    again, info = await run_twice((use, *arguments))
    assert again == ["use"]
    assert f"cannot be compared: they are not all on record ({why})" in reasons(info)["use"]


async def test_positional_secret_is_not_compared():
    """A positional argument whose parameter names a secret is not compared."""

    async def login(user, password):
        RAN.append("login")

    again, info = await run_twice((login, "ada", "swordfish-3"))
    assert again == ["login"]
    assert "(masked)" in reasons(info)["login"]


async def test_sync_nodes_and_what_they_call_are_reused():
    again, info = await run_twice((in_thread, "a"), (in_thread, "b"))
    assert again == []
    assert len([r for r in info.records if r.name == "step"]) == 3


async def test_what_a_sync_node_called_is_found_when_it_runs_again():
    BROKEN.add("b")

    def many(*names):
        return [rt.call_sync(step, name) for name in names]

    flow = flow_of(many)
    await failing(flow, "a", "b", "c")
    BROKEN.clear()
    ran()
    assert (await resumed(flow))[0] == ["a!", "b!", "c!"]
    assert ran() == ["b", "c"]


async def test_closures_are_found_by_definition_and_order():
    """Closures are found by where they are defined and by their order."""

    def times(factor):
        async def multiply(x):
            RAN.append((factor, x))
            return factor * x

        return multiply

    async def main():
        results = [await rt.call(times(factor), 5) for factor in (2, 3)]
        await rt.call(step, "x")
        return results

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    assert (await resumed(flow))[0] == [10, 15]
    assert ran() == ["x"]


# ---- the context


async def putting(key, value):
    RAN.append((key, value))
    rt.context.put(key, value)


async def everything():
    """Changes of all kinds, at two levels, in an order that counts."""
    RAN.append("everything")
    rt.context.put("a", 1)
    rt.context.update({"a": 2, "b": [1, {"c": None}]})
    await rt.call(putting, "a", 3)
    rt.context.put("b", "late")
    rt.context.put("gone", 1)
    await rt.call(removing, "gone")
    await rt.call(removing, "given")
    await rt.call(in_thread, "t")


async def removing(key):
    rt.context.delete(key)


def everything_in_it():
    keys = rt.context.keys()
    return {key: rt.context.get(key) for key in keys}


async def test_context_changes_of_reused_calls_are_replayed_in_order():
    """What reused calls changed in the context is changed again in order."""

    async def main():
        await rt.call(everything)
        await rt.call(putting, "last", 1)
        await rt.call(step, "x")
        return everything_in_it()

    BROKEN.add("x")
    flow = flow_of(main, context={"given": 1, "kept": 2})
    await failing(flow)
    BROKEN.clear()
    ran()
    for attempt in range(2):
        result, session = await resumed(flow)
        assert result == {"kept": 2, "a": 3, "b": "late", "thread t": "t", "last": 1}
        assert session.context == result
        assert ran() == ([] if attempt else ["x"])


async def test_last_of_concurrent_context_changes_counts_again():
    """Of concurrent changes of one key, the one that came last counts again."""

    async def slowly(value):
        await anyio.sleep(DELAYS.get(value, 0))
        rt.context.put("key", value)

    async def main():
        await rt.call_batch(slowly, ["last", "first"])
        await rt.call(step, "x")
        return rt.context.get("key")

    DELAYS.update(last=2, first=1)
    BROKEN.add("x")
    flow = flow_of(main)
    assert (await failing(flow)).context == {"key": "last"}
    BROKEN.clear()
    assert (await resumed(flow))[0] == "last"


async def test_context_changes_survive_several_resumes():
    """Changes of the context are applied again when the run that is resumed had itself reused them."""

    async def main():
        await rt.call(everything)
        await rt.call(step, "x")
        await rt.call(die)
        await rt.call(step, "y")
        return everything_in_it()

    BROKEN.add("x")
    flow = flow_of(main, context={"given": 1})
    await failing(flow)
    BROKEN.clear()
    BROKEN.add("y")
    await resumed_badly(flow)
    BROKEN.clear()
    ran()
    expected = {"a": 3, "b": "late", "thread t": "t"}
    result, session = await resumed(flow, "dead")  # from the journal
    assert (result, session.context, ran()) == (expected, expected, ["die", "y"])
    result, session = await resumed(flow)  # from the document
    assert (result, session.context, ran()) == (expected, expected, ["y"])


async def test_what_a_call_that_runs_again_had_changed_is_not_applied():
    async def flaky():
        rt.context.put("from", "broken" if BROKEN else "whole")
        if BROKEN:
            rt.context.put("rubbish", 1)
            raise ValueError

    BROKEN.add("flaky")
    flow = flow_of(flaky)
    await failing(flow)
    BROKEN.clear()
    _, session = await resumed(flow)
    assert session.context == {"from": "whole"}


async def test_a_deletion_of_what_is_not_there_any_more_does_no_harm():
    async def main():
        await rt.call(removing, "given")
        await rt.call(step, "x")

    BROKEN.add("x")
    await failing(flow_of(main, context={"given": 1}))
    BROKEN.clear()
    _, session = await resumed(flow_of(main, context={}))
    assert session.context == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("lock", threading.Lock()), ("password", "swordfish"), ("pair", (1, 2)), (3, "number")],
    ids=["opaque", "secret", "tuple", "no text key"],
)
async def test_call_whose_context_change_is_not_on_record_runs_again(key, value):
    """A call whose change of the context is not all on record runs again."""

    async def change():
        RAN.append("change")
        await rt.call(inner)
        return 1

    async def inner():
        rt.context.put(key, value)

    async def main():
        await rt.call(change)
        await rt.call(step, "x")

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    BROKEN.clear()
    ran()
    _, session = await resumed(flow)
    assert ran() == ["change", "x"]
    assert session.context[key] is value
    for name in ("change", "inner"):
        assert "context" in reasons(session.info)[name]
        assert str(key) in reasons(session.info)[name]


async def test_replayed_context_values_are_not_shared_with_the_record():
    """What is put into the context again is not shared with the record."""

    async def put():
        rt.context.put("items", [1])
        return [1]

    async def main():
        result = await rt.call(put)
        result.append(2)
        rt.context.get("items").append(2)
        await rt.call(step, "x")
        return result, rt.context.get("items")

    BROKEN.add("x")
    flow = flow_of(main)
    await failing(flow)
    for _ in range(2):
        await resumed_badly(flow)
    BROKEN.clear()
    result, _ = await resumed(flow)
    assert result == ([1, 2], [1, 2])


# ---- fork


async def test_fork_runs_again_from_a_node_on_and_leaves_the_run_alone():
    flow = flow_of(steps)
    await flow.ainvoke("a", "b", "c")
    before = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    ran()
    for what, again in ((step, "abc"), ("step", "abc"), (steps, "abc"), (1, "abc"), (3, "bc"), (6, "c"), (7, "")):
        connection = flow.connect()
        assert await connection.afork("run", before=what) == ["a!", "b!", "c!"]
        assert ran() == list(again), what
        assert connection.session_id != "run"
        assert connection.session.resumes == "run"
        check(connection.session)
    assert {name: (FOLDER / name).read_bytes() for name in before} == before


async def test_fork_before_a_node_keeps_what_completed_before_it():
    """A fork before a node keeps what had completed before its first call."""

    async def other(name):
        RAN.append(name)
        return name

    async def main(*names):
        return [await rt.call(other if name.isupper() else step, name) for name in names]

    flow = flow_of(main)
    await flow.ainvoke("a", "B", "c", "D")
    ran()
    connection = flow.connect()
    assert await connection.afork("run", before=other) == ["a!", "B", "c!", "D"]
    assert ran() == ["B", "c", "D"]
    assert reasons(connection.session.info)["other"] == "it is not on record"
    assert await flow.afork("run", "a", "B", "c", "E", before="other") == ["a!", "B", "c!", "E"]
    assert ran() == ["a", "B", "c", "E"]  # other arguments: the entry point is another call


async def test_fork_leaves_the_journal_of_a_run_that_died_alone():
    async def main():
        await rt.call(step, "a")
        if not FOLDER.joinpath("dead.journal").exists():
            keep_journal()
        await rt.call(step, "b")

    flow = flow_of(main)
    await flow.ainvoke()
    before = (FOLDER / "dead.journal").read_bytes()
    ran()
    await flow.afork("dead", before=3)
    assert ran() == ["b"]
    assert (FOLDER / "dead.journal").read_bytes() == before


async def test_a_fork_can_be_resumed_like_any_run():
    BROKEN.add("c")
    flow = flow_of(steps)
    await failing(flow, "a", "b", "c")
    connection = flow.connect()
    with pytest.raises(ValueError):
        await connection.afork("run", before=3)
    BROKEN.clear()
    ran()
    assert (await resumed(flow, connection.session_id))[0] == ["a!", "b!", "c!"]
    assert ran() == ["c"]


async def test_a_session_forks_into_the_identifier_that_it_is_given():
    flow = flow_of(steps)
    await flow.ainvoke("a", "b")
    before = (FOLDER / "run.json").read_bytes()
    ran()
    async with rt.Session(resume="run", before=3, run_identifier="fork") as session:
        await rt.call(steps, "a", "b")
    assert ran() == ["b"]
    check(session)
    assert (FOLDER / "run.json").read_bytes() == before


async def test_a_session_can_resume_into_another_identifier():
    BROKEN.add("b")
    await failing(flow_of(steps), "a", "b")
    BROKEN.clear()
    before = (FOLDER / "run.json").read_bytes()
    ran()
    async with rt.Session(resume="run", run_identifier="copy") as session:
        await rt.call(steps, "a", "b")
    assert (session.identifier, ran()) == ("copy", ["b"])
    assert (FOLDER / "run.json").read_bytes() == before


async def test_forking_a_named_session_leaves_its_run_alone():
    async with rt.Session(name="nightly") as session:
        await rt.call(steps, "a", "b")
    before = (FOLDER / "nightly.json").read_bytes()
    async with rt.Session(name="nightly", resume="nightly", before=step) as session:
        await rt.call(steps, "a", "b")
    assert session.identifier != "nightly"
    assert (FOLDER / "nightly.json").read_bytes() == before


async def test_a_fork_does_not_destroy_another_run_that_died():
    await flow_of(steps).ainvoke("a")
    (FOLDER / "other.journal").write_bytes(b"what is left of a run that died")
    async with rt.Session(resume="run", before=step, run_identifier="other"):
        await rt.call(steps, "a")
    assert [path.read_bytes() for path in FOLDER.glob("other.*.journal")] == [b"what is left of a run that died"]


async def test_fork_has_a_random_identifier_despite_the_configuration(monkeypatch):
    flow = rt.Flow("Flow", steps)
    monkeypatch.setenv("RAILTRACKS_RUN_IDENTIFIER", "run")
    await flow.ainvoke("a", "b")
    connection = flow.connect()
    await connection.afork("run", before=3)
    assert connection.session_id != "run"


# ---- what others see


async def test_subscribers_are_notified_of_reused_calls():
    BROKEN.add("b")
    await failing(flow_of(steps), "a", "b")
    BROKEN.clear()
    events = []
    session = rt.Session(resume="run")
    session.subscribe(events.append, kinds=(CallCreated, CallSucceeded))
    async with session:
        await rt.call(steps, "a", "b")
    assert [(type(e).__name__, e.node_id) for e in events] == [
        ("CallCreated", "run-n0"),
        ("CallCreated", "run-n1"),
        ("CallSucceeded", "run-n1"),
        ("CallCreated", "run-n2"),
        ("CallSucceeded", "run-n2"),
        ("CallSucceeded", "run-n0"),
    ]


async def test_log_names_reused_calls(caplog):
    BROKEN.add("b")
    await failing(flow_of(steps), "a", "b")
    BROKEN.clear()
    caplog.clear()
    await resumed(flow_of(steps, logging_setting="REGULAR"))
    told = [record.getMessage() for record in caplog.records]
    assert told.count("steps CREATED step") == 2
    assert (told.count("step REUSED"), told.count("step DONE")) == (1, 1)
    assert not any("overwriting" in text for text in told)


async def test_session_that_resumes_nothing_makes_no_decisions():
    connection = flow_of(steps).connect()
    await connection.ainvoke("a")
    assert connection.session.info.resumed == []
    assert connection.session.resumes is None


async def test_the_decisions_are_in_the_saved_state_and_in_the_journal():
    async def main():
        await rt.call(steps, "a")
        await rt.call(die, "later")

    BROKEN.add("b")
    flow = flow_of(main)
    await flow.ainvoke()
    _, session = await resumed(flow, "later")
    assert rt.ExecutionInfo.load(FOLDER / "later.json").resumed == session.info.resumed
    assert [(d.name, d.reused) for d in session.info.resumed] == [("main", False), ("steps", True), ("die", False)]


# ---- stores and durability


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
@pytest.mark.parametrize("kind", ["file", "memory", "sqlite"])
async def test_every_store_and_durability_can_be_resumed(kind, durability):
    store = {"file": lambda: None, "memory": MemoryStore, "sqlite": lambda: SQLiteStore("runs.db")}[kind]()
    flow = flow_of(steps, store=store, durability=durability)
    BROKEN.add("b")
    with pytest.raises(ValueError):
        await flow.ainvoke("a", "b", "c")
    BROKEN.clear()
    BROKEN.add("c")
    with pytest.raises(ValueError):
        await flow.aresume("run")
    BROKEN.clear()
    connection = flow.connect()
    assert await connection.aresume("run") == ["a!", "b!", "c!"]
    assert ran() == ["a", "b", "b", "c", "c"]
    assert rt.state.load_run("run", store) == connection.session.info
    forked = flow.connect()
    assert await forked.afork("run", before=3) == ["a!", "b!", "c!"]
    assert ran() == ["b", "c"]
    assert rt.state.load_run(forked.session_id, store) == forked.session.info


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_run_that_died_is_resumed_from_every_store(kind):
    store = MemoryStore() if kind == "memory" else SQLiteStore("runs.db")

    async def main():
        await rt.call(steps, "a", "b")
        if "die" in BROKEN:
            stored = store.read("run")
            appender = store.open("dead", stored.journal)
            appender.sync()
            appender.close()
            BROKEN.remove("die")
        return await rt.call(step, "c")

    BROKEN.add("die")
    flow = flow_of(main, store=store, durability="sync")  # what was appended is in the store at once
    await flow.ainvoke()
    ran()
    assert await flow.aresume("dead") == "c!"
    assert ran() == ["c"]


@pytest.mark.parametrize("durability", ["exit", "async"])
async def test_result_changed_later_is_on_record_as_it_was(durability):
    """A result that the caller changed later is on record as it was."""

    async def fetch():
        return ["fetched"]

    async def main():
        items = await rt.call(fetch)
        items.append("mine")
        await rt.call(step, "x")
        return items

    BROKEN.add("x")
    flow = flow_of(main, durability=durability)
    await failing(flow)
    BROKEN.clear()
    assert (await resumed(flow))[0] == ["fetched", "mine"]


@pytest.mark.parametrize("durability", ["exit", "async"])
async def test_arguments_that_changed_later_are_on_record_as_they_were(durability):
    async def count(items):
        return len(items)

    async def main():
        items, counts = [], []
        for i in range(3):
            items.append(i)
            counts.append(await rt.call(count, items))
        await rt.call(step, "x")
        return counts

    BROKEN.add("x")
    flow = flow_of(main, durability=durability)
    await failing(flow)
    BROKEN.clear()
    assert (await resumed(flow))[0] == [1, 2, 3]


async def test_without_saving_a_run_is_resumed_and_stays_as_it_was():
    BROKEN.add("b")
    await failing(flow_of(steps), "a", "b")
    BROKEN.clear()
    before = (FOLDER / "run.json").read_bytes()
    ran()
    connection = flow_of(steps, save_state=False).connect()
    assert await connection.aresume("run") == ["a!", "b!"]
    assert ran() == ["b"]
    assert reused(connection.session.info) == ["step"]
    assert (FOLDER / "run.json").read_bytes() == before
    assert not (FOLDER / "run.journal").exists()


# ---- errors


async def test_missing_run_is_refused_with_those_that_exist():
    flow = flow_of(steps)
    with pytest.raises(StateError, match=r"no run 'nowhere'.*none"):
        await flow.aresume("nowhere")
    await flow.ainvoke("a")
    for resumption in (flow.aresume("nowhere"), flow.afork("nowhere", before=step)):
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
async def test_bad_identifier_of_a_run_is_refused(identifier):
    with pytest.raises(ConfigError):
        rt.Session(resume=identifier)
    with pytest.raises(ConfigError):
        await flow_of(steps).aresume(identifier)
    with pytest.raises(ConfigError):
        await flow_of(steps).afork(identifier, before=step)


async def test_none_is_refused_as_the_identifier_to_resume():
    flow = flow_of(steps)
    with pytest.raises(ConfigError):
        await flow.aresume(None)
    with pytest.raises(ConfigError):
        await flow.afork(None, before=step)


async def test_running_run_is_refused():
    flow = flow_of(steps)
    async with rt.Session(run_identifier="run"):
        await rt.call(step, "a")
        with pytest.raises(RunInUseError, match="'run'"):
            await flow.aresume("run")
        with pytest.raises(RunInUseError), rt.Session(resume="run"):
            pytest.fail("it was entered")
        assert await rt.call(step, "b") == "b!"
    saved = rt.ExecutionInfo.load(FOLDER / "run.json")
    assert [r.args for r in saved.records] == [("a",), ("b",)]


async def test_unreadable_document_is_refused_and_stays():
    FOLDER.mkdir()
    (FOLDER / "run.json").write_text("{")
    with pytest.raises(StateError, match=r"'run'.*run\.json"):
        await flow_of(steps).aresume("run")
    assert (FOLDER / "run.json").read_text() == "{"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"before": step}, r"before.*resume"),
        ({"before": step, "resume": "run", "run_identifier": "run"}, r"'run'.*another run_identifier"),
        ({"before": 1.5, "resume": "run"}, r"1\.5.*node.*name.*step"),
        ({"before": True, "resume": "run"}, "True"),
        ({"before": [step], "resume": "run"}, "before"),
        ({"resume": 5}, "5"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_together_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        rt.Session(**options)


async def test_fork_before_an_uncalled_node_is_refused():
    """A fork before a node that was never called is refused with the nodes that were."""
    flow = flow_of(steps)
    await flow.ainvoke("a")
    for before in ("other", gate, Scale, functools.partial(Scale, 2)):
        with pytest.raises(StateError, match=r"'run' has no call of \w+; it has calls of step, steps"):
            await flow.afork("run", before=before)


async def test_recorded_arguments_need_an_open_session_that_resumes():
    with pytest.raises(SessionError, match=r"rt\.Session\(resume=\.\.\.\)"):
        rt.Session().recorded_arguments(step)
    async with rt.Session(run_identifier="run") as session:
        await rt.call(step, "a")
        with pytest.raises(SessionError, match=r"rt\.Session\(resume=\.\.\.\)"):
            session.recorded_arguments(step)
    async with rt.Session(resume="run") as session:
        assert session.recorded_arguments(step) == (("a",), {})
        with pytest.raises(StateError, match="no top-level call of gate"):
            session.recorded_arguments(gate)


async def test_late_call_is_refused_before_it_is_matched():
    await flow_of(steps).ainvoke("a")
    called = anyio.Event()

    async def late():
        await called.wait()
        with pytest.raises(SessionEndedError):
            await rt.call(steps, "a")

    async with anyio.create_task_group() as group:
        async with rt.Session(resume="run"):
            group.start_soon(late)
            await anyio.sleep(1)
        called.set()
