"""LangGraph's functional API: tasks in an entrypoint (https://docs.langchain.com/oss/python/langgraph/functional-api).

`saved_runs` and `durable` use the checkpointer for SQLite; the others have none.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable

import jobs
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task


@task
async def step(number: int) -> int:
    return number + 1


@task
async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


@task
async def down(level: int) -> int:
    return level if level == 0 else await down(level - 1)


@task
async def tick(number: int) -> int:
    return await jobs.tick(number)


@task
async def tick_or_fail(number: int) -> int:
    return await jobs.tick_or_fail(number)


@task
async def effect(folder: str, number: int) -> None:
    await jobs.effect(folder, number)


@entrypoint()
async def in_turn(count: int) -> None:
    for number in range(count):
        await step(number)


@entrypoint()
async def at_once(count: int) -> list[int]:
    return await asyncio.gather(*(leaf(number) for number in range(count)))


@entrypoint()
async def levels(count: int) -> None:
    for _ in range(count // jobs.DEPTH):
        await down(jobs.DEPTH)


async def two_steps(number: int) -> int:
    return await step(await step(number))


def all_of(child: Callable[[int], Awaitable[int]]):
    @entrypoint()
    async def flow(count: int) -> list[int]:
        return await asyncio.gather(*(child(number) for number in range(count)))

    return flow


@entrypoint()
async def writes(count: int) -> None:
    write = get_stream_writer()
    for number in range(count):
        write(number)
        await asyncio.sleep(0)


async def sequential(count: int) -> jobs.Result:
    return await jobs.per_item(count, in_turn.ainvoke)


async def fan_out(count: int) -> jobs.Result:
    return await jobs.per_item(count, at_once.ainvoke)


async def nested(count: int) -> jobs.Result:
    return await jobs.per_item(count, levels.ainvoke)


async def runs(count: int) -> jobs.Result:
    flow = entrypoint()(two_steps)

    async def many(count: int) -> None:
        for number in range(count):
            await flow.ainvoke(number)

    return await jobs.per_item(count, many)


async def saved_runs(count: int) -> jobs.Result:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncSqliteSaver.from_conn_string(os.path.join(folder, "runs.sqlite")) as saver:
            flow = entrypoint(checkpointer=saver)(two_steps)

            async def many(count: int) -> None:
                for number in range(count):
                    await flow.ainvoke(number, {"configurable": {"thread_id": str(number)}})

            return await jobs.per_item(count, many)


async def memory(count: int) -> jobs.Result:
    kept: jobs.Result = {}

    @entrypoint()
    async def flow(count: int) -> None:
        with jobs.Kept(count) as result:
            for number in range(count):
                await step(number)
        kept.update(result.result)

    await flow.ainvoke(count)
    return kept


async def timeout(count: int) -> jobs.Result:
    flow = all_of(tick)
    flow.step_timeout = jobs.LIMIT
    return await jobs.seen_and_leaked(lambda: flow.ainvoke(count))


async def first_error(count: int) -> jobs.Result:
    flow = all_of(tick_or_fail)
    return await jobs.seen_and_leaked(lambda: flow.ainvoke(count))


async def events(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        received = [event async for event in writes.astream(count, stream_mode="custom")]
        assert len(received) == count

    return await jobs.per_item(count, flow)


async def durable(folder: str) -> None:
    async with AsyncSqliteSaver.from_conn_string(os.path.join(folder, "runs.sqlite")) as saver:

        @entrypoint(checkpointer=saver)
        async def flow(folder: str) -> None:
            for number in range(jobs.STEPS):
                await effect(folder, number)

        config = {"configurable": {"thread_id": "ten"}}
        begun = await saver.aget(config)
        await flow.ainvoke(None if begun else folder, config, durability="sync")


if __name__ == "__main__":
    jobs.main(globals())
