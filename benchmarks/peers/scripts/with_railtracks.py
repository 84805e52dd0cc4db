"""Railtracks: nodes in a session. `runs` and the calls are measured without saving, `saved_runs` and `durable` with it.

The environment variable BACKEND is "asyncio" (the default) or "trio".
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import jobs

import railtracks as rt

BACKEND = os.environ.get("BACKEND", "asyncio")


@rt.function_node
async def step(number: int) -> int:
    return number + 1


@rt.function_node
async def leaf(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return number


@rt.function_node
async def down(level: int) -> int:
    return level if level == 0 else await rt.call(down, level - 1)


@rt.function_node
async def tell(count: int) -> None:
    for number in range(count):
        await rt.broadcast(number)


@rt.function_node
async def two_steps(number: int) -> int:
    return await rt.call(step, await rt.call(step, number))


@rt.function_node
async def ten_steps(folder: str) -> None:
    for number in range(jobs.STEPS):
        await rt.call(effect, folder, number)


two_steps_flow = rt.Flow("Two steps", two_steps, save_state=False, logging_setting="NONE")

effect = rt.function_node(jobs.effect)
tick = rt.function_node(jobs.tick)
tick_or_fail = rt.function_node(jobs.tick_or_fail)


@rt.function_node
async def all_of(node: Callable[[int], Awaitable[int]], count: int) -> None:
    await rt.call_batch(node, range(count), return_exceptions=False)


def quiet(**options: object) -> rt.Session:
    return rt.Session(save_state=False, logging_setting="NONE", **{"timeout": math.inf, **options})  # type: ignore[arg-type]


async def sequential(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        for number in range(count):
            await rt.call(step, number)

    async with quiet():
        return await jobs.per_item(count, flow)


async def fan_out(count: int) -> jobs.Result:
    async with quiet():
        return await jobs.per_item(count, lambda count: rt.call_batch(leaf, range(count)))


async def nested(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        for _ in range(count // jobs.DEPTH):
            await rt.call(down, jobs.DEPTH)

    async with quiet():
        return await jobs.per_item(count, flow)


async def runs(count: int) -> jobs.Result:
    async def many(count: int) -> None:
        for number in range(count):
            await two_steps_flow.ainvoke(number)

    return await jobs.per_item(count, many)


async def saved_runs(count: int) -> jobs.Result:
    with tempfile.TemporaryDirectory() as folder:
        flow = rt.Flow("Two steps", two_steps, store=rt.state.FileStore(folder), logging_setting="NONE")

        async def many(count: int) -> None:
            for number in range(count):
                await flow.ainvoke(number)

        return await jobs.per_item(count, many)


async def memory(count: int) -> jobs.Result:
    async with quiet():
        with jobs.Kept(count) as kept:
            for number in range(count):
                await rt.call(step, number)
        return kept.result


async def timeout(count: int) -> jobs.Result:
    async def flow() -> None:
        async with quiet(timeout=jobs.LIMIT):
            await rt.call(all_of, tick, count)

    return await jobs.seen_and_leaked(flow)


async def first_error(count: int) -> jobs.Result:
    async def flow() -> None:
        async with quiet():
            await rt.call(all_of, tick_or_fail, count)

    return await jobs.seen_and_leaked(flow)


async def events(count: int) -> jobs.Result:
    received: list[object] = []

    async def flow(count: int) -> None:
        async with quiet(broadcast_callback=received.append):
            await rt.call(tell, count)

    result = await jobs.per_item(count, flow)
    assert len(received) == count
    return result


async def durable(folder: str) -> None:
    flow = rt.Flow(
        "Ten steps",
        ten_steps,
        store=rt.state.FileStore(folder),
        logging_setting="NONE",
        run_identifier="ten",
        if_exists="resume",
    )
    await flow.ainvoke(folder)


if __name__ == "__main__":
    if BACKEND == "trio":
        import trio

        jobs.sleep = trio.sleep
        jobs.main(globals(), trio.run)
    jobs.main(globals())
