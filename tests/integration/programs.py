"""The programs that signals interrupt: one tree of calls, in each form that a session has.

Each node notes when it begins, ends, and has cleaned up after a cancellation; each caller notes what it got. The
pauses are there for the signals to come in, and nothing depends on how long they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio

import railtracks as rt
from tests.integration.notes import note

RUN = "run"
SIZE = 3
RESULT = 3 * (0 + 1 + 2) + 3 * 5 + 3 * 7
"""The result of ``entry(SIZE)``."""


class NotingStore(rt.state.FileStore):
    """Files, and notes of when they are locked, saved and released."""

    def lock(self, identifier):
        note("locking")
        return super().lock(identifier)

    def save(self, identifier, content):
        note("saving")
        super().save(identifier, content)
        note("saved")


async def get(node, *args):
    """Call a node, and note what came back."""
    result = await rt.call(node, *args)
    note("got", node.__name__, *args)
    return result


async def leaf(key, value):
    try:
        note("begin", "leaf", key, value)
        await anyio.sleep(0.01)
        note("end", "leaf", key, value)
        return value
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.03)
        note("clean", "leaf", key, value)
        raise


def work(key, value):
    note("begin", "work", key, value)
    time.sleep(0.01)
    note("end", "work", key, value)
    return value


def relay(key, value):
    note("begin", "relay", key, value)
    result = rt.call_sync(leaf, f"{key}.leaf", value)
    note("got", "leaf", f"{key}.leaf", value)
    note("end", "relay", key, value)
    return result


async def branch(key):
    note("begin", "branch", key)
    total = 0
    for i in range(3):
        total += await get(leaf, f"{key}.{i}", i)
        await rt.broadcast(f"{key}.{i}")
    total += await get(work, f"{key}.work", 5)
    await rt.broadcast(f"{key}.work")
    total += await get(relay, f"{key}.relay", 7)
    note("end", "branch", key)
    return total


async def entry(size):
    note("begin", "entry", size)
    results = await rt.call_batch(branch, [f"b{i}" for i in range(size)], return_exceptions=False)
    for i in range(size):
        note("got", "branch", f"b{i}")
    note("end", "entry", size)
    return sum(results)


async def hear(item):
    """Take long over each item, so that some are delivered when the body is over."""
    note("hear", item)
    await anyio.sleep(0.01)


async def watch(event):
    await anyio.sleep(0.001)


def payload(document):
    note("payload")
    time.sleep(0.01)
    note("payload-end")


def options():
    return {
        "run_identifier": RUN,
        "logging_setting": "NONE",
        "store": NotingStore(".railtracks"),
        "broadcast_callback": hear,
        "payload_callback": payload,
    }


# ---- the forms


def async_with(backend):
    async def main():
        note("entering")
        async with rt.Session(**options()) as session:
            note("entered")
            session.subscribe(watch)
            session.start_soon(leaf, "beside", 1)
            result = await get(entry, SIZE)
            note("leaving")
        return result

    return anyio.run(main, backend=backend)


def call_sync(backend):
    note("entering")
    with rt.Session(backend=backend, **options()) as session:
        note("entered")
        session.subscribe(watch)
        rt.call_sync(leaf, "first", 1)  # starts the event loop
        note("got", "leaf", "first", 1)
        result = rt.call_sync(entry, SIZE)
        note("got", "entry", SIZE)
        note("leaving")
    return result


def plain_with(backend):
    async def main():
        note("entering")
        with rt.Session(**options()) as session:
            note("entered")
            session.subscribe(watch)
            result = await get(entry, SIZE)
            note("leaving")
        return result

    return anyio.run(main, backend=backend)


def flow(backend):
    note("entering")
    return rt.Flow("F", entry, backend=backend, **options()).invoke(SIZE)


def decorated(backend):
    @rt.session(**options())
    async def main():
        note("entered")
        result = await get(entry, SIZE)
        note("leaving")
        return result

    note("entering")
    result, _session = anyio.run(main, backend=backend)
    return result


def resume(backend):
    # In `call_sync` a signal may come when only the first leaf is on record, which `entry` does not call.
    return rt.Flow("F", entry, backend=backend, allow_rerun=True, **options()).resume(RUN, SIZE)


FORMS: dict[str, Callable[[str], Any]] = {
    form.__name__: form for form in (async_with, call_sync, plain_with, flow, decorated)
}
OTHERS = {"resume": resume}


def run(order):
    """Run a program, and note what came out, and which threads of sessions are left."""
    try:
        note("start")
        result = (FORMS | OTHERS)[order["form"]](order["backend"])
        note("out", "result", result)
    except BaseException as exc:
        note("out", type(exc).__name__, str(exc).replace("\n", " ")[:200])
        raise
    finally:
        left = [thread.name for thread in threading.enumerate() if thread.name.startswith("railtracks-session")]
        if left:
            note("left", *left)
