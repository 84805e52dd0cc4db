"""LlamaIndex Workflows: steps that take and return events (https://developers.llamaindex.ai/python/llamaagents/workflows).

Its runs are saved by the user, with `ctx.to_dict()` between steps. `durable` does so after each step, as its page on
durable workflows says.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import jobs
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


class Next(Event):
    number: int


class Item(Event):
    number: int


class Done(Event):
    number: int


class InTurn(Workflow):
    @step
    async def begin(self, ev: StartEvent) -> Next:
        self.count = ev.count
        return Next(number=0)

    @step
    async def work(self, ev: Next) -> Next | StopEvent:
        return Next(number=ev.number + 1) if ev.number + 1 < self.count else StopEvent(result=ev.number + 1)


async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


class AtOnce(Workflow):
    child = staticmethod(leaf)

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Item | None:
        await ctx.store.set("count", ev.count)
        for number in range(ev.count):
            ctx.send_event(Item(number=number))
        return None

    @step(num_workers=10_000)
    async def one(self, ev: Item) -> Done:
        return Done(number=await self.child(ev.number))

    @step
    async def gather(self, ctx: Context, ev: Done) -> StopEvent | None:
        results = ctx.collect_events(ev, [Done] * await ctx.store.get("count"))
        return None if results is None else StopEvent(result=len(results))


class Ticking(AtOnce):
    child = staticmethod(jobs.tick)


class Failing(AtOnce):
    child = staticmethod(jobs.tick_or_fail)


class Telling(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(ev.count):
            ctx.write_event_to_stream(Next(number=number))
            await asyncio.sleep(0)
        return StopEvent(result=ev.count)


class TenSteps(Workflow):
    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> Next:
        await ctx.store.set("folder", ev.folder)
        return Next(number=0)

    @step
    async def work(self, ctx: Context, ev: Next) -> Next | StopEvent:
        ctx.write_event_to_stream(ev)  # at this moment the step before has ended: time to save
        await jobs.effect(await ctx.store.get("folder"), ev.number)
        return Next(number=ev.number + 1) if ev.number + 1 < jobs.STEPS else StopEvent(result=None)


async def sequential(count: int) -> jobs.Result:
    return await jobs.per_item(count, lambda count: _run(InTurn, count))


async def fan_out(count: int) -> jobs.Result:
    return await jobs.per_item(count, lambda count: _run(AtOnce, count))


async def runs(count: int) -> jobs.Result:
    async def many(count: int) -> None:
        for _ in range(count):
            await _run(InTurn, 1)

    return await jobs.per_item(count, many)


async def timeout(count: int) -> jobs.Result:
    async def flow() -> None:
        await Ticking(timeout=jobs.LIMIT).run(count=count)

    return await jobs.seen_and_leaked(flow)


async def first_error(count: int) -> jobs.Result:
    return await jobs.seen_and_leaked(lambda: _run(Failing, count))


async def events(count: int) -> jobs.Result:
    async def flow(count: int) -> None:
        handler = Telling(timeout=None).run(count=count)
        received = [event async for event in handler.stream_events() if isinstance(event, Next)]
        assert len(received) == count
        await handler

    return await jobs.per_item(count, flow)


async def durable(folder: str) -> None:
    saved = Path(folder, "context.json")
    workflow = TenSteps(timeout=None)
    if saved.exists():
        handler = workflow.run(ctx=Context.from_dict(workflow, json.loads(saved.read_text())))
    else:
        handler = workflow.run(folder=folder)
    async for event in handler.stream_events():
        if isinstance(event, Next):
            saved.write_text(json.dumps(handler.ctx.to_dict()))
    await handler


async def _run(workflow: type[Workflow], count: int) -> object:
    return await workflow(timeout=None).run(count=count)


if __name__ == "__main__":
    jobs.main(globals())
