"""Railtracks 1.7.0, the earlier project of the same name on the package index: nodes in flows.

It cannot resume a run.
"""

from __future__ import annotations

import asyncio
import os

import jobs

os.environ.setdefault("RAILTRACKS_DISABLE_EVENTS", "true")  # its way not to save

import railtracks as rt


@rt.function_node
async def step(number: int) -> int:
    return number + 1


@rt.function_node
async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


@rt.function_node
async def down(level: int) -> int:
    return level if level == 0 else await rt.call(down, level - 1)


@rt.function_node
async def tick(number: int) -> int:
    return await jobs.tick(number)


@rt.function_node
async def tick_or_fail(number: int) -> int:
    return await jobs.tick_or_fail(number)


@rt.function_node
async def in_turn(count: int) -> None:
    for number in range(count):
        await rt.call(step, number)


@rt.function_node
async def at_once(count: int) -> None:
    await rt.call_batch(leaf, range(count))


@rt.function_node
async def levels(count: int) -> None:
    for _ in range(count // jobs.DEPTH):
        await rt.call(down, jobs.DEPTH)


@rt.function_node
async def two_steps(number: int) -> int:
    return await rt.call(step, await rt.call(step, number))


@rt.function_node
async def all_tick(count: int) -> None:
    await rt.call_batch(tick, range(count), return_exceptions=False)


@rt.function_node
async def all_tick_or_fail(count: int) -> None:
    await rt.call_batch(tick_or_fail, range(count), return_exceptions=False)


@rt.function_node
async def tell(count: int) -> None:
    for number in range(count):
        await rt.broadcast(str(number))


kept: jobs.Result = {}


@rt.function_node
async def keeping(count: int) -> None:
    with jobs.Kept(count) as result:
        for number in range(count):
            await rt.call(step, number)
    kept.update(result.result)


async def sequential(count: int) -> jobs.Result:
    return await jobs.per_item(count, rt.Flow("In turn", in_turn, timeout=600).ainvoke)


async def fan_out(count: int) -> jobs.Result:
    return await jobs.per_item(count, rt.Flow("At once", at_once, timeout=600).ainvoke)


async def nested(count: int) -> jobs.Result:
    return await jobs.per_item(count, rt.Flow("Levels", levels, timeout=600).ainvoke)


async def runs(count: int) -> jobs.Result:
    flow = rt.Flow("Two steps", two_steps)

    async def many(count: int) -> None:
        for number in range(count):
            await flow.ainvoke(number)

    return await jobs.per_item(count, many)


async def saved_runs(count: int) -> jobs.Result:
    os.environ.pop("RAILTRACKS_DISABLE_EVENTS")
    return await runs(count)


async def memory(count: int) -> jobs.Result:
    await rt.Flow("Keeping", keeping, timeout=600).ainvoke(count)
    return kept


async def timeout(count: int) -> jobs.Result:
    flow = rt.Flow("Ticking", all_tick, timeout=jobs.LIMIT)
    return await jobs.seen_and_leaked(lambda: flow.ainvoke(count))


async def first_error(count: int) -> jobs.Result:
    flow = rt.Flow("Failing", all_tick_or_fail)
    return await jobs.seen_and_leaked(lambda: flow.ainvoke(count))


async def events(count: int) -> jobs.Result:
    received: list[str] = []
    flow = rt.Flow("Telling", tell, broadcast_callback=received.append)
    result = await jobs.per_item(count, flow.ainvoke)
    assert len(received) == count
    return result


if __name__ == "__main__":
    jobs.main(globals())
