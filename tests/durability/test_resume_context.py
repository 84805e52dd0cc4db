"""Changes of the context that reused calls had made are made again."""

from __future__ import annotations

import datetime
import json
import threading
from collections import deque
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from tests.durability.values import Point
from tests.durability.world import failing, failing_once, flow_of, reasons, resumed, resumed_badly


async def removing(key):
    rt.context.delete(key)


def everything_in_it():
    keys = rt.context.keys()
    return {key: rt.context.get(key) for key in keys}


def changes(world):
    """Return a node that puts one value into the context, and one that makes changes of all kinds."""

    async def putting(key, value):
        world.note((key, value))
        rt.context.put(key, value)

    async def everything():
        """Change the context at two levels, in an order that counts."""
        world.note("everything")
        rt.context.put("a", 1)
        rt.context.update({"a": 2, "b": [1, {"c": None}]})
        await rt.call(putting, "a", 3)
        rt.context.put("b", "late")
        rt.context.put("gone", 1)
        await rt.call(removing, "gone")
        await rt.call(removing, "given")
        await rt.call(world.in_thread, "t")

    return putting, everything


async def test_context_changes_of_reused_calls_are_replayed_in_order(world):
    """What reused calls changed in the context is changed again in order."""
    putting, everything = changes(world)

    async def main():
        await rt.call(everything)
        await rt.call(putting, "last", 1)
        await rt.call(world.step, "x")
        return everything_in_it()

    flow = flow_of(main, context={"given": 1, "kept": 2})
    await failing_once(flow, world, "x")
    for attempt in range(2):
        result, session = await resumed(flow)
        assert result == {"kept": 2, "a": 3, "b": "late", "thread t": "t", "last": 1}
        assert session.context == result
        assert world.ran() == ([] if attempt else ["x"])


async def test_last_of_concurrent_context_changes_counts_again(world):
    """Of concurrent changes of one key, the one that came last counts again."""

    async def slowly(value):
        await anyio.sleep(world.delays.get(value, 0))
        rt.context.put("key", value)

    async def main():
        await rt.call_batch(slowly, ["last", "first"])
        await rt.call(world.step, "x")
        return rt.context.get("key")

    world.delays.update(last=2, first=1)
    world.broken.add("x")
    flow = flow_of(main)
    assert (await failing(flow)).context == {"key": "last"}
    world.broken.clear()
    assert (await resumed(flow))[0] == "last"


@pytest.mark.parametrize("where", ["in a task", "in a thread"])
async def test_a_caller_s_earlier_change_comes_before_a_replayed_one(world, where):
    """A call that is replayed waits for an earlier change of the same key, which a call that runs again has to make."""

    async def puts_last():
        await anyio.sleep(3)
        rt.context.put("key", "last")

    async def puts_first():
        await anyio.sleep(2)
        if where == "in a task":
            rt.context.put("key", "first")
        else:
            await anyio.to_thread.run_sync(rt.context.put, "key", "first")
        await rt.call(ends_later)

    async def ends_later():
        await anyio.sleep(5)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(puts_first)
            tasks.start_soon(rt.call, puts_last)
        await rt.call(world.step, "x")
        return rt.context.get("key")

    world.broken.add("x")
    flow = flow_of(main)
    assert (await failing(flow)).context == {"key": "last"}
    world.broken.clear()
    assert (await resumed(flow))[0] == "last"


async def test_an_earlier_change_that_is_not_made_again_is_given_up(world):
    """A call is replayed although a change that came before its own is not made again, as the flow has changed."""

    async def puts_last():
        await anyio.sleep(3)
        rt.context.put("key", "last")

    async def main():
        if world.broken:
            rt.context.put("key", "first")
        await rt.call(puts_last)
        await rt.call(world.step, "x")
        return rt.context.get("key")

    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow)
    world.broken.clear()
    assert (await resumed(flow))[0] == "last"


