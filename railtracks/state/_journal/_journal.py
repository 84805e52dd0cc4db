"""The journal: what happens, appended as it happens.

It is a row of frames, each the length and the checksum (CRC-32) of its payload, four bytes each, little-endian, and the
payload, a JSON object. The first one is the header. So a journal that ends anywhere, or is damaged anywhere, is
used up to there.

    {"e": "header", "version": 3, "session_id": ...}            which session this is
    {"e": "created", "call": 3, "parent": 0, "time": ..., ...}
    {"e": "ended", "call": 3, "time": ..., "status": ...}
    {"e": "context", "call": 3, "order": 0, "key": ..., ...}
    {"e": "attempt"}                                            what came before is of the session that this one resumes
    {"e": "reused", "call": 3, "known": 7, ...}                 call 3 is call 7 of that, with all below it
    {"e": "end", "time": ..., "completed": true}                the session ended, and needs no earlier one any more
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from zlib import crc32

from railtracks.exceptions import StateError
from railtracks.state._document._graph import VERSION
from railtracks.state._document._writer import change_text
from railtracks.state._records import CallRecord, Change, Form, Reason, Status
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import NO_OUTPUT, dumps, format_inputs, format_output, loads
from railtracks.state._transitions import Calls, RTState, renumber_changes

BREAKS_OFF = "the record breaks off, or its length is damaged"
_FRAME = struct.Struct("<II")
_pack = _FRAME.pack


def frame(payload: str) -> bytes:
    """A record of the journal, ready to be appended."""
    content = payload.encode()  # ASCII all through
    return _pack(len(content), crc32(content)) + content


# ---- what is written


def header(facts: dict[str, str | float | None]) -> str:
    """``facts``: the members of the document that say which session it was."""
    return dumps({"e": "header", "version": VERSION, **facts})  # the version of the document that it will become


def is_only_begun(content: bytes) -> bool:
    """Did its process die while it wrote the header?"""
    begins, part = b'{"e": "header"', content[_FRAME.size :]
    return begins.startswith(part[: len(begins)]) and b"}" not in part


ATTEMPT = '{"e": "attempt"}'


@lru_cache(maxsize=4096)
def _node_text(name: str, node_type: str, node: str | None, reuse: str | None) -> str:
    """What is the same for all calls of a node."""
    more = {"node": node, "reuse": reuse}
    facts = {"name": name, "node_type": node_type, **{key: value for key, value in more.items() if value is not None}}
    return dumps(facts)[1:-1]


def created(record: CallRecord, time: float) -> str:
    """A call was made. Its ``inputs`` are settled."""
    parent = record.parent
    text = _node_text(record.name, record.node_type, record.node, record.reuse)
    shown = "null" if parent is None else parent
    return f'{{"e": "created", "call": {record.index}, "parent": {shown}, "time": {time!r}, {text}, {record.inputs}}}'


def ended(record: CallRecord, time: float) -> str:
    """It ended. Its ``output`` is settled, if it has one."""
    output = record.output or NO_OUTPUT
    if record.reason is not None:
        output += f', "reason": "{record.reason.value}", "abandoned": {"true" if record.abandoned else "false"}'
    return f'{{"e": "ended", "call": {record.index}, "time": {time!r}, "status": "{record.status._value_}", {output}}}'


def changed(record: CallRecord, change: Change) -> str:
    """It changed the context."""
    return f'{{"e": "context", "call": {record.index}, {change_text(change)[1:]}'


def described(record: CallRecord) -> str:
    """It said something about itself, in place of what it had said before."""
    return f'{{"e": "attributes", "call": {record.index}, "attributes": {record.attributes}}}'


def end(time: float, completed: bool) -> str:
    """The session ended; ``completed``: nothing of the session that it resumed is needed any more."""
    return f'{{"e": "end", "time": {time!r}, "completed": {"true" if completed else "false"}}}'


def reused(record: CallRecord, known: CallRecord, orders: list[int]) -> str:
    """It ended as ``known`` had, with all that it made. ``orders``: the new places of the context's changes."""
    return dumps({"e": "reused", "call": record.index, "known": known.index, "orders": orders})


def told(records: Iterable[CallRecord], origin: float) -> Iterator[str]:
    """Everything about some records, whose texts are settled, in an order in which it can have happened.

    ``origin``: seconds to add to their times to get seconds since the epoch.
    """
    events: list[tuple[float, str]] = []
    for record in records:
        events.append((record.started_step, created(record, record.started + origin)))
        events += [(record.started_step + 0.5, changed(record, change)) for change in record.changes or ()]
        if record.attributes is not None:
            events.append((record.started_step + 0.5, described(record)))
        if record.ended is not None and record.ended_step is not None:
            events.append((record.ended_step, ended(record, record.ended + origin)))
    events.sort(key=lambda event: event[0])
    return (payload for _, payload in events)


# ---- what is read


class Journal(NamedTuple):
    """What was read of a journal. Times are in seconds since the epoch."""

    facts: dict[str, Any]
    records: list[CallRecord]
    earlier: list[CallRecord]
    end_time: float | None
    damage: str | None
    """Why nothing after some place could be used, and the offset of that place; None for a whole journal."""


