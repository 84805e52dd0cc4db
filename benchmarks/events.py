"""Measure an event on its way to a subscriber, against an item that one task passes to another through a queue."""

from __future__ import annotations

import asyncio
import time

import anyio

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, micro, quiet_session, ratio
from railtracks.state import Broadcast

COUNT = 10_000
CAPACITY = 1_000
"""Of the queue, and of the buffer of the subscription."""
TARGETS = {"asyncio": 2.3, "trio": 0.3}
"""A queue of asyncio that is neither full nor empty hands an item over without a turn of the event loop. What an event
costs more is listed in docs/design.md. A stream wakes its consumer each time.

The ratios of this code are 1.9 and 0.2; a fifth is added, and more where the figure is small.
"""


async def queued(count: int) -> float:
    """Pass items through a queue of asyncio."""
    queue: asyncio.Queue[int] = asyncio.Queue(CAPACITY)

    async def consume() -> None:
        for _ in range(count):
            await queue.get()

    start = time.thread_time()
    async with anyio.create_task_group() as group:
        group.start_soon(consume)
        for i in range(count):
            await queue.put(i)
    return time.thread_time() - start


async def streamed(count: int) -> float:
    """Pass items through a stream of anyio, which stands for the queue where there is none."""
    send, receive = anyio.create_memory_object_stream[int](CAPACITY)

    async def consume() -> None:
        async for _ in receive:
            pass

    start = time.thread_time()
    async with anyio.create_task_group() as group, send:
        group.start_soon(consume)
        for i in range(count):
            await send.send(i)
    receive.close()
    return time.thread_time() - start


@rt.function_node
async def produce(count: int) -> float:
    start = time.thread_time()
    for i in range(count):
        await rt.broadcast(i)
    return start


async def broadcast(count: int) -> float:
    """Broadcast items to a subscriber, until all are delivered."""
    received = 0

    async def subscriber(_: Broadcast) -> None:
        nonlocal received
        received += 1

    async with quiet_session() as session:
        session.subscribe(subscriber, kinds=(Broadcast,), capacity=CAPACITY, policy="wait")
        start = await rt.call(produce, count)
    elapsed = time.thread_time() - start
    assert received == count
    return elapsed


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure events, in processor time."""
    variants: dict[str, Variant] = {"event": broadcast, "queue": queued if backend == "asyncio" else streamed}
    times = anyio.run(in_turns, variants, COUNT, rounds, backend=backend)
    against = "asyncio.Queue" if backend == "asyncio" else "memory object stream"
    return [
        Result(
            "event to a subscriber",
            micro(times["event"]),
            f"{against}, {micro(times['queue'])}",
            ratio(times, "event", "queue"),
            TARGETS[backend],
        )
    ]
