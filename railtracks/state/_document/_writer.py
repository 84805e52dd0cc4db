"""How the document is written: as text, in pieces.

Building the objects of the document and encoding them would take ten times as long as the recorded calls took, and
hold up every other thread meanwhile. So each call is written from a template, around the texts that its record keeps.
``_graph.py`` declares what is written. ``tests/state/test_document.py`` compares the two, and the journal with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from railtracks.state._records import CallRecord, Change, Status, aggregate_status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import NO_OUTPUT, dumps, ensure_texts, facts_text, name_text

VERSION = 4
_COMPLETED = Status.COMPLETED
DOCUMENT_BEGINS = b'{"version": '
CHUNK = 256
"""The number of calls that are written at once."""
PIECE = 1 << 16
"""The number of bytes that are written to disk at once, at least."""
DENSE = 8
"""The steps per call up to which a run counts as dense. It is two for a run that is alone in its session."""


class Writer:
    """Writes the records of one session as a document.

    Args:
        session_id: The session, from which the identifiers are made.
        origin: Seconds to add to a record's time to get seconds since the epoch.
        redactor: The secrets that the session knows.
    """

    def __init__(self, session_id: str, origin: float, redactor: Redactor) -> None:
        self._session = dumps(session_id)[1:-1]
        self._origin = origin
        self._redactor = redactor
        self._written = redactor.redact_name

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
        yield f'{{"version": {VERSION}, {facts_text(facts)}, "status": "{status}", "calls": {len(records)}'
        yield ', "runs": '
        yield from self.runs(records)
        if earlier:
            yield ', "earlier": '
            yield from self.runs(earlier)
        yield "}"

    def runs(self, records: Sequence[CallRecord]) -> Iterator[str]:
        """Yield the array of runs."""
        members: dict[int, list[CallRecord]] = {}
        for record in records:
            members.setdefault(record.run, []).append(record)
        separator = "["
        for run in members.values():
            yield separator
            yield from self._run(run)
            separator = ", "
        yield "]" if members else "[]"

    def _run(self, records: list[CallRecord]) -> Iterator[str]:
        top = records[0]
        start, end = top.started + self._origin, "null" if top.ended is None else repr(top.ended + self._origin)
        yield (
            f'{{"name": {name_text(self._written(top.name))}, "run_id": "{self._session}-r{top.index}", '
            f'"status": "{top.status.value}", "start_time": {start!r}, "end_time": {end}, "nodes": ['
        )
        created, ended = self._stamps(records)
        yield from _in_chunks(map(self._node, records, created, ended))
        yield '], "edges": ['
        yield from _in_chunks(map(self._edge, records, created, ended))
        yield '], "steps": ['
        yield from _in_chunks(_by_step(records, created, ended))
        yield "]}"

    def _stamps(self, records: list[CallRecord]) -> tuple[list[str], list[str | None]]:
        """Return the stamps of creation and those of the end, each as text."""
        origin, written = self._origin, self._written
        created: list[str] = []
        ended: list[str | None] = []
        for record in records:
            name = written(record.name)
            made, done = _stamp_names(name)
            created.append(f'{{"step": {record.started_step}, "time": {record.started + origin!r}, {made}')
            if record.ended is None:
                ended.append(None)
            else:
                if record.status is not _COMPLETED:
                    done = f'"identifier": {name_text(f"{name} {record.status.value.upper()}")}}}'
                ended.append(f'{{"step": {record.ended_step}, "time": {record.ended + origin!r}, {done}')
        return created, ended

    def _node(self, record: CallRecord, created: str, ended: str | None) -> str:
        facts = f'{{"identifier": "{self._session}-n{record.index}", {self._kind(record)}, "stamp": '
        attributes = "" if record.attributes is None else f', "attributes": {record.attributes}'
        if ended is None:
            return f'{facts}{created}, "details": {{"internals": {{}}{attributes}}}, "parent": null}}'
        total = (record.ended + self._origin) - (record.started + self._origin)  # type: ignore[operator]
        return (
            f'{facts}{ended}, "details": {{"internals": {{"latency": {{"total_time": {total!r}}}}}{attributes}}}, '
            f'"parent": {facts}{created}, "details": {{"internals": {{}}}}, "parent": null}}}}'
        )

    def _kind(self, record: CallRecord) -> str:
        return _kind(self._written(record.node_type), self._written(record.name))

    def _edge(self, record: CallRecord, created: str, ended: str | None) -> str:
        inputs, output = record.inputs, record.output
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
        end = '"Completed"' if record.status is _COMPLETED else f'"{record.status.value}"'
        rest = f', "reason": {reason}, "abandoned": {"true" if record.abandoned else "false"}{optional}'
        if ended is None:
            return f'{facts}{created}, "details": {{{inputs}, "status": {end}, {output}{rest}}}, "parent": null}}'
        return (
            f'{facts}{ended}, "details": {{{inputs}, "status": {end}, {output}{rest}}}, '
            f'"parent": {facts}{created}, "details": {opened}, "parent": null}}}}'
        )

    def _optional_members(self, record: CallRecord) -> str:
        """Return the members that are written only if they do not hold their default."""
        text = ""
        if record.node is not None and self._written(record.node) == record.node:
            text = f', "node": {name_text(record.node)}'
        if record.changes is not None:
            text += f', "context": [{", ".join(map(change_text, record.changes))}]'
        if record.reuse is not None:
            text += f', "reuse": {name_text(self._written(record.reuse))}'
        return text if record.timeout is None else f'{text}, "timeout": {float(record.timeout)!r}'


@lru_cache(maxsize=4096)
def _stamp_names(name: str) -> tuple[str, str]:
    """Return the last members of the stamps of a call: for its creation, and for its completion."""
    return f'"identifier": {name_text(f"CREATED {name}")}}}', f'"identifier": {name_text(f"{name} DONE")}}}'


@lru_cache(maxsize=4096)
def _kind(node_type: str, name: str) -> str:
    return f'"node_type": {name_text(node_type)}, "name": {name_text(name)}'


def change_text(change: Change) -> str:
    """Return a change of the context as a JSON object."""
    types = "" if change.types is None else f', "types": {change.types}'
    return (
        f'{{"order": {change.order}, "key": {dumps(change.key)}, "value": {change.value or "null"}, '
        f'"form": "{change.form.value}", "deleted": {"true" if change.value is None else "false"}{types}}}'
    )


def _by_step(records: list[CallRecord], created: list[str], ended: list[str | None]) -> Iterator[str]:
    """Return the stamps in the order of their steps.

    Dense steps are put in place and not sorted, because sorting many of them would hold up other threads.
    """
    steps = [record.started_step for record in records]
    steps += [record.ended_step for record in records if record.ended_step is not None]
    first, last = min(steps), max(steps)
    if last - first > DENSE * len(records):
        stamped = [(record.started_step, text) for record, text in zip(records, created, strict=True)]
        stamped += [(r.ended_step, t) for r, t in zip(records, ended, strict=True) if r.ended_step is not None and t]
        return (text for _, text in sorted(stamped))
    stamps: list[str | None] = [None] * (last - first + 1)
    for record, one, other in zip(records, created, ended, strict=True):
        stamps[record.started_step - first] = one
        if record.ended_step is not None:
            stamps[record.ended_step - first] = other
    return (stamp for stamp in stamps if stamp is not None)


def encoded(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield the texts of a document as bytes, in pieces of at least ``PIECE`` bytes."""
    parts: list[str] = []
    size = 0
    for text in texts:
        parts.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(parts).encode("ascii")
            parts, size = [], 0
    yield "".join(parts).encode("ascii")


def _in_chunks(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts, separated by commas, in pieces of ``CHUNK`` texts."""
    texts = iter(texts)
    chunk = ", ".join(islice(texts, CHUNK))
    while chunk:
        yield chunk
        chunk = ", ".join(islice(texts, CHUNK))
        if chunk:
            yield ", "
