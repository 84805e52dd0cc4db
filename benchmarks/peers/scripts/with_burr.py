"""Apache Burr: actions and transitions (https://burr.apache.org).

`saved_runs` and `durable` use its persister for SQLite.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable

import jobs
from burr.core import ApplicationBuilder, ApplicationContext, State, action, expr
from burr.core.parallelism import MapStates
from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister


@action(reads=["number"], writes=["number"])
async def step(state: State) -> State:
    return state.update(number=state["number"] + 1)


@action(reads=["number"], writes=[])
async def end(state: State) -> State:
    return state


@action(reads=["number", "folder"], writes=["number"])
async def effect(state: State) -> State:
    await jobs.effect(state["folder"], state["number"])
    return state.update(number=state["number"] + 1)


def loop(count: int, once=step) -> ApplicationBuilder:
    return (
        ApplicationBuilder()
        .with_actions(step=once, end=end)
        .with_transitions(("step", "step", expr(f"number < {count}")), ("step", "end"))
    )


def each(child: Callable[[int], Awaitable[int]]) -> ApplicationBuilder:
    """Run ``child`` for all numbers at once, as a state each."""

    @action(reads=["number"], writes=["number"])
    async def one(state: State) -> State:
        return state.update(number=await child(state["number"]))

    class Each(MapStates):
        def is_async(self) -> bool:
            return True

        def action(self, state: State, inputs: dict[str, object]):
            return one

        async def states(
            self, state: State, context: ApplicationContext, inputs: dict[str, object]
        ) -> AsyncGenerator[State, None]:
            for number in range(state["count"]):
                yield state.update(number=number)

        async def reduce(self, state: State, states: AsyncGenerator[State, None]) -> State:
            return state.update(results=[each["number"] async for each in states])

        @property
        def reads(self) -> list[str]:
            return ["count"]

        @property
        def writes(self) -> list[str]:
            return ["results"]

    return (
        ApplicationBuilder()
        .with_actions(each=Each(), end=end)
        .with_transitions(("each", "end"))
        .with_entrypoint("each")
    )


async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def sequential(count: int) -> jobs.Result:
    application = await loop(count).with_state(number=0).with_entrypoint("step").abuild()
    return await jobs.per_item(count, lambda _: application.arun(halt_after=["end"]))


async def fan_out(count: int) -> jobs.Result:
    application = await each(leaf).with_state(count=count, number=0).abuild()
    return await jobs.per_item(count, lambda _: application.arun(halt_after=["each"]))


async def runs(count: int) -> jobs.Result:
    async def many(count: int) -> None:
        for _ in range(count):
            application = await loop(2).with_state(number=0).with_entrypoint("step").abuild()
            await application.arun(halt_after=["end"])

    return await jobs.per_item(count, many)


async def saved_runs(count: int) -> jobs.Result:
    with tempfile.TemporaryDirectory() as folder:
        saver = await AsyncSQLitePersister.from_values(db_path=os.path.join(folder, "runs.sqlite"))
        await saver.initialize()

        async def many(count: int) -> None:
            for number in range(count):
                builder = loop(2).with_state(number=0).with_entrypoint("step").with_state_persister(saver)
                application = await builder.with_identifiers(app_id=str(number)).abuild()
                await application.arun(halt_after=["end"])

        return await jobs.per_item(count, many)


async def timeout(count: int) -> jobs.Result:
    """It has no timeout of its own; asyncio's is around it."""
    application = await each(jobs.tick).with_state(count=count, number=0).abuild()

    async def flow() -> None:
        async with asyncio.timeout(jobs.LIMIT):
            await application.arun(halt_after=["each"])

    return await jobs.seen_and_leaked(flow)


async def first_error(count: int) -> jobs.Result:
    application = await each(jobs.tick_or_fail).with_state(count=count, number=0).abuild()
    return await jobs.seen_and_leaked(lambda: application.arun(halt_after=["each"]))


async def durable(folder: str) -> None:
    saver = await AsyncSQLitePersister.from_values(db_path=os.path.join(folder, "runs.sqlite"))
    await saver.initialize()
    builder = loop(jobs.STEPS, effect).with_identifiers(app_id="ten").with_state_persister(saver)
    application = await builder.initialize_from(
        saver, resume_at_next_action=True, default_state={"number": 0, "folder": folder}, default_entrypoint="step"
    ).abuild()
    await application.arun(halt_after=["end"])


if __name__ == "__main__":
    jobs.main(globals())
