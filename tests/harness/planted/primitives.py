"""Mistakes that were made in locks, queues and timeouts of asyncio and of other libraries, rewritten small.

In each, something is handed to a task that is cancelled at that moment.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

import anyio

import railtracks as rt
from railtracks.testing.invariants import ends_within
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(
    PLANTED, "a semaphore notes that it has woken a task up, and still notes it when that task was cancelled",
    "seeds", "schedules",
    backends=("asyncio",), options={"timeout": math.inf},
    source=("Python 3.10", "https://github.com/python/cpython/issues/90155"),
)  # fmt: skip
def semaphore_waits_for_the_cancelled(broken):
    class Semaphore:
        """The part of ``asyncio.Semaphore`` that was wrong."""

        def __init__(self):
            self.value = 1
            self.waiting = deque()
            self.has_woken = False

        async def acquire(self):
            while self.has_woken or self.value <= 0:
                waiter = asyncio.get_running_loop().create_future()
                self.waiting.append(waiter)
                try:
                    await waiter
                    self.has_woken = False
                except asyncio.CancelledError:
                    if not broken and not waiter.cancelled():
                        self.has_woken = False
                    if self.value > 0:
                        self.wake_next()
                    raise
            self.value -= 1

        def release(self):
            self.value += 1
            self.wake_next()

        def wake_next(self):
            while self.waiting:
                waiter = self.waiting.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    self.has_woken = True
                    return

    @rt.function_node
    async def hold(semaphore):
        await semaphore.acquire()
        try:
            await asyncio.sleep(1)
        finally:
            semaphore.release()

    @rt.function_node
    async def main():
        semaphore = Semaphore()
        first, second = (asyncio.create_task(rt.call(hold, semaphore)) for _ in range(2))
        await asyncio.sleep(1)
        second.cancel()
        await asyncio.wait([first, second])
        await rt.call(hold, semaphore)

    return Case(main)


@defect(
    PLANTED, "a notification is lost if the task that it wakes up is cancelled at that moment", "seeds", "schedules",
    backends=("asyncio",), options={"timeout": math.inf},
    source=("Python 3.12", "https://github.com/python/cpython/issues/112202"),
)  # fmt: skip
def notification_of_the_cancelled(broken):
    waiting, items = [], []

    def notify():
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
                return

    async def wait():
        waiter = asyncio.get_running_loop().create_future()
        waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not broken and not waiter.cancelled():
                notify()
            raise
        finally:
            waiting.remove(waiter)

    @rt.function_node
    async def take():
        while not items:
            await wait()
        return items.pop()

    @rt.function_node
    async def put():
        await asyncio.sleep(1)
        items.append("item")
        notify()

    @rt.function_node
    async def main():
        first, second, third = (asyncio.create_task(rt.call(node)) for node in (take, take, put))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.wait([first, third])
        if first.cancelled():
            await second
        else:
            second.cancel()
            await asyncio.wait([second])

    return Case(main)


@defect(
    PLANTED, "a queue hands an item to a task that is cancelled at that moment", "seeds", "schedules",
    backends=("asyncio",),
    source=("Python 3.4", "https://github.com/python/asyncio/pull/256"),
)  # fmt: skip
def item_given_to_the_cancelled(broken):
    items, waiting, received = [], [], []

    def put(item):
        while waiting:
            waiter = waiting.pop(0)
            if not waiter.done():
                waiter.set_result(item)
                return
        items.append(item)

    @rt.function_node
    async def get():
        waiter = asyncio.get_running_loop().create_future()
        waiting.append(waiter)
        try:
            received.append(await waiter)
        except asyncio.CancelledError:
            if not broken and not waiter.cancelled():
                items.insert(0, waiter.result())
            raise

    @rt.function_node
    async def produce():
        await asyncio.sleep(1)
        put("item")

    @rt.function_node
    async def main():
        getting, producing = (asyncio.create_task(rt.call(node)) for node in (get, produce))
        await asyncio.sleep(1)
        getting.cancel()
        await asyncio.wait([getting, producing])

    def no_item_is_lost(outcome):
        assert items or received, "the item is lost"

    return Case(main, (no_item_is_lost,))


@defect(
    PLANTED, "a stream hands an item to a receiver whose timeout has just ended", "seeds", "schedules",
    source=("anyio, before 2.0", "https://github.com/agronholm/anyio/issues/146"),
)  # fmt: skip
def item_dropped_by_a_stream(broken):
    sent, received, buffer, receivers = [], [], [], []

    def send(item):
        sent.append(item)
        if receivers:
            event, box = receivers.pop(0)
            box.append(item)
            event.set()
        else:
            buffer.append(item)

    async def receive():
        if buffer:
            return buffer.pop(0)
        receiver = event, box = anyio.Event(), []
        receivers.append(receiver)
        try:
            await event.wait()
        except BaseException:
            if receiver in receivers:
                receivers.remove(receiver)
            if box and not broken:
                buffer.insert(0, box[0])
            raise
        return box[0]

    @rt.function_node
    async def produce():
        await anyio.sleep(1)
        send("item")

    @rt.function_node
    async def consume():
        with anyio.move_on_after(1):
            received.append(await receive())

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, produce)
            group.start_soon(rt.call, consume)

    def no_item_is_lost(outcome):
        assert sorted(received + buffer) == sorted(sent), f"sent {sent}, received {received}, left {buffer}"

    return Case(main, (no_item_is_lost,))


@defect(
    PLANTED, "`wait_for` returns the result that came at the moment of a cancellation, and loses the cancellation",
    "seeds", "schedules",
    backends=("asyncio",),
    source=("Python 3.11", "https://github.com/python/cpython/issues/86296"),
)  # fmt: skip
def cancellation_lost_to_a_result(broken):
    async def wait_for(task, timeout):
        try:
            await asyncio.wait([task], timeout=timeout)
        except asyncio.CancelledError:
            if broken and task.done():
                return task.result()
            task.cancel()
            raise
        return task.result()

    @rt.function_node
    async def answer():
        await asyncio.sleep(1)

    @rt.function_node
    async def serve():
        await wait_for(asyncio.create_task(rt.call(answer)), 5)
        await asyncio.sleep(100)

    @rt.function_node
    async def main():
        serving = asyncio.create_task(rt.call(serve))
        await asyncio.sleep(1)
        serving.cancel()
        await asyncio.wait([serving])

    return Case(main, (ends_within(10),))


@defect(
    PLANTED, "a timeout that has just ended takes a cancellation from outside for its own", "seeds", "schedules",
    backends=("asyncio",),
    source=("async-timeout 3.0.1", "https://github.com/aio-libs-abandoned/async-timeout/issues/229"),
)  # fmt: skip
def cancellation_taken_for_a_timeout(broken):
    class Timeout:
        """A timeout that does not count cancellations."""

        def __init__(self, seconds):
            self.seconds = seconds
            self.has_ended = False

        async def __aenter__(self):
            self.task = asyncio.current_task()
            self.timer = asyncio.get_running_loop().call_later(self.seconds, self.end)

        def end(self):
            self.has_ended = True
            self.task.cancel()

        async def __aexit__(self, kind, error, traceback):
            self.timer.cancel()
            if kind is asyncio.CancelledError and self.has_ended:
                self.task.uncancel()
                raise TimeoutError

    @rt.function_node
    async def poll():
        while True:
            try:
                async with Timeout(1) if broken else asyncio.timeout(1):
                    await asyncio.sleep(5)
            except TimeoutError:
                continue

    @rt.function_node
    async def main():
        polling = asyncio.create_task(rt.call(poll))
        await asyncio.sleep(1)
        polling.cancel()
        await asyncio.wait([polling])

    return Case(main, (ends_within(10),))
