"""A run is the same in each process, on each Python, whatever the hash seed is and what else the machine does."""

from __future__ import annotations

import re
import sys

import anyio
import pytest
import trio

import railtracks as rt
from railtracks.testing import simulate
from tests.harness.planted import same


@pytest.mark.parametrize("seed", [*range(4), *range(20, 28)])
def test_threads_that_wake_trio_up_do_not_change_the_order(seed):
    """How often trio looks for what threads hand over is a matter of real time."""

    @rt.function_node
    async def step(order, me):
        for _ in range(3):
            order.append(me)
            await anyio.sleep(0)

    @rt.function_node
    async def main(turns):
        order = []
        token = trio.lowlevel.current_trio_token()
        async with anyio.create_task_group() as group:
            for me in range(3):
                group.start_soon(rt.call, step, order, me)
            for turn in range(8):
                if turn in turns:
                    token.run_sync_soon(lambda: None)
                await anyio.sleep(0)
        return order

    orders = [simulate(main, turns, seed=seed, backend="trio").result for turns in ([], [0], [1, 4], range(8))]
    assert orders == [orders[0]] * 4


def test_stories_have_no_addresses(backend):
    @rt.function_node
    async def describe():
        message = ""
        with anyio.move_on_after(1):
            try:
                await anyio.sleep(2)
            except BaseException as exc:
                message = str(exc)
                raise
        return [object(), anyio.get_current_task(), ValueError(message)]

    story = simulate(describe, backend=backend).story
    assert "TaskInfo(name=" in story
    assert "ValueError('cancelled" in story.replace("'C", "'c")
    assert re.search("0x|id=|scope [0-9a-f]{6}", story) is None


# ---- the same in each process


FLOWS = ["race on context", "slow save overtakes", "seat sold by two threads", "sent again", "sentinel for each job"]


@pytest.mark.slow
@pytest.mark.either_backend
def test_all_processes_run_the_same(capsys):
    assert same.main([*FLOWS, "--seeds", "6", "--short"]) == 0
    *rest, last = capsys.readouterr().out.splitlines()
    assert last == f"{len(FLOWS) * 24} runs in 2 processes, 0 differ, 0 not decided by the seed"
    assert rest == []


@pytest.mark.either_backend
def test_a_run_that_differs_is_named():
    one = {"a": same.Text("x\n1", "y", ""), "b": same.Text("x", "y", "")}
    for text, line in [
        (same.Text("x\n2", "y", ""), "  - 1\n  + 2"), (same.Text("x", "y", ""), "  - 1\n  + (nothing)"),
        (same.Text("x\n1", "z", ""), "  - y\n  + z"),
    ]:  # fmt: skip
        assert list(same.differences(one, one, {**one, "a": text})) == [f"a\n{line}"]
    assert list(same.differences(one, one, {**one, "a": same.Text("", "", "a thread")})) == []
    other = {"a": same.Text("x\n1", "another Python", ""), "b": one["b"]}
    assert list(same.differences(one, other, other)) == []
    assert list(same.differences(one, one, {"a": one["a"]})) == ["b\n  only in the others"]


@pytest.mark.either_backend
def test_processes_that_are_compared_differ():
    first, *others = same.variants([sys.executable, "python3.13"], False)
    assert len(others) == 7
    assert {each.python for each in others} == {sys.executable, "python3.13"}
    assert {each.hash_seed for each in others} == {"0", "1", "random"}
    assert {each.is_busy for each in others} == {each.is_reversed for each in others} == {True, False}
    assert (first.hash_seed, first.is_busy, first.is_reversed) == ("0", False, False)
