"""A small ASGI application without a framework: each request opens a session, and streams what its nodes broadcast.

``/run?n=N`` does the work; ``N`` chooses whether and where the session is saved. ``&pause=S`` makes it last longer. A
client that leaves cancels it: the servers only report the disconnect, so the application waits for that in a task
group, as frameworks do. ``/left`` says what is left when nothing runs, and what was wrong: each request compares the
notes of its nodes with the records of its session.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
import sniffio

import railtracks as rt
from railtracks.state import Status
from railtracks.state._stores import _file_lock

CHILDREN = 5
FOLDER = Path(os.environ.get("ASGI_FOLDER", ".railtracks"))
FILES = rt.state.FileStore(FOLDER)
MEMORY = rt.state.MemoryStore()

counts: Counter[str] = Counter()
problems: list[str] = []


class Notes:
    """What the nodes of one request noted: the calls that began, ended, and were cleaned up."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cleaned: list[str] = []


notes: ContextVar[Notes] = ContextVar("notes")


async def leaf(key, pause):
    noted = notes.get()
    try:
        noted.begun.append(f"leaf {key}")
        await anyio.sleep(pause)
        noted.ended.append(f"leaf {key}")
        return 1
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.001)
        noted.cleaned.append(f"leaf {key}")
        raise


async def child(key, pause):
    noted = notes.get()
    noted.begun.append(f"child {key}")
    result = await rt.call(leaf, key, pause)
    await rt.broadcast(f"child {key}")
    noted.ended.append(f"child {key}")
    return result


def work(key):
    noted = notes.get()
    noted.begun.append(f"work {key}")
    time.sleep(0.001)
    noted.ended.append(f"work {key}")
    return 1


async def entry(pause):
    noted = notes.get()
    noted.begun.append("entry")
    await rt.broadcast("begun")
    result = await rt.call(work, "first")
    pauses = [pause * i for i in range(CHILDREN)]
    result += sum(await rt.call_batch(child, range(CHILDREN), pauses, return_exceptions=False))
    await rt.broadcast("last")
    noted.ended.append("entry")
    return result


def options(n: int) -> dict[str, Any]:
    """Return the options of the session of the n-th request: half of them save nothing, the others vary."""
    identity = {4: {"run_identifier": f"request-{n}"}, 5: {"name": "request"}, 6: {"run_identifier": f"request-{n}"}}
    store = {4: MEMORY, 5: MEMORY, 6: FILES, 7: FILES}.get(n % 8)
    return {"save_state": store is not None, "store": store, **identity.get(n % 8, {})}


async def run(query: dict[str, str], send: Any) -> None:
    noted = Notes()
    notes.set(noted)
    n = int(query["n"])

    async def stream(item):
        await send({"type": "http.response.body", "body": f"{item}\n".encode(), "more_body": True})

    session = rt.Session(broadcast_callback=stream, logging_setting="NONE", **options(n))
    result = None
    try:
        async with session:
            result = await rt.call(entry, float(query.get("pause", 0.01)))
    finally:
        compare(session, noted, result)
        with anyio.CancelScope(shield=True):
            await forget(session, check=n % 50 in (4, 6))
    await stream(f"result {result}")


def key(record: Any) -> str:
    return " ".join(map(str, [record.name, *record.args[:1]] if record.name != "entry" else [record.name]))


def compare(session: rt.Session, noted: Notes, result: int | None) -> None:
    """Compare the records of a session that has ended with what its nodes noted."""
    records = {key(record): record for record in session.info.records}
    if len(records) != len(session.info.records):
        problems.append("a call is on record twice")
    problems.extend(f"{name} is not on record" for name in noted.begun if name not in records)
    for name, record in records.items():
        if record.status is Status.OPEN:
            problems.append(f"{name} is Open")
        elif record.status is Status.COMPLETED and name not in noted.ended:
            problems.append(f"{name} is Completed and did not end")
        elif record.status is Status.FAILED:
            problems.append(f"{name} is Failed: {record.exception!r}")
        if name.startswith("leaf") and name in noted.begun and not {name} & {*noted.ended, *noted.cleaned}:
            problems.append(f"{name} was left without its cleanup")
    wrong = [name for name, record in records.items() if record.status is not Status.COMPLETED]
    if result is not None and (wrong or result != 1 + CHILDREN):
        problems.append(f"the result is {result}, and {wrong} did not complete")
    counts["completed" if result is not None else "cancelled"] += 1


async def forget(session: rt.Session, check: bool) -> None:
    """Remove what a session saved, as a service must; before that, read some of it back."""
    config = session.executor_config
    if not config.save_state:
        return
    if check:
        saved = await anyio.to_thread.run_sync(rt.state.load_run, session.identifier, config.store)
        if [r.status for r in saved.records] != [r.status for r in session.info.records]:
            problems.append("the saved statuses are not those of the session")
    config.store.remove(session.identifier)


def tasks() -> list[str]:
    """Return the names of all tasks of the event loop."""
    if sniffio.current_async_library() == "asyncio":
        import asyncio

        return sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())
    import trio

    found: list[Any] = [trio.lowlevel.current_root_task()]
    for task in found:
        found.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return sorted(task.name for task in found)


def left() -> dict[str, Any]:
    """Return what is left of the requests so far, and what was wrong about them."""
    gc.collect()
    sessions = [each for each in gc.get_objects() if isinstance(each, rt.Session)]
    return {
        "tasks": tasks(),
        "sessions": len(sessions),
        "locks": list(_file_lock._held),
        "files": sorted(path.name for path in FOLDER.glob("*")) if FOLDER.exists() else [],
        "stored": len(MEMORY.list()),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "blocks": sys.getallocatedblocks(),
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "counts": dict(counts),
        "problems": dict(Counter(problems)),
    }


async def respond(scope: Any, receive: Any, send: Any) -> None:
    async with anyio.create_task_group() as group:

        async def cancel_on_disconnect():
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(cancel_on_disconnect)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        if scope["path"] == "/left":
            body = json.dumps(left()).encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        else:
            await run(dict(parse_qsl(scope["query_string"].decode())), send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        group.cancel_scope.cancel()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request, or begin and end the application."""
    if scope["type"] == "http":
        await respond(scope, receive, send)
    while scope["type"] == "lifespan":
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            (FOLDER.parent / "left.json").write_text(json.dumps(left()))
            return
