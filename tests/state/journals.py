"""Journals to read: nodes of all outcomes, a session that is stopped in the middle, and the entries of its journal."""

import json
import struct
import zlib
from itertools import pairwise

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.state import ExecutionInfo, MemoryStore, load_run
from tests import virtual


class Stop(Exception):
    pass


@rt.function_node
async def leaf(x) -> tuple[int, int]:
    rt.context.put("leaf", {"x": x})
    return (x, x)


@rt.function_node
async def broken():
    raise ValueError("boom")


@rt.function_node
async def endless():
    await anyio.sleep_forever()


@rt.function_node
async def tree(x) -> tuple[int, int]:
    first = await rt.call(leaf, x)
    with pytest.raises(ValueError):
        await rt.call(broken)
    rt.context.put("gone", 1)
    rt.context.delete("gone")
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, endless)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    return first


class Watched(MemoryStore):
    """A store that looks at the live session whenever a record was appended to its journal."""

    session: rt.Session

    def __init__(self):
        super().__init__()
        self.seen = {}

    def open(self, identifier, content, durable=False):
        appender = super().open(identifier, content, durable)
        append = appender.append

        def append_and_look(content):
            append(content)
            self.seen[len(self.read(identifier).journal)] = self.session.info  # type: ignore[arg-type]

        appender.append = append_and_look  # type: ignore[method-assign]
        return appender


def written(store, identifier="mine", **options):
    """The journal of a session at a moment when it has calls of all kinds, and the view of it then."""

    async def main():
        with pytest.raises(Stop):
            async with rt.Session(
                run_identifier=identifier, name="small", flow_name="flow", store=store, timeout=9, **options
            ) as session:
                store.session = session
                await rt.call(tree, 3)
                session.start_soon(endless)
                await anyio.sleep(1)
                found.extend((store.read(identifier).journal, session.info, load_run(identifier, store)))
                raise Stop

    found = []
    virtual.run("asyncio", main)
    return found


def boundaries(content):
    """Where the entries begin, and the end."""
    offsets = [0]
    while offsets[-1] < len(content):
        length, _ = struct.unpack_from("<II", content, offsets[-1])
        offsets.append(offsets[-1] + 8 + length)
    return offsets


def payloads(content):
    offsets = boundaries(content)
    return [json.loads(content[start + 8 : end]) for start, end in pairwise(offsets)]


def framed(*events, after=b""):
    """A journal, written by hand: ``after``, and then some entries. Those of older versions are not bound together."""
    is_bound = bool(after) or not (isinstance(events[0], dict) and events[0].get("version") in (1, 2, 3, 4))
    checksum = struct.unpack_from("<II", after, boundaries(after)[-2])[1] if after else 0
    content = after
    for event in events:
        text = json.dumps(event).encode()
        checksum = zlib.crc32(text, checksum if is_bound else 0)
        content += struct.pack("<II", len(text), checksum) + text
    return content


def facts(info):
    """Everything that a view says, in a form that can be compared."""
    plain = {
        field.name: getattr(info, field.name) for field in attrs.fields(ExecutionInfo) if not field.name.startswith("_")
    }
    del plain["damage"]
    return {**plain, "records": list(map(_fields, info.records)), "earlier": list(map(_fields, info.earlier))}


def _fields(record):
    plain = {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}
    return {**plain, "kwargs": dict(record.kwargs), "exception": str(record.exception)}
