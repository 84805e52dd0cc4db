"""How the document is written: as text, piece by piece.

Building the objects of the document and turning them into JSON would take ten times as long as the calls took that
they tell of, and hold up every other thread while it does. So each call is written from a template, around the texts
that its record keeps. What is written is what ``_document.py`` declares; the tests read it back through that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from railtracks.state._document._graph import VERSION, overall
from railtracks.state._records import CallRecord, Change, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import NO_OUTPUT, dumps, ensure_texts, name_text

_COMPLETED = Status.COMPLETED
CHUNK = 256
"""Calls that are written at once."""
DENSE = 8
"""Steps per call of a run that count as dense; two would be a run alone in its session."""


class Writer:
    """Writes the records of one session.

    Args:
        session_id: Identifiers are made from it.
        origin: Seconds to add to a record's time to get seconds since the epoch.
        redactor: The secrets that the session knows.
    """

    def __init__(self, session_id: str, origin: float, redactor: Redactor) -> None:
        self._session = dumps(session_id)[1:-1]
        self._origin = origin
        self._redactor = redactor

    def document(
        self, facts: dict[str, str | float | None], records: Sequence[CallRecord], earlier: Sequence[CallRecord]
    ) -> Iterator[str]:
        """The whole document. ``facts``: the members that say which session it was."""
        head = {"version": VERSION, **facts, "status": overall(records).value, "calls": len(records)}
        yield dumps(head)[:-1]
        yield ', "runs": '
        yield from self.runs(records)
        if earlier:
            yield ', "earlier": '
            yield from self.runs(earlier)
        yield "}"

    def runs(self, records: Sequence[CallRecord]) -> Iterator[str]:
        """The list of runs."""
        members: dict[int, list[CallRecord]] = {}
        for record in records:
            members.setdefault(record.run, []).append(record)
        separator = "["
        for those in members.values():
            yield separator
            yield from self._run(those)
            separator = ", "
        yield "]" if members else "[]"

    def _run(self, records: list[CallRecord]) -> Iterator[str]:
        top = records[0]
        start, end = top.started + self._origin, "null" if top.ended is None else repr(top.ended + self._origin)
        yield (
            f'{{"name": {name_text(top.name)}, "run_id": "{self._session}-r{top.index}", '
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
        """The stamps of creation and of end."""
        origin = self._origin
        created: list[str] = []
        ended: list[str | None] = []
        for record in records:
            made, done = _stamp_names(record.name)
            created.append(f'{{"step": {record.started_step}, "time": {record.started + origin!r}, {made}')
            if record.ended is None:
                ended.append(None)
            else:
                if record.status is not _COMPLETED:
                    done = f'"identifier": {name_text(f"{record.name} {record.status.value.upper()}")}}}'
                ended.append(f'{{"step": {record.ended_step}, "time": {record.ended + origin!r}, {done}')
        return created, ended

    def _node(self, record: CallRecord, created: str, ended: str | None) -> str:
        facts = f'{{"identifier": "{self._session}-n{record.index}", {_kind(record.node_type, record.name)}, "stamp": '
        said = "" if record.attributes is None else f', "attributes": {record.attributes}'
        if ended is None:
            return f'{facts}{created}, "details": {{"internals": {{}}{said}}}, "parent": null}}'
        total = (record.ended + self._origin) - (record.started + self._origin)  # type: ignore[operator]
        return (
            f'{facts}{ended}, "details": {{"internals": {{"latency": {{"total_time": {total!r}}}}}{said}}}, '
            f'"parent": {facts}{created}, "details": {{"internals": {{}}}}, "parent": null}}}}'
        )

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
        end = '"Completed"' if record.status is _COMPLETED else f'"{record.status.value}"'
        rest = f', "reason": {reason}, "abandoned": {"true" if record.abandoned else "false"}{_more(record)}'
        if ended is None:
            return f'{facts}{created}, "details": {{{inputs}, "status": {end}, {output}{rest}}}, "parent": null}}'
        return (
            f'{facts}{ended}, "details": {{{inputs}, "status": {end}, {output}{rest}}}, '
            f'"parent": {facts}{created}, "details": {opened}, "parent": null}}}}'
        )


@lru_cache(maxsize=4096)
def _stamp_names(name: str) -> tuple[str, str]:
    """The ends of the stamps of calls that were made and have completed."""
    return f'"identifier": {name_text(f"CREATED {name}")}}}', f'"identifier": {name_text(f"{name} DONE")}}}'


@lru_cache(maxsize=4096)
def _kind(node_type: str, name: str) -> str:
    return f'"node_type": {name_text(node_type)}, "name": {name_text(name)}'


def _more(record: CallRecord) -> str:
    """What is written only if it says something."""
    text = "" if record.node is None else f', "node": {name_text(record.node)}'
    if record.changes is not None:
        text += f', "context": [{", ".join(map(change_text, record.changes))}]'
    return text if record.reuse is None else f'{text}, "reuse": {name_text(record.reuse)}'


def change_text(change: Change) -> str:
    """A change of the context as JSON."""
    return (
        f'{{"order": {change.order}, "key": {dumps(change.key)}, "value": {change.value or "null"}, '
        f'"form": "{change.form.value}", "deleted": {"true" if change.value is None else "false"}}}'
    )


def _by_step(records: list[CallRecord], created: list[str], ended: list[str | None]) -> Iterator[str]:
    """The stamps in their order. Where steps are dense there is no need to sort, which would hold up other threads."""
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


def _in_chunks(texts: Iterable[str]) -> Iterator[str]:
    texts = iter(texts)
    chunk = ", ".join(islice(texts, CHUNK))
    while chunk:
        yield chunk
        chunk = ", ".join(islice(texts, CHUNK))
        if chunk:
            yield ", "
