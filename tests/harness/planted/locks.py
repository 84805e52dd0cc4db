"""Mistakes in flows with locks, conditions and leases."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
from hypothesis import strategies as st

import railtracks as rt
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(PLANTED, "`if` stands where `while` belongs, and two wake up for one item", "seeds", "schedules")
def condition_without_while(broken):
    @rt.function_node
    async def take(condition, items):
        async with condition:
            if broken:
                if not items:
                    await condition.wait()
            else:
                while not items:
                    await condition.wait()
            return items.pop()

    @rt.function_node
    async def put(condition, items, item):
        await anyio.sleep(0)
        async with condition:
            items.append(item)
            condition.notify_all()

    @rt.function_node
    async def exchange(count):
        condition, items = anyio.Condition(), []
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(rt.call, take, condition, items)
            for item in range(count):
                group.start_soon(rt.call, put, condition, items, item)

    def nothing_is_taken_from_an_empty_list(outcome):
        assert not raised(outcome, IndexError), f"{outcome.exception!r}"

    return Case(exchange, (nothing_is_taken_from_an_empty_list,), args=(2,), nodes=(put,))


def raised(outcome, kind):
    """Return whether the run raised an error of this kind, alone or in a group."""
    error = outcome.exception
    return isinstance(error, kind) or (isinstance(error, ExceptionGroup) and error.subgroup(kind) is not None)


@defect(
    PLANTED, "a notification that comes before the wait is lost", "seeds", "schedules", options={"timeout": math.inf}
)
def notified_before_the_wait(broken):
    @rt.function_node
    async def prepare(condition, state):
        await anyio.sleep(0)
        async with condition:
            state["ready"] = True
            condition.notify()

    @rt.function_node
    async def consume(condition, state):
        await anyio.sleep(0)
        async with condition:
            if broken:
                await condition.wait()
            else:
                while not state["ready"]:
                    await condition.wait()

    @rt.function_node
    async def main():
        condition, state = anyio.Condition(), {"ready": False}
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, consume, condition, state)
            group.start_soon(rt.call, prepare, condition, state)

    return Case(main)


@defect(
    PLANTED, "a node holds a lock, and calls another that acquires it, only while the cache is cold",
    "seeds", "schedules",
    backends=("asyncio",), options={"timeout": math.inf}, args=st.tuples(st.integers(1, 4)),
)  # fmt: skip
def lock_acquired_again(broken):
    @rt.function_node
    async def refresh(lock):
        async with lock:
            return 1

    @rt.function_node
    async def read(lock, cache, number):
        async with lock:
            if "value" not in cache:
                cache["value"] = 0
                return
            is_cold = number >= 2 and cache["value"] == 0
            if is_cold and broken:
                cache["value"] = await rt.call(refresh, lock)
        if is_cold and not broken:
            cache["value"] = await rt.call(refresh, lock)

    @rt.function_node
    async def serve(readers):
        lock = asyncio.Lock()
        cache: dict[str, int] = {}
        await rt.call_batch(read, [lock] * readers, [cache] * readers, range(readers))

    return Case(serve, args=(3,))


@defect(PLANTED, "an urgent job waits for a lock that a slow job holds during an upload", "seeds", "schedules")
def urgent_job_waits(broken):
    waited = []

    @rt.function_node
    async def upload():
        await anyio.sleep(5)

    @rt.function_node
    async def slow_job(lock):
        async with lock:
            if broken:
                await rt.call(upload)
        if not broken:
            await rt.call(upload)

    @rt.function_node
    async def urgent_job(lock):
        began = anyio.current_time()
        await anyio.sleep(0)
        async with lock:
            waited.append(anyio.current_time() - began)

    @rt.function_node
    async def work():
        lock = anyio.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, urgent_job, lock)
            group.start_soon(rt.call, slow_job, lock)

    def it_does_not_wait_long(outcome):
        assert all(seconds <= 1 for seconds in waited), f"waited {waited} s"

    return Case(work, (it_does_not_wait_long,))


@defect(PLANTED, "work outlives its lease, another worker takes over, and both write", "faults", "sweep")
def lease_outlived(broken):
    written = []
    lease: dict[str, Any] = {"owner": None, "until": 0.0}

    @rt.function_node
    async def compute(worker):
        await anyio.sleep(20)

    @rt.function_node
    async def work(worker):
        await anyio.sleep(worker * 5)
        while lease["owner"] is not None and anyio.current_time() < lease["until"]:
            await anyio.sleep(1)
        if written:
            return
        lease.update(owner=worker, until=anyio.current_time() + 30)
        await rt.call(compute, worker)
        if broken or lease["owner"] == worker:
            written.append(worker)
        if lease["owner"] == worker:
            lease["owner"] = None

    @rt.function_node
    async def work_in_turns():
        await rt.call_batch(work, [0, 1])

    def one_worker_writes(outcome):
        assert len(written) <= 1, f"written by {written}"

    return Case(work_in_turns, (one_worker_writes,), nodes=(compute,))


@defect(
    PLANTED, "a barrier is used for two rounds, and one is counted for the first round that is in the second", "seeds",
    options={"timeout": math.inf},
)  # fmt: skip
def barrier_used_again(broken):
    class Barrier:
        def __init__(self, size):
            self.size, self.count, self.event = size, 0, anyio.Event()

        async def wait(self):
            self.count += 1
            event = self.event
            if self.count < self.size:
                await event.wait()
                return
            event.set()
            if broken:
                await anyio.sleep(0)
            self.count, self.event = 0, anyio.Event()

    @rt.function_node
    async def work(barrier):
        for _ in range(2):
            await barrier.wait()

    @rt.function_node
    async def main(calls):
        await rt.call_batch(work, [Barrier(calls)] * calls)

    return Case(main, args=(2,))


@defect(
    PLANTED, "one call has the slot of a limit and waits for a lock, another has the lock and waits for the slot",
    "seeds", options={"timeout": math.inf},
)  # fmt: skip
def limit_and_lock(broken):
    @rt.function_node(limit=rt.Limit(f"planted, {broken}", concurrency=1))
    async def fetch(lock):
        await anyio.sleep(0.1)
        async with lock:
            pass

    @rt.function_node
    async def refresh(lock):
        async with lock if broken else anyio.Lock():
            await rt.call(fetch, anyio.Lock())

    @rt.function_node
    async def main():
        lock = anyio.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, fetch, lock)
            group.start_soon(rt.call, refresh, lock)

    return Case(main)
