"""What a journal consists of, and the text of each kind of entry.

A journal is a sequence of entries. An entry is a prefix of eight bytes, the length and the checksum (CRC-32) of its
payload as little-endian integers, and the payload, one JSON object. The first entry is the header. So a journal that is
torn or damaged anywhere can be read up to there.

    {"e": "header", "version": 4, "session_id": ...}            which session this is
    {"e": "created", "call": 3, "parent": 0, "time": ..., ...}  a call was made
    {"e": "ended", "call": 3, "time": ..., "status": ...}       it ended
    {"e": "context", "call": 3, "order": 0, "key": ..., ...}    it changed the context
    {"e": "attributes", "call": 3, "attributes": {...}}         it described itself
    {"e": "attempt"}                                            what stands before belongs to the session being resumed
    {"e": "reused", "call": 3, "known": 7, ...}                 call 3 is call 7 of that one, with its descendants
    {"e": "end", "time": ..., "completed": true}                the session ended and needs no earlier one any more

The functions below return payloads as text, and ``encode_entry`` makes an entry of one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from zlib import crc32

from railtracks.state._document._writer import VERSION, change_text
from railtracks.state._records import CallRecord, Change
from railtracks.state._serialization._record_text import NO_OUTPUT, dumps, facts_text

PREFIX = struct.Struct("<II")
HEADER_BEGINS = b'{"e": "header"'
ATTEMPT_ENTRY = '{"e": "attempt"}'
_pack = PREFIX.pack


def encode_entry(payload: str) -> bytes:
    """Return an entry of the journal, ready to be appended."""
    content = payload.encode()  # ASCII throughout
    return _pack(len(content), crc32(content)) + content


def header_entry(facts: dict[str, str | float | None]) -> str:
    """Return the first entry. ``facts``: the members of the document that say which session it is."""
    return f'{{"e": "header", "version": {VERSION}, {facts_text(facts)}}}'  # of the document that this will become


@lru_cache(maxsize=4096)
def _node_text(name: str, node_type: str, node: str | None, reuse: str | None) -> str:
    """Return the members that all calls of a node have in common."""
    optional = {"node": node, "reuse": reuse}
    members = {"name": name, "node_type": node_type}
    members.update((key, value) for key, value in optional.items() if value is not None)
    return dumps(members)[1:-1]


def created_entry(record: CallRecord, time: float, redact: Callable[[str], str] = str) -> str:
    """Return the entry for the creation of a call, whose ``inputs`` are text already.

    Args:
        record: The call.
        time: Seconds since the epoch.
        redact: Replaces secrets in the names of the call.
    """
    parent = record.parent
    text = redact(_node_text(record.name, record.node_type, record.node, record.reuse))
    caller = "null" if parent is None else parent
    return f'{{"e": "created", "call": {record.index}, "parent": {caller}, "time": {time!r}, {text}, {record.inputs}}}'


def ended_entry(record: CallRecord, time: float) -> str:
    """Return the entry for the end of a call, whose ``output``, if it has one, is text already."""
    output = record.output or NO_OUTPUT
    if record.reason is not None:
        output += f', "reason": "{record.reason.value}", "abandoned": {"true" if record.abandoned else "false"}'
        if record.timeout is not None:
            output += f', "timeout": {float(record.timeout)!r}'
    return f'{{"e": "ended", "call": {record.index}, "time": {time!r}, "status": "{record.status._value_}", {output}}}'


def context_entry(record: CallRecord, change: Change) -> str:
    """Return the entry for a change of the context that a call made."""
    return f'{{"e": "context", "call": {record.index}, {change_text(change)[1:]}'


def attributes_entry(record: CallRecord) -> str:
    """Return the entry for the attributes of a call; they replace those of earlier entries."""
    return f'{{"e": "attributes", "call": {record.index}, "attributes": {record.attributes}}}'


def reused_entry(record: CallRecord, known: CallRecord, orders: list[int]) -> str:
    """Return the entry for a call that ended as ``known`` had, with all its descendants.

    Args:
        record: The reused call.
        known: The recorded call that it corresponds to.
        orders: The new positions of the context changes of ``known`` and its descendants.
    """
    return f'{{"e": "reused", "call": {record.index}, "known": {known.index}, "orders": {orders}}}'


def end_entry(time: float, completed: bool) -> str:
    """Return the last entry. ``completed``: nothing of the session that was resumed is needed any more."""
    return f'{{"e": "end", "time": {time!r}, "completed": {"true" if completed else "false"}}}'


def entries_of(records: Iterable[CallRecord], origin: float) -> Iterator[str]:
    """Return all entries for some records, in an order in which they can have been written.

    Args:
        records: The records. Their ``inputs`` and ``output`` are text already.
        origin: Seconds to add to their times to get seconds since the epoch.
    """
    entries: list[tuple[float, str]] = []
    for record in records:
        entries.append((record.started_step, created_entry(record, record.started + origin)))
        entries += [(record.started_step + 0.5, context_entry(record, change)) for change in record.changes or ()]
        if record.attributes is not None:
            entries.append((record.started_step + 0.5, attributes_entry(record)))
        if record.ended is not None and record.ended_step is not None:
            entries.append((record.ended_step, ended_entry(record, record.ended + origin)))
    entries.sort(key=lambda entry: entry[0])
    return (payload for _, payload in entries)
