"""How a journal is read: as far as it is whole, back into records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from railtracks.exceptions import StateError
from railtracks.state._call_tree import CallTree, renumber_changes
from railtracks.state._document._writer import VERSION
from railtracks.state._journal._format import HEADER_BEGINS, PREFIX
from railtracks.state._records import CallRecord, Change, Form, Reason, Status
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import dumps, format_inputs, format_output, loads
from railtracks.state._transitions import RTState

TRUNCATED = "the entry breaks off, or its length is damaged"


class JournalContent(NamedTuple):
    """What was read from a journal. Times are in seconds since the epoch."""

    facts: dict[str, Any]
    """The members of the document that say which session it was."""
    records: list[CallRecord]
    earlier: list[CallRecord]
    """The calls of the session that this one resumed; empty if this one has completed."""
    end_time: float | None
    damage: str | None
    """Why the rest could not be used, and from which byte on; None for a whole journal."""


class _Entry(NamedTuple):
    """An entry, or the damage that stands in its place."""

    offset: int
    payload: bytes | None
    problem: str = ""


def read_journal(content: bytes) -> JournalContent:
    """Read a journal as far as it is whole.

    Raises:
        StateError: The header is missing or damaged, or its version is unknown.
    """
    entries = _entries(content)
    version, facts = _read_header(next(entries, None) or _Entry(0, None, "it is empty"))
    migrate = _migration(version)
    reader = _JournalReader([])
    earlier: list[CallRecord] = []
    damage = None
    for offset, payload, problem in entries:
        if payload is None:
            damage = f"{problem} at byte {offset}"
            break
        try:
            entry = loads(payload)
            migrate(entry)
            if entry["e"] == "attempt":
                earlier = reader.state.records
                reader = _JournalReader(earlier)
            else:
                reader.apply(entry)
        except Exception as exc:  # the checksum fits and the content does not, or a registered hook raises
            damage = f"the entry at byte {offset} cannot be used ({type(exc).__name__}: {exc})"
            break
    return JournalContent(facts, reader.state.records, [] if reader.completed else earlier, reader.end_time, damage)


def has_torn_header(content: bytes) -> bool:
    """Return whether the process died while it wrote the header, so that the journal holds nothing."""
    part = content[PREFIX.size :]
    return HEADER_BEGINS.startswith(part[: len(HEADER_BEGINS)]) and b"}" not in part


def _entries(content: bytes) -> Iterator[_Entry]:
    """Yield the entries up to the end or, as the last one, the first damage."""
    offset = 0
    while offset < len(content):
        start = offset + PREFIX.size
        if start > len(content):
            yield _Entry(offset, None, TRUNCATED)
            return
        length, checksum = PREFIX.unpack_from(content, offset)
        payload = content[start : start + length]
        if len(payload) < length:
            yield _Entry(offset, None, TRUNCATED)
            return
        if not length or crc32(payload) != checksum:
            yield _Entry(offset, None, "the entry is damaged (checksum)")
            return
        yield _Entry(offset, payload)
        offset = start + length


def _migration(version: int) -> Callable[[dict[str, Any]], None]:
    """Return a function that turns an entry of that version into one of the current version, in place."""
    if version == VERSION:
        return lambda _: None
    from railtracks.state._serialization._former_names import translate  # here, as only old journals need it

    def migrate(entry: dict[str, Any]) -> None:
        if version == 1:  # which did not record how much of a value was written
            form = {"created": "input_form", "ended": "output_form"}.get(entry["e"])
            if form is not None:
                entry[form] = Form.UNKNOWN.value
        translate(entry)

    return migrate


def _read_header(first: _Entry) -> tuple[int, dict[str, Any]]:
    if first.payload is None:
        raise StateError(f"this is not a journal, or its beginning is damaged: at byte 0 {first.problem}")
    try:
        facts = loads(first.payload)
        kind, version = facts.pop("e"), facts.pop("version")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise StateError(f"this is not a journal: its first entry is not a header ({exc})") from exc
    if kind != "header" or version not in range(1, VERSION + 1):
        raise StateError(f"the journal has version {version!r}; this release of railtracks reads 1 to {VERSION}")
    return version, facts


class _JournalReader:
    """Rebuilds the records of one session from the entries of its journal.

    Args:
        earlier: The calls of the session that this one resumed.
    """

    def __init__(self, earlier: list[CallRecord]) -> None:
        self._earlier = earlier
        self._earlier_calls: CallTree | None = None
        self.state = RTState()
        self.end_time: float | None = None
        self.completed = False

    def apply(self, entry: dict[str, Any]) -> None:
        """Apply an entry to the state. Raises if it contradicts those before it."""
        match entry["e"]:
            case "created":
                self._create(entry)
            case "ended":
                self._end(self.state.records[entry["call"]], entry)
            case "reused":
                self._reuse(self.state.records[entry["call"]], self._earlier[entry["known"]], entry["orders"])
            case "context":
                self._change(self.state.records[entry["call"]], entry)
            case "attributes":
                self.state.records[entry["call"]].attributes = dumps(entry["attributes"])
            case "end":
                self.end_time, self.completed = entry["time"], entry.get("completed", False)
            case other:
                raise StateError(f"{other!r} is not a kind of entry")

    def _create(self, entry: dict[str, Any]) -> None:
        if entry["call"] != len(self.state.records):
            raise StateError(f"expected the creation of call {len(self.state.records)}, not of call {entry['call']}")
        args, kwargs = entry["input_args"], entry["input_kwargs"]
        parent = None if entry["parent"] is None else self.state.records[entry["parent"]]
        inputs = format_inputs(args, kwargs, Form(entry.get("input_form", Form.PLAIN)), entry.get("input_types"))
        record = self.state.created(
            entry["name"], entry["node_type"], tuple(decode(args)), decode(kwargs), parent, entry["time"]
        )
        record.inputs = inputs
        record.node = entry.get("node")
        record.reuse = entry.get("reuse")

    def _end(self, record: CallRecord, entry: dict[str, Any]) -> None:
        state, time, output = self.state, entry["time"], entry["output"]
        text = format_output(output, Form(entry.get("output_form", Form.PLAIN)), entry.get("output_types"))
        match Status(entry["status"]):
            case Status.COMPLETED:
                state.succeeded(record, decode(output), time)
            case Status.FAILED:
                state.failed(record, decode(output), time)
            case Status.CANCELLED:
                abandoned = entry["abandoned"]
                state.cancelled(record, Reason(entry["reason"]), time, entry.get("timeout"))
                record.abandoned = abandoned
            case Status.OPEN:
                raise StateError("a call that ended cannot be open")
        record.output = text

    def _reuse(self, record: CallRecord, known: CallRecord, orders: list[int]) -> None:
        if self._earlier_calls is None:
            self._earlier_calls = CallTree(self._earlier)
        below = self._earlier_calls.descendants(known)
        self.state.reused(record, known, below, known.result, 0.0)
        renumber_changes(self.state.records, record, known, below, orders)

    def _change(self, record: CallRecord, entry: dict[str, Any]) -> None:
        value = None if entry["deleted"] else dumps(entry["value"])
        types = dumps(entry["types"]) if "types" in entry else None
        change = Change(entry["order"], entry["key"], value, Form(entry["form"]), types)
        if record.changes is None:
            record.changes = []
        record.changes.append(change)
