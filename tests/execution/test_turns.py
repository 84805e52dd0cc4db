"""Turns: those who come get them one after the other, also when one leaves the queue before its turn."""

from __future__ import annotations

import anyio

from railtracks._concurrency._turns import Turns


async def take(turns, name, taken):
    turn, has_come = turns.join()
    try:
        if not has_come:
            await turn.event.wait()
        taken.append(name)
        await anyio.sleep(1)
    finally:
        turns.leave(turn)


async def test_turns_come_one_after_the_other():
    turns, taken = Turns(), []
    async with anyio.create_task_group() as group:
        for name in range(3):
            group.start_soon(take, turns, name, taken)
            await anyio.wait_all_tasks_blocked()
        await anyio.sleep(0.5)
        assert taken == [0]
        await anyio.sleep(1)
        assert taken == [0, 1]
    assert taken == [0, 1, 2]
    assert turns.join()[1]


async def test_one_that_leaves_early_is_passed_over():
    turns, taken = Turns(), []
    async with anyio.create_task_group() as group:
        group.start_soon(take, turns, "first", taken)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.5):
            await take(turns, "second", taken)
        group.start_soon(take, turns, "third", taken)
    assert taken == ["first", "third"]
