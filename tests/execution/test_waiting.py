"""Where calls wait, as a timeout shows it."""

from __future__ import annotations

import asyncio
import pickle
import threading
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError
from railtracks.execution._waiting import MAX_SHOWN, waiting_calls
from tests import virtual

HERE = Path(__file__).name
LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def line_of(mark):
    """The place of the line of this file that ends with a comment."""
    (number,) = [number for number, line in enumerate(LINES, 1) if line.endswith(f"  # {mark}")]
    return f"line {number} of {HERE}"


async def helper(seconds=1000):
    await anyio.sleep(seconds)  # in a helper


@rt.function_node
async def leaf():
    await helper()


@rt.function_node
async def branch():
    await rt.call(leaf)


@rt.function_node
async def gathers():
    with anyio.CancelScope():
        async with anyio.create_task_group() as group:
            group.start_soon(helper)
            await anyio.sleep_forever()  # beside a task of its own


@rt.function_node
async def many():
    await rt.call_batch(leaf_of, range(9))


@rt.function_node
async def leaf_of(number):
    await anyio.sleep(1000)  # one of many


@rt.function_node
async def iterates():
    async for item in items():
        await helper(item)


async def items():
    await anyio.sleep(1000)  # in an async generator
    yield 1


@rt.function_node
async def both():
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, branch)
        group.start_soon(rt.call, gathers)


class Awaitable:
    def __await__(self):
        return helper().__await__()


@rt.function_node
async def awaits_an_object():
    await Awaitable()


FOUND = {
    "leaf": (leaf, ["leaf, {in a helper}"]),
    "branch": (branch, ["leaf, {in a helper}"]),
    "gathers": (gathers, ["gathers, {beside a task of its own}"]),
    "many": (many, ["leaf_of, {one of many}"] * MAX_SHOWN),
    "iterates": (iterates, ["iterates, {in an async generator}"]),
    "both": (both, ["leaf, {in a helper}", "gathers, {beside a task of its own}"]),
    "object": (awaits_an_object, ["awaits_an_object, {in a helper}"]),
}


async def waiting_in(session, node, seconds=1.0):
    """What is found while the second of two top-level calls runs."""
    found = None

    async def look():
        nonlocal found
        await anyio.sleep(seconds)
        records = session._coordinator.state.records
        (root,) = [record.index for record in records if record.parent is None and record.name == node.name]
        found = waiting_calls(records, root)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(look)
        await rt.call(node)
    return found


def with_lines(texts):
    return tuple(text.partition("{")[0] + line_of(text.partition("{")[2][:-1]) for text in texts)


@pytest.mark.parametrize("name", FOUND)
async def test_innermost_calls_are_named_with_their_lines(name):
    node, expected = FOUND[name]
    async with rt.Session(save_state=False) as session:
        session.start_soon(anyio.sleep, 5)
        # In any order: trio decides which of two calls that begin at once comes first.
        assert sorted(await waiting_in(session, node)) == sorted(with_lines(expected))


class Stop(Exception):
    pass


async def test_calls_of_other_top_level_calls_are_left_out():
    with pytest.raises(Stop):
        async with rt.Session(save_state=False) as session:
            session.start_soon(leaf)
            assert await waiting_in(session, gathers) == with_lines(["gathers, {beside a task of its own}"])
            raise Stop


def test_sync_node_is_named_with_the_line_of_its_thread(backend):
    """In real time: a thread waits for real."""
    release = threading.Event()

    @rt.function_node
    def blocks():
        release.wait(30)  # in a thread

    @rt.function_node(abandon_on_cancel=False)
    def blocks_to_the_end():
        wait_for_release()

    def wait_for_release():
        release.wait(30)  # in a function of a thread

    @rt.function_node
    def calls():
        rt.call_sync(leaf)

    async def main(node, expected):
        found = None

        async def look():
            nonlocal found
            with anyio.move_on_after(30):
                while found != expected:  # until the thread has come there
                    await anyio.sleep(0.01)
                    found = waiting_calls(session._coordinator.state.records, 0)
            release.set()
            if node is calls:
                group.cancel_scope.cancel()

        session = rt.Session(save_state=False, logging_setting="NONE")
        async with session, anyio.create_task_group() as group:
            group.start_soon(look)
            await rt.call(node)
        return found

    for node, place in ((blocks, "in a thread"), (blocks_to_the_end, "in a function of a thread")):
        release.clear()
        expected = (f"{node.name}, {line_of(place)}",)
        assert anyio.run(main, node, expected, backend=backend) == expected
    expected = (f"leaf, {line_of('in a helper')}",)
    assert anyio.run(main, calls, expected, backend=backend) == expected


async def test_calls_that_have_ended_are_not_waiting():
    async with rt.Session(save_state=False) as session:
        await rt.call(len, "abc")
        assert waiting_calls(session._coordinator.state.records, 0) == ()


def test_without_an_event_loop_calls_are_named_alone():
    session = rt.Session(save_state=False)
    records = session._coordinator.state
    top = records.created("top", "Tool", (), {}, None, 0.0)
    records.created("below", "Tool", (), {}, top, 0.0)
    assert waiting_calls(records.records, 0) == ("below",)


def test_gathered_calls_are_found_on_asyncio():
    @rt.function_node
    async def native():
        await asyncio.gather(rt.call(leaf), rt.call(leaf))

    async def main():
        async with rt.Session(save_state=False) as session:
            return await waiting_in(session, native)

    assert virtual.run("asyncio", main) == with_lines(["leaf, {in a helper}"] * 2)


# ---- the error


def test_error_of_a_timeout_shows_what_was_waiting():
    error = GlobalTimeOutError(5.0, "slow exceeded the timeout of 5 s", ["a, line 1 of x.py", "b"])
    assert error.waiting == ("a, line 1 of x.py", "b")
    assert error.__notes__ == ["waiting at that moment: a, line 1 of x.py", "waiting at that moment: b"]
    again = pickle.loads(pickle.dumps(error))
    assert (again.timeout, again.message, again.waiting) == (5.0, error.message, error.waiting)
    assert again.__notes__ == error.__notes__


def test_error_of_a_timeout_may_know_nothing():
    error = GlobalTimeOutError(5.0)
    assert (str(error), error.waiting) == ("the call exceeded its timeout of 5 s", ())
    assert not hasattr(error, "__notes__")
    assert pickle.loads(pickle.dumps(error)).waiting == ()