def read(content: bytes) -> Journal:
    """Read a journal, as far as it is whole.

    Raises:
        StateError: there is not even a header, or its version is unknown.
    """
    payloads = _payloads(content)
    damage: list[str] = []
    version, facts = _read_header(next(payloads, None) or (0, None, "it is empty"))
    upgrade = _upgrade(version)
    tale = _Tale([])
    earlier: list[CallRecord] = []
    for offset, payload, problem in payloads:
        if payload is None:
            damage.append(f"{problem} at byte {offset}")
            break
        try:
            event = loads(payload)
            upgrade(event)
            if event["e"] == "attempt":
                earlier, tale = tale.state.records, _Tale(tale.state.records)
            else:
                tale.take(event)
        except Exception as exc:  # a checksum that fits a payload that does not, or a hook of the user's that raises
            damage.append(f"the record at byte {offset} cannot be used ({type(exc).__name__}: {exc})")
            break
    return Journal(
        facts,
        tale.state.records,
        [] if tale.completed else earlier,
        tale.end_time,
        damage[0] if damage else None,
    )


def _payloads(content: bytes) -> Iterator[tuple[int, bytes | None, str]]:
    """The payloads with their offsets; at the end, where there is damage, None and what it is."""
    offset = 0
    while offset < len(content):
        start = offset + _FRAME.size
        if start > len(content):
            yield offset, None, BREAKS_OFF
            return
        length, checksum = _FRAME.unpack_from(content, offset)
        payload = content[start : start + length]
        if len(payload) < length:
            yield offset, None, BREAKS_OFF
            return
        if not length or crc32(payload) != checksum:
            yield offset, None, "the record is damaged (checksum)"
            return
        yield offset, payload, ""
        offset = start + length


def _upgrade(version: int) -> Callable[[dict[str, Any]], None]:
    """Return what turns an event of that version into one of the current version; in place."""
    if version == VERSION:
        return lambda _: None
    from railtracks.state._serialization._former_names import translate  # here, as it serves old journals only

    def upgrade(event: dict[str, Any]) -> None:
        if version == 1:  # which did not record how much of a value was written
            kind = {"created": "input_form", "ended": "output_form"}.get(event["e"])
            if kind is not None:
                event[kind] = Form.UNKNOWN.value
        translate(event)

    return upgrade


def _read_header(first: tuple[int, bytes | None, str]) -> tuple[int, dict[str, Any]]:
    _, payload, problem = first
    if payload is None:
        raise StateError(f"this is no journal, or its beginning is damaged: at byte 0 {problem}")
    try:
        facts = loads(payload)
        kind, version = facts.pop("e"), facts.pop("version")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise StateError(f"this is no journal: its first record is no header ({exc})") from exc
    if kind != "header" or version not in range(1, VERSION + 1):
        raise StateError(f"the journal has version {version!r}; this release of railtracks reads 1 to {VERSION}")
    return version, facts


class _Tale:
    """The records that the events tell of."""

    def __init__(self, earlier: list[CallRecord]) -> None:
        self._earlier = earlier
        self._calls: Calls | None = None  # the earlier ones, by caller
        self.state = RTState()
        self.end_time: float | None = None
        self.completed = False

    def take(self, event: dict[str, Any]) -> None:
        match event["e"]:
            case "created":
                self._created(event)
            case "ended":
                self._ended(self.state.records[event["call"]], event)
            case "reused":
                self._reused(self.state.records[event["call"]], self._earlier[event["known"]], event["orders"])
            case "context":
                self._changed(self.state.records[event["call"]], event)
            case "attributes":
                self.state.records[event["call"]].attributes = dumps(event["attributes"])
            case "end":
                self.end_time, self.completed = event["time"], event.get("completed", False)
            case other:
                raise StateError(f"there is no event {other!r}")

    def _created(self, event: dict[str, Any]) -> None:
        if event["call"] != len(self.state.records):
            raise StateError(f"call {event['call']} comes where call {len(self.state.records)} should")
        args, kwargs = event["input_args"], event["input_kwargs"]
        parent = None if event["parent"] is None else self.state.records[event["parent"]]
        inputs = format_inputs(args, kwargs, Form(event.get("input_form", Form.PLAIN)), event.get("input_types"))
        record = self.state.created(
            event["name"], event["node_type"], tuple(decode(args)), decode(kwargs), parent, event["time"]
        )
        record.inputs = inputs
        record.node = event.get("node")
        record.reuse = event.get("reuse")

    def _ended(self, record: CallRecord, event: dict[str, Any]) -> None:
        state, time, output = self.state, event["time"], event["output"]
        text = format_output(output, Form(event.get("output_form", Form.PLAIN)), event.get("output_types"))
        match Status(event["status"]):
            case Status.COMPLETED:
                state.succeeded(record, decode(output), time)
            case Status.FAILED:
                state.failed(record, decode(output), time)
            case Status.CANCELLED:
                abandoned = event["abandoned"]
                state.cancelled(record, Reason(event["reason"]), time)
                record.abandoned = abandoned
            case Status.OPEN:
                raise StateError("a call ended and is open")
        record.output = text

    def _reused(self, record: CallRecord, known: CallRecord, orders: list[int]) -> None:
        self._calls = self._calls or Calls(self._earlier)
        below = self._calls.subtree(known)
        self.state.reused(record, known, below, known.result, 0.0)
        renumber_changes(self.state.records, record, known, below, orders)

    def _changed(self, record: CallRecord, event: dict[str, Any]) -> None:
        value = None if event["deleted"] else dumps(event["value"])
        change = Change(event["order"], event["key"], value, Form(event["form"]))
        if record.changes is None:
            record.changes = []
        record.changes.append(change)