async def test_context_changes_survive_several_resumes(world):
    """Changes of the context are applied again when the run that is resumed had itself reused them."""
    _, everything = changes(world)

    async def main():
        await rt.call(everything)
        await rt.call(world.step, "x")
        await rt.call(world.die)
        await rt.call(world.step, "y")
        return everything_in_it()

    world.broken.add("x")
    flow = flow_of(main, context={"given": 1})
    await failing(flow)
    world.broken.clear()
    world.broken.add("y")
    await resumed_badly(flow)
    world.broken.clear()
    world.ran()
    expected = {"a": 3, "b": "late", "thread t": "t"}
    result, session = await resumed(flow, "dead")  # from the journal
    assert (result, session.context, world.ran()) == (expected, expected, ["die", "y"])
    result, session = await resumed(flow)  # from the document
    assert (result, session.context, world.ran()) == (expected, expected, ["y"])


async def test_what_a_call_that_runs_again_had_changed_is_not_applied(world):
    async def flaky():
        rt.context.put("from", "broken" if world.broken else "whole")
        if world.broken:
            rt.context.put("rubbish", 1)
            raise ValueError

    world.broken.add("flaky")
    flow = flow_of(flaky)
    await failing(flow)
    world.broken.clear()
    _, session = await resumed(flow)
    assert session.context == {"from": "whole"}


async def test_a_deletion_of_what_is_not_there_any_more_does_no_harm(world):
    async def main():
        await rt.call(removing, "given")
        await rt.call(world.step, "x")

    world.broken.add("x")
    await failing(flow_of(main, context={"given": 1}))
    world.broken.clear()
    _, session = await resumed(flow_of(main, context={}))
    assert session.context == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("lock", threading.Lock()), ("password", "swordfish"), ("price", Point(1, 2)), (3, "number")],
    ids=["opaque", "secret", "class", "no text key"],
)
async def test_call_whose_context_change_is_not_on_record_runs_again(world, key, value):
    """A call whose change of the context is not all on record runs again."""

    async def change():
        world.note("change")
        await rt.call(inner)
        return 1

    async def inner():
        rt.context.put(key, value)

    async def main():
        await rt.call(change)
        await rt.call(world.step, "x")

    flow = flow_of(main)
    await failing_once(flow, world, "x")
    _, session = await resumed(flow)
    assert world.ran() == ["change", "x"]
    assert session.context[key] is value
    for name in ("change", "inner"):
        assert "context" in reasons(session.info)[name]
        assert str(key) in reasons(session.info)[name]


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        datetime.datetime(2026, 11, 28, tzinfo=ZoneInfo("Europe/Berlin")),
        {"when": [datetime.timedelta(1)], "by": {Decimal(1): {Path("a")}}},
        deque([b"a"], maxlen=2),
    ],
    ids=["tuple", "datetime", "nested", "deque"],
)
async def test_values_in_the_context_come_back_with_their_types(world, value):
    """A step that put one there need not run again, after any number of resumes."""

    async def change():
        world.note("change")
        rt.context.put("key", value)

    async def main():
        await rt.call(change)
        await rt.call(world.step, "x")

    flow = flow_of(main)
    world.broken.add("x")
    await failing(flow)
    await resumed_badly(flow)
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow)
    assert world.ran() == ["x"]
    found = session.context["key"]
    assert (type(found), found, repr(found)) == (type(value), value, repr(value))


async def test_replayed_context_values_are_not_shared_with_the_record(world):
    """What is put into the context again is not shared with the record."""

    async def put():
        rt.context.put("items", [1])
        return [1]

    async def main():
        result = await rt.call(put)
        result.append(2)
        rt.context.get("items").append(2)
        await rt.call(world.step, "x")
        return result, rt.context.get("items")

    world.broken.add("x")
    flow = flow_of(main)
    await failing(flow)
    for _ in range(2):
        await resumed_badly(flow)
    world.broken.clear()
    result, _ = await resumed(flow)
    assert result == ([1, 2], [1, 2])


