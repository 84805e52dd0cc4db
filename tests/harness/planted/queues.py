"""Mistakes in flows with queues, limits of rates, and subscribers."""

from __future__ import annotations

import asyncio
import math

import anyio
from hypothesis import strategies as st

import railtracks as rt
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(
    PLANTED, "there are as many sentinels as jobs, not as workers: a worker waits for ever", "seeds",
    options={"timeout": math.inf},
)  # fmt: skip
def sentinel_for_each_job(broken):
    @rt.function_node
    async def handle(job):
        pass

    @rt.function_node
    async def work(receive):
        while (job := await receive.receive()) is not None:
            await rt.call(handle, job)

    @rt.function_node
    async def work_off(jobs, workers):
        send, receive = anyio.create_memory_object_stream(math.inf)
        for item in [*jobs, *[None] * (len(jobs) if broken else workers)]:
            send.send_nowait(item)
        with send, receive:
            await rt.call_batch(work, [receive] * workers)

    return Case(work_off, args=([1], 3), nodes=(handle,))


@defect(
    PLANTED, "the producer does not wait for a slow consumer", "faults", "sweep",
    args=st.tuples(st.integers(1, 10)),
)  # fmt: skip
def unbounded_backlog(broken):
    backlog = [0]

    @rt.function_node
    async def store(item):
        await anyio.sleep(0.1)

    @rt.function_node
    async def copy(items):
        send, receive = anyio.create_memory_object_stream(math.inf if broken else 1)

        async def produce():
            async with send:
                for item in range(items):
                    await anyio.sleep(0.1)
                    await send.send(item)
                    backlog.append(send.statistics().current_buffer_used)

        async with receive, anyio.create_task_group() as group:
            group.start_soon(produce)
            async for item in receive:
                try:
                    await rt.call(store, item)
                except ConnectionError:
                    continue

    def the_backlog_is_bounded(outcome):
        assert max(backlog) <= 1, f"a backlog of {max(backlog)} items"

    return Case(copy, (the_backlog_is_bounded,), args=(5,), nodes=(store,))


@defect(
    PLANTED, "`task_done` is not called for a job that raises: `queue.join` waits for ever", "faults", "sweep",
    backends=("asyncio",), options={"timeout": math.inf},
)  # fmt: skip
def job_never_done(broken):
    @rt.function_node
    async def handle(job):
        await anyio.sleep(0.1)

    async def work(queue):
        while True:
            job = await queue.get()
            try:
                await rt.call(handle, job)
                if broken:
                    queue.task_done()
            except ConnectionError:
                continue
            finally:
                if not broken:
                    queue.task_done()

    @rt.function_node
    async def work_off(jobs):
        queue = asyncio.Queue()
        for job in range(jobs):
            queue.put_nowait(job)
        workers = [asyncio.create_task(work(queue)) for _ in range(2)]
        try:
            await queue.join()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    return Case(work_off, args=(3,), nodes=(handle,))


@defect(
    PLANTED, "a shared budget of retries is read before a wait, and written after it", "seeds", "faults", "sweep",
    args=st.tuples(st.integers(1, 3), st.integers(0, 5)),
)  # fmt: skip
def retries_over_budget(broken):
    tries = []

    @rt.function_node
    async def fetch(item):
        tries.append(item)
        await anyio.sleep(0.1)
        raise ConnectionError("refused")

    @rt.function_node
    async def fetch_again(budget, item):
        for _ in range(4):
            left = budget["left"]
            if left <= 0:
                return None
            if not broken:
                budget["left"] -= 1
            try:
                return await rt.call(fetch, item)
            except ConnectionError:
                if broken:
                    budget["left"] = left - 1
        return None

    @rt.function_node
    async def fetch_all(items, budget):
        await rt.call_batch(fetch_again, [{"left": budget}] * items, range(items))

    def the_budget_holds(outcome):
        assert len(tries) <= outcome.args[1], f"{len(tries)} tries"

    return Case(fetch_all, (the_budget_holds,), args=(2, 1), nodes=(fetch,))


times = st.lists(st.floats(0, 3).map(lambda seconds: round(seconds, 1)), min_size=1, max_size=8).map(sorted)


@defect(PLANTED, "a sliding window admits one too many", "seeds", args=st.tuples(times))
def window_admits_one_more(broken):
    admitted = []
    most = 4 if broken else 3

    @rt.function_node
    async def request():
        admitted.append(anyio.current_time())

    @rt.function_node
    async def send_all(times):
        began = anyio.current_time()
        recent = []
        for time in times:
            await anyio.sleep(max(0, began + time - anyio.current_time()))
            while True:
                now = anyio.current_time()
                recent = [each for each in recent if now - each < 1]
                if len(recent) < most:
                    break
                await anyio.sleep(max(0.001, recent[0] + 1 - now))
            recent.append(now)
            await rt.call(request)

    def three_are_admitted_per_second(outcome):
        for time in admitted:
            count = sum(time <= each < time + 0.999 for each in admitted)
            assert count <= 3, f"{count} within a second"

    return Case(send_all, (three_are_admitted_per_second,), args=([0.0, 0.1, 0.2, 0.3],))


@defect(
    PLANTED, "a subscriber makes a call for each call that succeeded, also for its own", "seeds",
    args=st.tuples(st.integers(1, 3)),
)  # fmt: skip
def subscriber_hears_itself(broken):
    written = []

    @rt.function_node
    async def log(name):
        written.append(name)
        await anyio.sleep(0.1)

    @rt.function_node
    async def work(number):
        pass

    @rt.function_node
    async def main(count):
        async with rt.Session(timeout=20) as session:

            async def on_success(event):
                if (broken or event.name == "work") and len(written) < 2:
                    await rt.call(log, event.name)

            session.subscribe(on_success, kinds=(rt.state.CallSucceeded,))
            for number in range(count):
                await rt.call(work, number)

    def there_is_one_line_for_each(outcome):
        assert len(written) <= outcome.args[0], f"{len(written)} lines for {outcome.args[0]} calls"

    return Case(main, (there_is_one_line_for_each,), args=(2,))


@defect(
    PLANTED, "a subscriber that counts lets the oldest events be dropped", "seeds",
    args=st.tuples(st.integers(1, 10)),
)  # fmt: skip
def events_dropped(broken):
    counted = []

    @rt.function_node
    async def work(number):
        pass

    @rt.function_node
    async def main(count):
        async with rt.Session() as session:

            async def on_success(event):
                await anyio.sleep(0.1)
                counted.append(event)

            session.subscribe(
                on_success, kinds=(rt.state.CallSucceeded,), capacity=2, policy="drop_oldest" if broken else "wait"
            )
            await rt.call_batch(work, range(count))

    def each_call_is_counted(outcome):
        assert len(counted) == outcome.args[0], f"{len(counted)} of {outcome.args[0]}"

    return Case(main, (each_call_is_counted,), args=(20,))
