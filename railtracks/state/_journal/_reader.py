"""How a journal is read: as far as it is whole, back into records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from zlib import crc32

from railtracks.exceptions import StateError
from railtracks.state._call_tree import CallTree
from railtracks.state._document._writer import LAST_TRANSLATED, VERSION, parse_read
from railtracks.state._journal._format import HEADER_BEGINS, LAST_UNCHAINED, PREFIX
from railtracks.state._node_codes import NodeCodes
from railtracks.state._records import CallRecord, Change, Form, Reason, Status, policy_facts_in
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._loaded_record import LoadedRecord, check_inputs, check_output, result_of
from railtracks.state._serialization._record_text import dumps, format_inputs, format_output, json_decoder, loads
from railtracks.state._serialization._stored_messages import MessageTable
from railtracks.state._shared_texts import set_output, stored_output
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # loaded by few programs
    from railtracks.state._batch_summary import BatchSummary

_INPUTS = ["input_args", "input_kwargs", "input_types", "input_form"]
_OUTPUT = ["output", "output_types", "output_form"]
ENTRY_BEGINS = b'{"e": "'
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
    restarts: int
    """How many sessions in a row, this one included, have resumed the run because a process had died."""


class _Entry(NamedTuple):
    """An entry, or the damage that stands in its place."""

    offset: int
    payload: bytes | None
    problem: str = ""
    end: int = 0
    """The offset of what follows it."""
    checksum: int = 0


def read_journal(content: bytes) -> JournalContent:
    """Read a journal as far as it is whole.

    Raises:
        StateError: The header is missing or damaged, or its version is unknown.
    """
    header = _header_of(content)
    version, facts = _read_header(header)
    migrate = _migration(version)
    messages = MessageTable()
    reader = _JournalReader([], version, messages)
    earlier: list[CallRecord] = []
    damage, restarts = None, 0
    parse = json_decoder().decode
    for offset, payload, problem, _, _ in _entries(content, header, version > LAST_UNCHAINED):
        if payload is None:
            damage = f"{problem} at byte {offset}"
            break
        try:
            text = payload.decode()
            entry = parse(text)
            migrate(entry)
            if entry["e"] == "attempt":
                reader.finish()
                earlier, restarts = reader.state.records, int(entry.get("restarts", 0))
                reader = _JournalReader(earlier, version, messages)
            else:
                reader.apply(entry, text)
        except Exception as exc:  # the checksum fits and the content does not, or a registered hook raises
            damage = f"the entry at byte {offset} cannot be used ({type(exc).__name__}: {exc})"
            break
    reader.finish()
    earlier = [] if reader.completed else earlier
    return JournalContent(facts, reader.state.records, earlier, reader.end_time, damage, restarts)


def read_facts(content: bytes) -> dict[str, Any]:
    """Return the members of the header of a journal, or of the beginning of one.

    Raises:
        StateError: The header is missing or damaged, or its version is unknown.
    """
    return _read_header(_header_of(content))[1]


def is_torn(content: bytes, damage: str | None) -> bool:
    """Return whether a journal was only read while its last entry was written, or its process died then.

    Args:
        content: The journal.
        damage: What ``read_journal`` says of it.
    """
    if damage is None or not damage.startswith(TRUNCATED):
        return False
    rest = content[int(damage.rpartition(" ")[2]) :]
    return rest.count(ENTRY_BEGINS) <= 1  # more entries would follow one of which the length is damaged


def has_torn_header(content: bytes) -> bool:
    """Return whether the process died while it wrote the header, so that the journal holds nothing."""
    part = content[PREFIX.size :]
    return HEADER_BEGINS.startswith(part[: len(HEADER_BEGINS)]) and b"}" not in part


def _entries(content: bytes, header: _Entry, is_chained: bool) -> Iterator[_Entry]:
    """Yield the entries behind the header, up to the end or, as the last one, the first damage.

    Args:
        content: The journal.
        header: Its first entry.
        is_chained: Whether the checksum of an entry goes on with that of the entry before it.
    """
    entry = header
    while entry.end < len(content) and entry.payload is not None:
        entry = _entry_at(content, entry.end, entry.checksum if is_chained else 0)
        yield entry


def _header_of(content: bytes) -> _Entry:
    return _entry_at(content, 0, 0) if content else _Entry(0, None, "it is empty")


def _entry_at(content: bytes, offset: int, before: int) -> _Entry:
    """Return the entry at an offset. ``before``: the checksum with which its own one begins."""
    start = offset + PREFIX.size
    if start > len(content):
        return _Entry(offset, None, TRUNCATED)
    length, checksum = PREFIX.unpack_from(content, offset)
    payload = content[start : start + length]
    if len(payload) < length:
        return _Entry(offset, None, TRUNCATED)
    if not length or crc32(payload, before) != checksum:
        problem = "the entry does not follow the one before it, or is damaged" if offset else "the entry is damaged"
        return _Entry(offset, None, f"{problem} (checksum)")
    return _Entry(offset, payload, end=start + length, checksum=checksum)


def _migration(version: int) -> Callable[[dict[str, Any]], None]:
    """Return a function that turns an entry of that version into one of the current version, in place."""
    if version > LAST_TRANSLATED:
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
    facts.pop("journal", None)  # which only has to be part of the checksums
    return version, facts


class _NodeMembers(NamedTuple):
    """The members of a ``created`` entry that all calls of a node have in common."""

    name: str
    node_type: str
    node: str | None
    reuse: str | None


class _LoadedState(RTState):
    """The records of a session that are read."""

    def created(
        self,
        name: str,
        node_type: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parent: CallRecord | None,
        now: float,
    ) -> LoadedRecord:
        """Record that a call was made, and return its record, which decodes its values when they are asked for."""
        index = len(self.records)
        caller, run = (None, index) if parent is None else (parent.index, parent.run)
        record = LoadedRecord(index, caller, run, name, node_type, args, kwargs, self.step, now)
        self.step += 1
        self.records.append(record)
        return record


class _JournalReader:
    """Rebuilds the records of one session from the entries of its journal.

    Args:
        earlier: The calls of the session that this one resumed.
        version: The version of the journal.
        messages: The messages to which entries refer.
    """

    def __init__(self, earlier: list[CallRecord], version: int, messages: MessageTable) -> None:
        self._earlier = earlier
        self._messages = messages
        self._earlier_calls: CallTree | None = None
        self._keeps_texts = version > LAST_TRANSLATED
        self._nodes: dict[int, _NodeMembers] = {}  # by the call in whose entry they stand
        self._codes = NodeCodes()
        self._batches: dict[int, BatchSummary] = {}  # by the call that stands for a batch that keeps few records
        self.state = _LoadedState()
        self.end_time: float | None = None
        self.completed = False

    def apply(self, entry: dict[str, Any], text: str) -> None:
        """Apply an entry to the state. Raises if it contradicts those before it.

        Args:
            entry: The entry.
            text: Its payload.
        """
        match entry["e"]:
            case "created":
                self._create(entry, text)
            case "ended":
                self._end(self._record(entry), entry, text)
            case "reused":
                self._reuse(self._record(entry), self._earlier[entry["known"]], entry["orders"])
            case "context":
                self._change(self.state.records[entry["call"]], entry)
            case "read":
                record, (key, read) = self.state.records[entry["call"]], parse_read(entry)
                record.reads = {**(record.reads or {}), key: read}
            case "attributes":
                self._batches.pop(entry["call"], None)  # they say it all
                self.state.records[entry["call"]].attributes = dumps(entry["attributes"])
            case "item":
                self._end_item(entry)
            case "conversation":
                self._messages.add(entry["messages"])
            case "end":
                self.end_time, self.completed = entry["time"], entry.get("completed", False)
            case other:
                raise StateError(f"{other!r} is not a kind of entry")

    def _end_item(self, entry: dict[str, Any]) -> None:
        from railtracks.state._batch_summary import BATCH, BatchSummary, Ended  # here, as few journals need it

        batch = self._batches.get(entry["call"])
        if batch is None:
            text = self.state.records[entry["call"]].attributes
            known = None if text is None else loads(text).get(BATCH)
            batch = self._batches[entry["call"]] = BatchSummary.of(known)
        digest, status = entry.get("digest"), Status(entry.get("status", Status.COMPLETED))
        batch.add(
            Ended(
                entry["item"], status, entry["seconds"], entry.get("calls", 1), entry.get("kept", False),
                None if digest is None else int(digest, 16), entry.get("error"),
            )
        )  # fmt: skip

    def finish(self) -> None:
        """Put what is known of batches on the records of their calls, once all entries were applied."""
        for index, batch in self._batches.items():
            record = self.state.records[index]
            attributes = {} if record.attributes is None else loads(record.attributes)
            record.attributes = dumps({**attributes, "railtracks.batch": batch.data()})
        self._batches = {}

    def _record(self, entry: dict[str, Any]) -> LoadedRecord:
        return cast(LoadedRecord, self.state.records[entry["call"]])

    def _create(self, entry: dict[str, Any], payload: str) -> None:
        if entry["call"] != len(self.state.records):
            raise StateError(f"expected the creation of call {len(self.state.records)}, not of call {entry['call']}")
        args, kwargs = entry["input_args"], entry["input_kwargs"]
        parent = None if entry["parent"] is None else self.state.records[entry["parent"]]
        form = Form(entry.get("input_form", Form.PLAIN))
        raw = self._cut_out(payload, entry, _INPUTS) or format_inputs(args, kwargs, form, entry.get("input_types"))
        text = self._messages.resolve(raw)
        values = check_inputs(args, kwargs, text)
        node = self._node(entry)
        record = self.state.created(node.name, node.node_type, (), {}, parent, entry["time"])
        record.set_inputs(values, text)
        record.node, record.reuse = node.node, node.reuse
        record.code = self._codes.code_of(record.node, entry.get("code"))
        record.branch = tuple(entry["branch"]) if "branch" in entry else None
        record.attempt = entry.get("attempt", 1)
        record.policy = policy_facts_in(entry)

    def _node(self, entry: dict[str, Any]) -> _NodeMembers:
        """Return the members that all calls of a node have in common, as they stand here or in an earlier entry."""
        if "like" in entry:
            return self._nodes[entry["like"]]
        node = _NodeMembers(entry["name"], entry["node_type"], entry.get("node"), entry.get("reuse"))
        self._nodes[entry["call"]] = node
        return node

    def _end(self, record: LoadedRecord, entry: dict[str, Any], payload: str) -> None:
        state, time, output = self.state, entry["time"], entry["output"]
        form = Form(entry.get("output_form", Form.PLAIN))
        raw = self._cut_out(payload, entry, _OUTPUT) or format_output(output, form, entry.get("output_types"))
        text = self._messages.resolve(raw)
        match Status(entry.get("status", Status.COMPLETED)):
            case Status.COMPLETED:
                value = check_output(output, text)
                state.succeeded(record, None, time)
                record.set_result(value, text)
            case Status.FAILED:
                state.failed(record, decode(output), time)
                record.raised_by = tuple(entry["raised_by"]) if "raised_by" in entry else None
                record.was_left = entry.get("was_left")
                if "reason" in entry:
                    record.reason, record.timeout = Reason(entry["reason"]), entry.get("timeout")
            case Status.CANCELLED:
                abandoned = entry["abandoned"]
                state.cancelled(record, Reason(entry["reason"]), time, entry.get("timeout"))
                record.abandoned = abandoned
            case Status.SUSPENDED:
                state.suspended(record, time)
            case Status.OPEN:
                raise StateError("a call that ended cannot be open")
        set_output(record, text)
        record.policy = policy_facts_in(entry) or record.policy

    def _cut_out(self, payload: str, entry: dict[str, Any], names: list[str]) -> str | None:
        """Return the text of a record as it stands at the end of a payload; None if it does not stand there.

        Args:
            payload: The text of the entry.
            entry: The entry.
            names: The members of the text, in their order; the last two may be missing.
        """
        members = [*entry]
        is_last = members[-len(names) :] == names or members[2 - len(names) :] == names[:-2]
        if not is_last or not self._keeps_texts or not payload.isascii():
            return None
        at = payload.find(f', "{names[0]}": ')  # it is not part of a value, where a backslash stands before a quote
        return payload[at + 2 : -1] if at >= 0 else None

    def _reuse(self, record: LoadedRecord, known: CallRecord, orders: list[int]) -> None:
        if self._earlier_calls is None:
            self._earlier_calls = CallTree(self._earlier)
        below = self._earlier_calls.descendants(known)
        self.state.reused(record, known, below, known.exception, orders)
        if known.exception is None:
            record.set_result(result_of(known), stored_output(known))

    def _change(self, record: CallRecord, entry: dict[str, Any]) -> None:
        value = None if entry["deleted"] else dumps(entry["value"])
        types = dumps(entry["types"]) if "types" in entry else None
        change = Change(entry["order"], entry["key"], value, Form(entry["form"]), types)
        if record.changes is None:
            record.changes = []
        record.changes.append(change)
