"""anyio on asyncio: the floor of Railtracks. A step is a coroutine in a cancel scope, and nothing is recorded."""

from __future__ import annotations

import math

import anyio
import anyio.lowlevel
import jobs


async def step(number: int) -> int:
    with anyio.CancelScope():
        return number + 1


async def leaf(number: int) -> None:
    await anyio.lowlevel.checkpoint()


async def down(level: int) -> int:
    with anyio.CancelScope():
        return level if level == 0 else await down(level - 1)


async def sequential(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        for number in range(count):
            await step(number)

    return await jobs.per_item(count, flow)


async def fan_out(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(leaf, number)

    return await jobs.per_item(count, flow)


async def nested(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        for _ in range(count // jobs.DEPTH):
            await down(jobs.DEPTH)

    return await jobs.per_item(count, flow)


async def timeout(count: int) -> jobs.Result:
    async def flow() -> None:
        with anyio.fail_after(jobs.LIMIT):
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(jobs.tick, number)

    return await jobs.seen_and_leaked(flow)


async def first_error(count: int) -> jobs.Result:
    async def flow() -> None:
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(jobs.tick_or_fail, number)

    return await jobs.seen_and_leaked(flow)


async def events(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        send, receive = anyio.create_memory_object_stream[int](math.inf)

        async def subscriber() -> None:
            async with receive:
                async for _ in receive:
                    pass

        async with anyio.create_task_group() as group:
            group.start_soon(subscriber)
            async with send:
                for number in range(count):
                    await send.send(number)

    return await jobs.per_item(count, flow)


if __name__ == "__main__":
    jobs.main(globals())
