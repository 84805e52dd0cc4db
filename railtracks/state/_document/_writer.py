"""How the document is written: as text, in pieces.

Building the objects of the document and encoding them would take ten times as long as the recorded calls took, and
hold up every other thread meanwhile. So each call is written from a template, around the texts that its record keeps.
``_graph.py`` declares what is written. ``tests/state/test_document.py`` compares the two, and the journal with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from railtracks.state._document._checksums import with_checksums
from railtracks.state._node_codes import NodeCodes
from railtracks.state._ordering import in_order
from railtracks.state._records import CallRecord, Change, PolicyFacts, Read, Status, aggregate_status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import NO_OUTPUT, dumps, ensure_texts, facts_text, name_text
from railtracks.state._shared_texts import MessageNumbers, stored_inputs, stored_output

VERSION = 6
LAST_TRANSLATED = 3
"""The last version in which names of the library were others than they are now."""
_COMPLETED = Status.COMPLETED
DOCUMENT_BEGINS = b'{"version": '
CHUNK = 256
"""The number of calls that are written at once."""
PIECE = 1 << 16
"""The number of bytes that are written to disk at once, at least."""
_NAMES = 10_000
"""The number of names of which it is remembered how they are written, unless one top-level call has more."""
SEPARATOR = ",\n"
"""What stands between calls. Each line has a checksum, so damage to one line does not cost the calls on others."""


class Writer:
    """Writes the records of one session as a document.

    Args:
        session_id: The session, from which the identifiers are made.
        redactor: The secrets that the session knows.
        shares_messages: Whether each message of a conversation is written once. Otherwise conversations stand in it
            wherever they are, so that nothing has to be looked up.
    """

    def __init__(self, session_id: str, redactor: Redactor, shares_messages: bool = True) -> None:
        self._session = dumps(session_id)[1:-1]
        self._redactor = redactor
        self._written = redactor.redact_name
        self._codes = NodeCodes()  # of the array that is being written
        self._shares_messages = shares_messages
        self._messages = MessageNumbers()
        # What is written for each name, as there are few. Secrets that are registered meanwhile begin them anew.
        self._revision = -1
        self._stamp_names: dict[str, tuple[str, str]] = {}
        self._kinds: dict[tuple[str, str], str] = {}
        self._keys: dict[str, str] = {}

    def document(
        self, facts: dict[str, str | float | None], records: Sequence[CallRecord], earlier: Sequence[CallRecord]
    ) -> Iterator[str]:
        """Yield the document.

        Args:
            facts: The members that say which session it is.
            records: The calls of the session.
            earlier: The calls of the session that it resumed, as far as they are still needed.
        """
        status = aggregate_status(records).value
        self._messages = MessageNumbers()
        yield f'{{"version": {VERSION}, {facts_text(facts)}, "status": "{status}", "calls": {len(records)}, "runs": ['
        yield from self._runs(records)
        yield ',\n"callers": ['
        yield from _callers(records)
        if earlier:
            yield ',\n"earlier": ['
            yield from self._runs(earlier)
            yield ',\n"earlier_callers": ['
            yield from _callers(earlier)
        yield "}"

    def runs(self, records: Sequence[CallRecord]) -> Iterator[str]:
        """Yield the array of runs."""
        yield "["
        yield from self._runs(records)

    def _runs(self, records: Sequence[CallRecord]) -> Iterator[str]:
        """Yield the array of runs without its first bracket."""
        self._codes = NodeCodes()
        members: dict[int, list[CallRecord]] = {}
        for record in records:
            members.setdefault(record.run, []).append(record)
        separator = ""
        for run in members.values():
            yield separator
            yield from self._run(run)
            separator = SEPARATOR
        yield "]"

    def _run(self, records: list[CallRecord]) -> Iterator[str]:
        known = len(self._stamp_names) + len(self._kinds) + len(self._keys)
        if self._revision != self._redactor.revision or known > _NAMES:
            self._revision = self._redactor.revision
            self._stamp_names, self._kinds, self._keys = {}, {}, {}
        top = records[0]
        start, end = top.started, "null" if top.ended is None else repr(top.ended)
        yield (
            f'{{"name": {name_text(self._written(top.name))}, "run_id": "{self._session}-r{top.index}", '
            f'"status": "{top.status.value}", "start_time": {start!r}, "end_time": {end}, "nodes": ['
        )
        created, ended = self._stamps(records)
        yield from _in_chunks(map(self._node, records, created, ended))
        yield '],\n"edges": ['
        yield from _in_chunks(map(self._edge, records, created, ended))
        yield '],\n"steps": ['
        yield from _in_chunks(_by_step(records, created, ended), ", ")
        yield "]}"

    def _stamps(self, records: list[CallRecord]) -> tuple[list[str], list[str | None]]:
        """Return the stamps of creation and those of the end, each as text."""
        names = self._stamp_names
        created: list[str] = []
        ended: list[str | None] = []
        for record in records:
            made, done = names.get(record.name) or self._name_stamps(record.name)
            created.append(f'{{"step": {record.started_step}, "time": {record.started!r}, {made}')
            if record.ended is None:
                ended.append(None)
            else:
                if record.status is not _COMPLETED:
                    name = f"{self._written(record.name)} {record.status.value.upper()}"
                    done = f'"identifier": {name_text(name)}}}'
                ended.append(f'{{"step": {record.ended_step}, "time": {record.ended!r}, {done}')
        return created, ended

    def _name_stamps(self, name: str) -> tuple[str, str]:
        """Return the last members of the stamps of a call: for its creation, and for its completion."""
        written = self._written(name)
        made, done = name_text(f"CREATED {written}"), name_text(f"{written} DONE")
        self._stamp_names[name] = names = f'"identifier": {made}}}', f'"identifier": {done}}}'
        return names

    def _node(self, record: CallRecord, created: str, ended: str | None) -> str:
        kind = self._kinds.get((record.node_type, record.name)) or self._kind(record)
        facts = f'{{"identifier": "{self._session}-n{record.index}", {kind}, "stamp": '
        attributes = "" if record.attributes is None else f', "attributes": {record.attributes}'
        if ended is None:
            return f'{facts}{created}, "details": {{"internals": {{}}{attributes}}}, "parent": null}}'
        total = record.ended - record.started  # type: ignore[operator]
        return (
            f'{facts}{ended}, "details": {{"internals": {{"latency": {{"total_time": {total!r}}}}}{attributes}}}, '
            f'"parent": {facts}{created}, "details": {{"internals": {{}}}}, "parent": null}}}}'
        )

    def _kind(self, record: CallRecord) -> str:
        node_type, name = (name_text(self._written(text)) for text in (record.node_type, record.name))
        self._kinds[record.node_type, record.name] = kind = f'"node_type": {node_type}, "name": {name}'
        return kind

    def _key(self, node: str) -> str:
        """Return the member with the key of a node, or nothing if there is a secret in it."""
        self._keys[node] = key = f', "node": {name_text(node)}' if self._written(node) == node else ""
        return key

    def _edge(self, record: CallRecord, created: str, ended: str | None) -> str:
        is_sharing = record.is_sharing and self._shares_messages
        inputs, output = self._shared_texts(record) if is_sharing else (record.inputs, record.output)
        if inputs is None or output is None:
            inputs, output = ensure_texts(record, self._redactor)
        source = "null" if record.parent is None else f'"{self._session}-n{record.parent}"'
        facts = (
            f'{{"identifier": "{self._session}-e{record.index}", "source": {source}, '
            f'"target": "{self._session}-n{record.index}", "stamp": '
        )
        opened = f'{{{inputs}, "status": "Open", {NO_OUTPUT}, "reason": null, "abandoned": false}}'
        reason = "null" if record.reason is None else f'"{record.reason.value}"'
        optional = self._optional_members(record)
        if (messages := self._messages.take()) is not None:
            optional += f', "messages": {messages}'
        end = '"Completed"' if record.status is _COMPLETED else f'"{record.status.value}"'
        rest = f', "reason": {reason}, "abandoned": {"true" if record.abandoned else "false"}{optional}'
        if ended is None:
            return f'{facts}{created}, "details": {{{inputs}, "status": {end}, {output}{rest}}}, "parent": null}}'
        return (
            f'{facts}{ended}, "details": {{{inputs}, "status": {end}, {output}{rest}}}, '
            f'"parent": {facts}{created}, "details": {opened}, "parent": null}}}}'
        )

    def _shared_texts(self, record: CallRecord) -> tuple[str | None, str | None]:
        """Return the texts of a record that shares messages as they are written."""
        inputs, output = stored_inputs(record), stored_output(record)
        if inputs is None or output is None:
            whole = ensure_texts(record, self._redactor)
            inputs, output = inputs or whole[0], output or whole[1]
        return self._messages.written(inputs), self._messages.written(output)

    def _optional_members(self, record: CallRecord) -> str:
        """Return the members that are written only if they do not hold their default."""
        text = ""
        if record.node is not None:
            text = self._keys.get(record.node) or self._key(record.node)
        if (code := self._codes.member_of(record)) is not None:
            text += f', "code": {name_text(code)}'
        if record.changes is not None:
            text += f', "context": [{", ".join(map(change_text, record.changes))}]'
        if record.reuse is not None:
            text += f', "reuse": {name_text(self._written(record.reuse))}'
        if record.reads is not None:
            text += f', "reads": [{", ".join(read_text(*read) for read in record.reads.items())}]'
        if record.branch is not None:
            text += f', "branch": {list(record.branch)}'
        if record.attempt > 1:
            text += f', "attempt": {record.attempt}'
        if record.raised_by is not None:
            text += f', "raised_by": {list(record.raised_by)}'
        if record.policy is not None:
            text += policy_text(record.policy)
        if record.was_left is not None:
            text += f', "was_left": {"true" if record.was_left else "false"}'
        return text if record.timeout is None else f'{text}, "timeout": {float(record.timeout)!r}'


def policy_text(facts: PolicyFacts) -> str:
    """Return what the policies of a node have done with a call as further members of a JSON object."""
    defaults = PolicyFacts._field_defaults
    members = {name: value for name, value in facts._asdict().items() if value != defaults[name]}
    return f", {dumps(members)[1:-1]}" if members else ""


def _callers(records: Sequence[CallRecord]) -> Iterator[str]:
    """Yield the array of callers without its first bracket.

    Edges have them too. If one edge is damaged, it must still be known which calls it happened below.
    """
    if not records:
        yield "]"
        return
    callers: list[str] = ["null"] * (records[-1].index + 1)
    for record in records:
        if record.parent is not None:
            callers[record.index] = str(record.parent)
    for start in range(0, len(callers), CHUNK):
        yield ", " * (start > 0) + ", ".join(callers[start : start + CHUNK])
    yield "]"


def change_text(change: Change) -> str:
    """Return a change of the context as a JSON object."""
    types = "" if change.types is None else f', "types": {change.types}'
    return (
        f'{{"order": {change.order}, "key": {dumps(change.key)}, "value": {change.value or "null"}, '
        f'"form": "{change.form.value}", "deleted": {"true" if change.value is None else "false"}{types}}}'
    )


def read_text(key: str, read: Read) -> str:
    """Return a value that a call read from the context as a JSON object."""
    types = "" if read.types is None else f', "types": {read.types}'
    return (
        f'{{"key": {dumps(key)}, "depth": {read.depth}, "value": {read.value or "null"}, '
        f'"missing": {"true" if read.value is None else "false"}{types}}}'
    )


def parse_read(entry: Mapping[str, Any]) -> tuple[str, Read]:
    """Return what ``read_text`` wrote, from plain data."""
    types = dumps(entry["types"]) if "types" in entry else None
    return entry["key"], Read(None if entry["missing"] else dumps(entry["value"]), types, entry["depth"])


def _by_step(records: list[CallRecord], created: list[str], ended: list[str | None]) -> Iterator[str]:
    """Return the stamps in the order of their steps."""
    steps: list[int] = []
    stamps: list[str] = []
    for record, one, other in zip(records, created, ended, strict=True):
        steps.append(record.started_step)
        stamps.append(one)
        if record.ended_step is not None and other is not None:
            steps.append(record.ended_step)
            stamps.append(other)
    return iter(in_order(steps, stamps))


def encoded(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield the texts of a document as bytes, with checksums."""
    return with_checksums(_in_pieces(texts))


def _in_pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield texts as bytes, in pieces of at least ``PIECE`` bytes."""
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(parts).encode("ascii")
            parts, size = [], 0
    if parts:
        yield "".join(parts).encode("ascii")


def _in_chunks(texts: Iterable[str], separator: str = SEPARATOR) -> Iterator[str]:
    """Yield the texts, separated by commas, in pieces of ``CHUNK`` texts. Each piece begins on a line of its own."""
    texts = iter(texts)
    chunk = separator.join(islice(texts, CHUNK))
    while chunk:
        yield chunk
        chunk = separator.join(islice(texts, CHUNK))
        if chunk:
            yield SEPARATOR
