"""pydantic-graph: steps joined by edges (https://pydantic.dev/docs/ai/graph/builder).

It saves nothing and has no events.
"""

from __future__ import annotations

import asyncio

import jobs
from pydantic_graph import GraphBuilder, StepContext, reduce_null


def loop(count: int):
    """Return a graph whose one step comes back to itself until it has run ``count`` times."""
    graph = GraphBuilder(input_type=int, output_type=int)

    @graph.step
    async def step(context: StepContext[None, None, int]) -> int:
        return context.inputs + 1

    graph.add(
        graph.edge_from(graph.start_node).to(step),
        graph.edge_from(step).to(
            graph.decision()
            .branch(graph.match(int, matches=lambda number: number < count).to(step))
            .branch(graph.match(int).to(graph.end_node))
        ),
    )
    return graph.build()


def each(child):
    """Return a graph that runs ``child`` for all numbers below its input at once."""
    graph = GraphBuilder(input_type=int)

    @graph.step
    async def numbers(context: StepContext[None, None, int]) -> list[int]:
        return list(range(context.inputs))

    @graph.step
    async def one(context: StepContext[None, None, int]) -> int:
        return await child(context.inputs)

    joined = graph.join(reduce_null, initial=None)
    graph.add(
        graph.edge_from(graph.start_node).to(numbers),
        graph.edge_from(numbers).map().to(one),
        graph.edge_from(one).to(joined),
        graph.edge_from(joined).to(graph.end_node),
    )
    return graph.build()


async def leaf(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def sequential(count: int) -> jobs.Result:
    graph = loop(count)
    return await jobs.per_item(count, lambda _: graph.run(inputs=0))


async def fan_out(count: int) -> jobs.Result:
    graph = each(leaf)
    return await jobs.per_item(count, lambda count: graph.run(inputs=count))


async def nested(count: int) -> jobs.Result:
    """A step that runs a graph is the way to nest."""
    graph = GraphBuilder(input_type=int, output_type=int)

    @graph.step
    async def down(context: StepContext[None, None, int]) -> int:
        return context.inputs if context.inputs == 0 else await built.run(inputs=context.inputs - 1)

    graph.add(graph.edge_from(graph.start_node).to(down), graph.edge_from(down).to(graph.end_node))
    built = graph.build()

    async def flow(count: int) -> None:
        for _ in range(count // jobs.DEPTH):
            await built.run(inputs=jobs.DEPTH)

    return await jobs.per_item(count, flow)


async def runs(count: int) -> jobs.Result:
    graph = loop(2)

    async def many(count: int) -> None:
        for _ in range(count):
            await graph.run(inputs=0)

    return await jobs.per_item(count, many)


async def timeout(count: int) -> jobs.Result:
    """It has no timeout of its own; asyncio's is around it."""
    graph = each(jobs.tick)

    async def flow() -> None:
        async with asyncio.timeout(jobs.LIMIT):
            await graph.run(inputs=count)

    return await jobs.seen_and_leaked(flow)


async def first_error(count: int) -> jobs.Result:
    graph = each(jobs.tick_or_fail)
    return await jobs.seen_and_leaked(lambda: graph.run(inputs=count))


if __name__ == "__main__":
    jobs.main(globals())
