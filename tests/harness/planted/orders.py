"""Mistakes in flows whose calls do not always run in the order in which they were written."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import anyio
import attrs
from hypothesis import strategies as st

import railtracks as rt
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(PLANTED, "each candidate makes itself the leader if there is none, and waits in between", "seeds", "schedules")
def leader_elected_twice(broken):
    elected = []

    @rt.function_node
    async def ask_quorum(candidate):
        await anyio.sleep(0)

    @rt.function_node
    async def join(candidate):
        if rt.context.get("leader", None) is not None:
            return
        if not broken:
            rt.context.put("leader", candidate)
        await rt.call(ask_quorum, candidate)
        if broken:
            rt.context.put("leader", candidate)
        elected.append(candidate)

    @rt.function_node
    async def start_cluster(size):
        await rt.call_batch(join, range(size))

    def there_is_one_leader(outcome):
        assert len(elected) <= 1, f"leaders: {elected}"

    return Case(start_cluster, (there_is_one_leader,), args=(2,), nodes=(join, ask_quorum))


@defect(PLANTED, "the second check of a double-checked initialisation is missing", "seeds", "schedules")
def connected_twice(broken):
    connected = []

    @rt.function_node
    async def connect():
        await anyio.sleep(0.1)
        connected.append("connection")

    @rt.function_node
    async def query(lock, number):
        if not connected:
            async with lock:
                if broken or not connected:
                    await rt.call(connect)

    @rt.function_node
    async def report(queries):
        await rt.call_batch(query, [anyio.Lock()] * queries, range(queries))

    def there_is_one_connection(outcome):
        assert len(connected) <= 1, f"connected {len(connected)} times"

    return Case(report, (there_is_one_connection,), args=(2,), nodes=(connect,))


@defect(PLANTED, "a lock covers the read and the write, but is released in between", "seeds", "schedules")
def lock_released_early(broken):
    account = {"sum": 0}
    added = []

    @rt.function_node
    async def price(amount):
        await anyio.sleep(0)
        return amount

    @rt.function_node
    async def add(lock, amount):
        if broken:
            async with lock:
                old = account["sum"]
            new = old + await rt.call(price, amount)
            async with lock:
                account["sum"] = new
        else:
            found = await rt.call(price, amount)
            async with lock:
                account["sum"] += found
        added.append(amount)

    @rt.function_node
    async def add_all(amounts):
        await rt.call_batch(add, [anyio.Lock()] * len(amounts), amounts)

    def nothing_is_lost(outcome):
        assert account["sum"] == sum(added), f"{account}, and {added} were added"

    return Case(add_all, (nothing_is_lost,), args=([1, 2],), nodes=(add,))


@defect(
    PLANTED, "an entry of a cache expires, and each reader loads it again", "seeds", "schedules",
    args=st.tuples(st.integers(1, 4)),
)  # fmt: skip
def expired_entry_loaded_by_all(broken):
    loaded = []

    @rt.function_node
    async def load():
        await anyio.sleep(0.5)
        loaded.append(anyio.current_time())
        return "value"

    @rt.function_node
    async def read(entry, lock):
        async def fresh():
            if anyio.current_time() >= entry["expires"]:
                entry["value"] = await rt.call(load)
                entry["expires"] = anyio.current_time() + 10
            return entry["value"]

        if broken:
            return await fresh()
        async with lock:
            return await fresh()

    @rt.function_node
    async def serve(readers):
        entry, lock = {"value": "old", "expires": anyio.current_time() + 5}, anyio.Lock()
        await anyio.sleep(6)
        await rt.call_batch(read, [entry] * readers, [lock] * readers)

    def it_is_loaded_once_in_a_while(outcome):
        for before, after in pairwise(loaded):
            assert after - before >= 5, f"loaded twice within {after - before:g} s"

    return Case(serve, (it_is_loaded_once_in_a_while,), args=(3,))


@defect(
    PLANTED, "workers share a cursor, and move it on only after they have fetched", "seeds", "schedules",
    args=st.tuples(st.integers(1, 3), st.integers(0, 3)),
)  # fmt: skip
def pages_fetched_twice(broken):
    fetched = []

    @rt.function_node
    async def fetch(page):
        await anyio.sleep(0.1)
        return page + 1

    @rt.function_node
    async def work(cursor, pages):
        while (page := cursor["next"]) < pages:
            if not broken:
                cursor["next"] = page + 1
            following = await rt.call(fetch, page)
            fetched.append(page)
            if broken:
                cursor["next"] = following

    @rt.function_node
    async def crawl(workers, pages):
        await rt.call_batch(work, [{"next": 0}] * workers, [pages] * workers)

    def each_page_is_fetched_once(outcome):
        assert len(fetched) == len(set(fetched)), f"fetched: {fetched}"

    return Case(crawl, (each_page_is_fetched_once,), args=(2, 1))


@defect(PLANTED, "a later save of a document is overtaken by an earlier one", "schedules")
def slow_save_overtakes(broken):
    stored = {}

    @rt.function_node
    async def save(version, lock):
        async def put():
            await anyio.sleep(0.1)
            stored["version"] = version

        if broken:
            await put()
        else:
            async with lock:
                await put()

    @rt.function_node
    async def edit():
        lock = anyio.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, save, 1, lock)
            await anyio.sleep(0.05)
            group.start_soon(rt.call, save, 2, lock)

    def the_last_version_is_stored(outcome):
        assert stored.get("version") == 2, f"stored: {stored}"

    return Case(edit, (the_last_version_is_stored,), nodes=(save,))


def status_read_twice(pauses, later=0):
    """Return a flow whose status may have changed, and changed back, between two checks.

    The change begins so many seconds later.
    """

    def make(broken):
        overwritten = []

        @rt.function_node
        async def refresh(document):
            if document["status"] != "free":
                return
            text, version = document["text"], document["version"]
            await pauses[0]()
            unchanged = document["status"] == "free" if broken else document["version"] == version
            if unchanged and document["text"] != text:
                overwritten.append(document["text"])

        @rt.function_node
        async def edit(document):
            document["status"] = "locked"
            document["text"] = "new"
            document["version"] += 1
            for pause in pauses[1:]:
                await pause()
            document["status"] = "free"

        @rt.function_node
        async def refresh_and_edit():
            document = {"status": "free", "text": "old", "version": 0}
            async with anyio.create_task_group() as group:
                group.start_soon(rt.call, refresh, document)
                if later:
                    await anyio.sleep(later)
                group.start_soon(rt.call, edit, document)

        def no_edit_is_overwritten(outcome):
            assert not overwritten, f"overwritten: {overwritten}"

        return Case(refresh_and_edit, (no_edit_is_overwritten,), nodes=(refresh, edit))

    return make


async def turn():
    await anyio.sleep(0)


async def io():
    await anyio.sleep(0.1)


async def download_in_node():
    await rt.call(download)


@rt.function_node
async def download():
    await anyio.sleep(0.1)


def changed_and_changed_back(name, text, *ways, pauses, later=0, nodes=None):
    """Add a flow in which the status changes, and changes back, while another call waits."""
    make = status_read_twice(pauses, later)
    defect(PLANTED, f"the status changed, and changed back, {text}", *ways, name=name)(
        make if nodes is None else lambda broken: attrs.evolve(make(broken), nodes=nodes)
    )


changed_and_changed_back("changed back in one turn", "within one turn", "seeds", "schedules", pauses=(turn, turn))
changed_and_changed_back("changed back in two turns", "within two turns", "schedules", pauses=(turn, turn, turn))
changed_and_changed_back("changed back in three turns", "within three", "schedules", pauses=(turn, turn, turn, turn))
changed_and_changed_back("changed back during I/O", "during I/O of the same length", "schedules", pauses=(io, io, io))
changed_and_changed_back(
    "changed back during a call", "while a node was called", "faults", "sweep",
    pauses=(download_in_node, io, io), later=0.05, nodes=(download,),
)  # fmt: skip


@defect(
    PLANTED, "of the tasks that are done one is used: the result of another that was done at that moment is lost",
    "seeds", backends=("asyncio",),
)  # fmt: skip
def one_of_two_that_are_done(broken):
    taken, used = [], []

    @rt.function_node
    async def take(queue):
        await anyio.sleep(0.1)
        taken.append(queue)
        return queue

    @rt.function_node
    async def main(queues):
        tasks = [asyncio.ensure_future(rt.call(take, queue)) for queue in queues]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if broken:
            used.append(done.pop().result())
        for task in others:
            task.cancel()
        rest = await asyncio.gather(*others, return_exceptions=True)
        if not broken:
            used.extend([*(task.result() for task in done), *(each for each in rest if isinstance(each, str))])

    def nothing_is_lost(outcome):
        if outcome.exception is None:
            assert len(used) == len(taken), f"taken: {taken}, used: {used}"

    return Case(main, (nothing_is_lost,), args=(["high", "low"],))
