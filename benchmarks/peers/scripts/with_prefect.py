"""Prefect: tasks in flows (https://docs.prefect.io), with the server that it starts for a script.

It always keeps its runs in that server's SQLite database, so `runs` is left out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import jobs

os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

from prefect import flow, task


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


@task(persist_result=True, cache_key_fn=lambda context, arguments: f"effect-{arguments['number']}")
async def effect(folder: str, number: int) -> None:
    await jobs.effect(folder, number)


@flow
async def nothing() -> None: ...


@flow
async def in_turn(count: int) -> None:
    for number in range(count):
        await step(number)


@flow
async def at_once(count: int) -> None:
    await asyncio.gather(*(leaf(number) for number in range(count)))


@flow
async def levels(count: int) -> None:
    await down(count)


@flow
async def two_steps(number: int) -> int:
    return await step(await step(number))


@flow(timeout_seconds=jobs.LIMIT)
async def all_tick(count: int) -> None:
    await asyncio.gather(*(tick(number) for number in range(count)))


@flow
async def all_tick_or_fail(count: int) -> None:
    await asyncio.gather(*(tick_or_fail(number) for number in range(count)))


@flow
async def ten_steps(folder: str) -> None:
    for number in range(jobs.STEPS):
        await effect(folder, number)


kept: jobs.Result = {}


@flow
async def keeping(count: int) -> None:
    with jobs.Kept(count) as result:
        for number in range(count):
            await step(number)
    kept.update(result.result)


async def started(work: Callable[[], Awaitable[object]]) -> object:
    """Do the work when the server runs, which takes seconds."""
    await nothing()
    return await work()


async def sequential(count: int) -> jobs.Result:
    return await started(lambda: jobs.per_item(count, in_turn))


async def fan_out(count: int) -> jobs.Result:
    return await started(lambda: jobs.per_item(count, at_once))


async def nested(count: int) -> jobs.Result:
    return await started(lambda: jobs.per_item(jobs.DEPTH, levels))


async def saved_runs(count: int) -> jobs.Result:
    async def many(count: int) -> None:
        for number in range(count):
            await two_steps(number)

    return await started(lambda: jobs.per_item(count, many))


async def memory(count: int) -> jobs.Result:
    await started(lambda: keeping(count))
    return kept


async def timeout(count: int) -> jobs.Result:
    return await started(lambda: jobs.seen_and_leaked(lambda: all_tick(count)))


async def first_error(count: int) -> jobs.Result:
    return await started(lambda: jobs.seen_and_leaked(lambda: all_tick_or_fail(count)))


async def durable(folder: str) -> None:
    os.environ["PREFECT_LOCAL_STORAGE_PATH"] = os.path.join(folder, "results")
    await ten_steps(folder)


if __name__ == "__main__":
    jobs.main(globals())