async def test_latest_session_has_the_last_word_about_the_context():
    failing = []

    @rt.function_node
    async def many():
        for i in range(10):
            rt.context.put("k", f"many {i}")

    @rt.function_node
    async def last():
        rt.context.put("k", "last")
        if failing.pop():
            raise OSError

    async def main():
        await rt.call(many)
        await rt.call(last)
        if failing.pop():
            raise OSError

    flow = rt.Flow("Flow", main, run_identifier="run")
    for failing[:] in ([True, True], [True, False]):
        with pytest.raises(OSError):
            await flow.aresume("run") if rt.state.list_runs() else await flow.ainvoke()
    failing[:] = [False]
    connection = flow.connect()
    await connection.aresume("run")
    assert connection.context["k"] == "last"


class Money:
    def __init__(self, cents):
        self.cents = cents


async def test_change_that_cannot_be_restored_has_its_call_run_again(world):
    """As where a hook of a registered type raises; it must not end a call that was replayed already."""

    def structure(cents):
        if raises:
            raise KeyError("no such currency")
        return Money(cents)

    async def putting():
        world.note("putting")
        rt.context.put("price", Money(3))

    async def main():
        await rt.call(putting)
        await rt.call(world.step, "x")
        return rt.context.get("price").cents

    raises = False
    rt.state.register_hooks(Money, lambda money: money.cents, structure)
    flow = flow_of(main)
    await failing_once(flow, world, "x")
    world.ran()
    raises = True
    result, session = await resumed(flow)
    assert result == 3
    assert "putting" in world.ran()
    assert "'price' cannot be restored (KeyError('no such currency'))" in str(reasons(session.info))


# ---- any tree of changes, over any number of attempts

KEYS = st.sampled_from("ab")
PUTS = st.tuples(st.just("put"), KEYS, st.integers(0, 9))
CHANGES = PUTS | st.tuples(st.just("delete"), KEYS)
PROGRAMS = st.recursive(
    st.lists(PUTS, min_size=1, max_size=2),
    lambda programs: st.tuples(
        st.tuples(st.just("call"), programs), CHANGES, st.tuples(st.just("call"), programs), CHANGES
    ).flatmap(st.permutations),
    max_leaves=6,
)


@example(program=[["call", [["call", [["put", "a", 1]]], ["put", "a", 2]]], ["put", "b", 0]], crashes=(4, 1))
@example(program=[["put", "a", 0], ["delete", "a"], ["call", [["put", "a", 0], ["put", "b", 0]]]], crashes=(5, 0, 1))
@given(program=PROGRAMS, crashes=st.tuples(st.integers(0, 14), st.integers(0, 3), st.integers(0, 14)))
def test_context_is_that_of_an_undisturbed_run(program, crashes):
    """However often the run fails and is resumed, whatever its calls put and delete, before and after they call."""

    class Crash(Exception):
        pass

    left: list[int | None] = []

    @rt.function_node
    async def perform(program: list[Any]) -> None:
        for name, *arguments in program:
            if left[-1] == 0:
                raise Crash
            left[-1] = None if left[-1] is None else left[-1] - 1
            if name == "put":
                rt.context.put(*arguments)
            elif name == "delete":
                if arguments[0] in everything_in_it():
                    rt.context.delete(*arguments)
            else:
                await rt.call(perform, *arguments)

    def attempt(run, *arguments):
        left.append(next(crash_points, None))
        connection = rt.Flow("F", perform, run_identifier="run", logging_setting="NONE", store=store).connect()
        try:
            getattr(connection, run)(*arguments)
        except Crash:
            return None
        return connection.context

    store, crash_points = rt.state.MemoryStore(), iter(())
    program = json.loads(json.dumps(program))
    undisturbed = attempt("invoke", program)
    store, crash_points = rt.state.MemoryStore(), iter(crashes)
    context = attempt("invoke", program)
    while context is None:
        context = attempt("resume", "run")
    assert context == undisturbed
