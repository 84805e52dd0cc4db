"""asyncio alone: the floor for what runs on it. A step is a coroutine, and nothing is recorded."""

from __future__ import annotations

import asyncio

import jobs


async def step(number: int) -> int:
    return number + 1


async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def down(level: int) -> int:
    return level if level == 0 else await down(level - 1)


async def sequential(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        for number in range(count):
            await step(number)

    return await jobs.per_item(count, flow)


async def fan_out(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(leaf(number))

    return await jobs.per_item(count, flow)


async def nested(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        for _ in range(count // jobs.DEPTH):
            await down(jobs.DEPTH)

    return await jobs.per_item(count, flow)


async def timeout(count: int) -> jobs.Result:
    async def flow() -> None:
        async with asyncio.timeout(jobs.LIMIT), asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(jobs.tick(number))

    return await jobs.seen_and_leaked(flow)


async def first_error(count: int) -> jobs.Result:
    async def flow() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(jobs.tick_or_fail(number))

    return await jobs.seen_and_leaked(flow)


async def events(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(100)

        async def subscriber() -> None:
            for _ in range(count):
                await queue.get()

        async with asyncio.TaskGroup() as group:
            group.create_task(subscriber())
            for number in range(count):
                await queue.put(number)

    return await jobs.per_item(count, flow)


if __name__ == "__main__":
    jobs.main(globals())
