"""Mistakes that were made in schedulers, caches, brokers and clients of public projects, rewritten small."""

from __future__ import annotations

from typing import Any

import anyio
from hypothesis import strategies as st

import railtracks as rt
from railtracks.testing.invariants import ends_within
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(
    PLANTED, "a job that is to run later than the visibility timeout is handed out again meanwhile", "seeds",
    args=st.tuples(st.integers(0, 10)),
    source=("Kombu 3", "https://github.com/celery/kombu/issues/337"),
)  # fmt: skip
def job_handed_out_again(broken):
    ran = []
    visibility_timeout = 5

    @rt.function_node
    async def run(delay):
        ran.append(delay)

    @rt.function_node
    async def work(worker, broker, delay):
        await anyio.sleep(worker * 6)
        if broker["done"] or anyio.current_time() < broker["visible"]:
            return
        waits = 0 if broken else delay
        broker.update(owner=worker, visible=anyio.current_time() + waits + visibility_timeout)
        await anyio.sleep(delay)
        if not broken and broker["owner"] != worker:
            return  # it came back too late
        broker["done"] = True
        await rt.call(run, delay)

    @rt.function_node
    async def main(delay):
        broker = {"owner": None, "visible": anyio.current_time(), "done": False}
        await rt.call_batch(work, range(2), [broker] * 2, [delay] * 2)

    def it_runs_once(outcome):
        assert len(ran) <= 1, f"ran {len(ran)} times"

    return Case(main, (it_runs_once,), args=(7,))


@defect(
    PLANTED, "two schedulers read that a task has no state, and both schedule it", "seeds", "schedules",
    source=("Airflow 1", "https://github.com/apache/airflow/pull/1924"),
)  # fmt: skip
def task_scheduled_twice(broken):
    states, queued = {}, []

    @rt.function_node
    async def schedule(scheduler, tasks):
        due = [task for task in range(tasks) if task not in states]
        await anyio.sleep(0)
        for task in due:
            if broken or task not in states:
                states[task] = "scheduled"
                queued.append(task)

    @rt.function_node
    async def main(tasks):
        await rt.call_batch(schedule, range(2), [tasks] * 2)

    def each_is_scheduled_once(outcome):
        assert len(queued) == len(set(queued)), f"scheduled: {queued}"

    return Case(main, (each_is_scheduled_once,), args=(1,))


@defect(
    PLANTED, "a decorator caches results, and does not join calls that run at the same time", "seeds", "schedules",
    args=st.tuples(st.lists(st.sampled_from("ab"), max_size=4)),
    source=("aiocache", "https://github.com/aio-libs/aiocache/issues/1041"),
)  # fmt: skip
def cached_calls_not_joined(broken):
    ran = []

    def cached(function):
        results, locks = {}, {}

        async def call(key):
            if key not in results:
                results[key] = await function(key)
            return results[key]

        async def call_alone(key):
            async with locks.setdefault(key, anyio.Lock()):
                return await call(key)

        return call if broken else call_alone

    @rt.function_node
    async def compute(key):
        ran.append(key)
        await anyio.sleep(2)
        return key

    @rt.function_node
    async def main(keys):
        find = cached(lambda key: rt.call(compute, key))
        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(find, key)

    def each_is_computed_once(outcome):
        assert len(ran) == len(set(ran)), f"computed: {ran}"

    return Case(main, (each_is_computed_once,), args=(["a", "a"],))


@defect(
    PLANTED, "a lock that has expired, and that another holds by now, is deleted on release", "sweep",
    source=("redis-py", "https://github.com/redis/redis-py/issues/415"),
)  # fmt: skip
def lock_of_another_released(broken):
    locks: dict[str, tuple[int, float]] = {}
    taken_away = []

    @rt.function_node
    async def work(worker):
        await anyio.sleep(2)

    def is_locked():
        return "key" in locks and anyio.current_time() < locks["key"][1]

    @rt.function_node
    async def work_alone(worker):
        await anyio.sleep(worker * 0.5)
        while is_locked():
            await anyio.sleep(0.5)
        locks["key"] = worker, anyio.current_time() + 3
        expires = locks["key"][1]
        try:
            await rt.call(work, worker)
        finally:
            if anyio.current_time() < expires and locks.get("key", (None, 0))[0] != worker:
                taken_away.append(worker)
            if broken or locks.get("key", (None, 0))[0] == worker:
                locks.pop("key", None)

    @rt.function_node
    async def main():
        await rt.call_batch(work_alone, range(2))

    def nobody_loses_a_lock(outcome):
        assert not taken_away, f"{taken_away} lost the lock before it expired"

    return Case(main, (nobody_loses_a_lock,), nodes=(work,))


