"""DBOS with SQLite: steps in workflows (https://docs.dbos.dev/python). It always saves, so `runs` is left out."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable

import jobs
from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout


@DBOS.step()
async def step(number: int) -> int:
    return number + 1


@DBOS.step()
async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


@DBOS.step()
async def tick(number: int) -> int:
    return await jobs.tick(number)


@DBOS.step()
async def tick_or_fail(number: int) -> int:
    return await jobs.tick_or_fail(number)


@DBOS.step()
async def effect(folder: str, number: int) -> None:
    await jobs.effect(folder, number)


@DBOS.workflow()
async def in_turn(count: int) -> None:
    for number in range(count):
        await step(number)


@DBOS.workflow()
async def at_once(count: int) -> None:
    await asyncio.gather(*(leaf(number) for number in range(count)))


@DBOS.workflow()
async def down(level: int) -> int:
    """A workflow that calls a workflow is the way to nest."""
    return level if level == 0 else await down(level - 1)


@DBOS.workflow()
async def two_steps(number: int) -> int:
    return await step(await step(number))


@DBOS.workflow()
async def all_tick(count: int) -> None:
    await asyncio.gather(*(tick(number) for number in range(count)))


@DBOS.workflow()
async def all_tick_or_fail(count: int) -> None:
    await asyncio.gather(*(tick_or_fail(number) for number in range(count)))


@DBOS.workflow()
async def ten_steps(folder: str) -> None:
    for number in range(jobs.STEPS):
        await effect(folder, number)


@DBOS.workflow()
async def tell(count: int) -> None:
    for number in range(count):
        await DBOS.write_stream_async("numbers", number)
    await DBOS.close_stream_async("numbers")


kept: jobs.Result = {}


@DBOS.workflow()
async def keeping(count: int) -> None:
    with jobs.Kept(count) as result:
        for number in range(count):
            await step(number)
    kept.update(result.result)


async def launched(work: Callable[[], Awaitable[object]]) -> object:
    """Do the work with a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        launch(folder)
        return await work()


def launch(folder: str) -> None:
    DBOS(config={"name": "peers", "system_database_url": f"sqlite:///{folder}/runs.sqlite", "run_admin_server": False})
    DBOS.launch()


async def sequential(count: int) -> jobs.Result:
    return await launched(lambda: jobs.per_item(count, in_turn))


async def fan_out(count: int) -> jobs.Result:
    return await launched(lambda: jobs.per_item(count, at_once))


async def nested(count: int) -> jobs.Result:
    return await launched(lambda: jobs.per_item(jobs.DEPTH, down))


async def saved_runs(count: int) -> jobs.Result:
    async def many(count: int) -> None:
        for number in range(count):
            await two_steps(number)

    return await launched(lambda: jobs.per_item(count, many))


async def memory(count: int) -> jobs.Result:
    await launched(lambda: keeping(count))
    return kept


async def timeout(count: int) -> jobs.Result:
    async def flow() -> None:
        with SetWorkflowTimeout(jobs.LIMIT):
            await all_tick(count)

    return await launched(lambda: jobs.seen_and_leaked(flow))


async def first_error(count: int) -> jobs.Result:
    return await launched(lambda: jobs.seen_and_leaked(lambda: all_tick_or_fail(count)))


async def events(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        handle = await DBOS.start_workflow_async(tell, count)
        received = [number async for number in DBOS.read_stream_async(handle.get_workflow_id(), "numbers")]
        assert len(received) == count

    return await launched(lambda: jobs.per_item(count, flow))


async def durable(folder: str) -> None:
    os.environ["DBOS__APPVERSION"] = "1"
    launch(folder)  # which goes on with what was pending
    with SetWorkflowID("ten"):
        await ten_steps(folder)


if __name__ == "__main__":
    jobs.main(globals())