@defect(
    PLANTED, "a partition changes hands before the last offset of its consumer is committed", "seeds", "faults",
    "sweep",
    args=st.tuples(st.integers(0, 3)),
    source=("Kafka-Pixy", "https://github.com/mailgun/kafka-pixy/issues/62"),
)  # fmt: skip
def consumed_before_the_commit(broken):
    consumed = []

    @rt.function_node
    async def commit(partition, offset):
        await anyio.sleep(0.1)
        partition["offset"] = offset

    @rt.function_node
    async def consume(partition, messages):
        async with anyio.create_task_group() as group:
            for message in range(partition["offset"], messages):
                consumed.append(message)
                if broken:
                    group.start_soon(rt.call, commit, partition, message + 1)
            partition["released"].set()
        if not broken and partition["offset"] < messages:
            await rt.call(commit, partition, messages)
        partition["committed"].set()

    @rt.function_node
    async def main(messages):
        partition: dict[str, Any] = {"offset": 0, "released": anyio.Event(), "committed": anyio.Event()}
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, consume, partition, messages)
            await partition["released" if broken else "committed"].wait()
            await rt.call(consume, partition, messages)

    def nothing_is_consumed_twice(outcome):
        assert len(consumed) == len(set(consumed)), f"consumed: {consumed}"

    return Case(main, (nothing_is_consumed_twice,), args=(1,), nodes=(commit,))


@defect(
    PLANTED, "a client sends a request again when the connection breaks, whatever its method", "faults", "sweep",
    source=("httpclient for Ruby", "https://github.com/nahi/httpclient/issues/142"),
)  # fmt: skip
def request_sent_again(broken):
    posted = []

    @rt.function_node
    async def transmit(method, order):
        posted.append(order)

    @rt.function_node
    async def send(method, order):
        try:
            await rt.call(transmit, method, order)
        except ConnectionError:
            if not broken and method == "POST":
                raise
            await rt.call(transmit, method, order)

    def it_is_posted_once(outcome):
        assert len(posted) <= 1, f"posted: {posted}"

    return Case(send, (it_is_posted_once,), args=("POST", 7), nodes=(transmit,))


@defect(
    PLANTED, "retries stop after a deadline, and the wait before the last does not count", "faults", "sweep",
    source=("tenacity", "https://github.com/jd/tenacity/pull/423"),
)  # fmt: skip
def wait_beyond_the_deadline(broken):
    @rt.function_node
    async def fetch(page):
        pass

    @rt.function_node
    async def fetch_again(page):
        began, wait = anyio.current_time(), 1
        while True:
            try:
                with anyio.move_on_after(began + 5 - anyio.current_time()):
                    return await rt.call(fetch, page)
            except ConnectionError:
                pass
            if anyio.current_time() - began + (0 if broken else wait) >= 5:
                return None
            await anyio.sleep(wait)
            wait *= 2

    return Case(fetch_again, (ends_within(5),), args=("page",), nodes=(fetch,))


@defect(
    PLANTED, "a search that is cancelled fails those that wait for its result in the cache", "faults", "sweep",
    source=("Elasticsearch 9", "https://github.com/elastic/elasticsearch/pull/157457"),
)  # fmt: skip
def cancelled_for_all_that_wait(broken):
    failed = []

    class Entry:
        def __init__(self):
            self.is_there = anyio.Event()
            self.is_cancelled = False

    @rt.function_node
    async def search(text):
        await anyio.sleep(0.1)

    async def load(cache, text):
        cache[text] = entry = Entry()
        try:
            await rt.call(search, text)
        except BaseException:
            entry.is_cancelled = True
            cache.pop(text)
            raise
        finally:
            entry.is_there.set()

    async def find(cache, text):
        while text in cache:
            entry = cache[text]
            await entry.is_there.wait()
            if not entry.is_cancelled:
                return
            if broken:
                failed.append(text)
                return
        await load(cache, text)

    async def find_in_time(cache, seconds):
        with anyio.move_on_after(seconds):
            try:
                await find(cache, "text")
            except ConnectionError:
                return

    @rt.function_node
    async def main():
        cache: dict[str, Entry] = {}
        async with anyio.create_task_group() as group:
            group.start_soon(find_in_time, cache, 2)
            group.start_soon(find_in_time, cache, 60)

    def none_fails_as_another_is_cancelled(outcome):
        assert not failed, f"failed: {failed}"

    return Case(main, (none_fails_as_another_is_cancelled,), nodes=(search,))
