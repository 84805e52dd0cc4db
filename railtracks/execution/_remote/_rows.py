"""Records as rows that travel between a session and a worker. Their values are the texts: none is pickled again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from railtracks.state import CallRecord, Status
from railtracks.state._item_records import ItemRecord
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._loaded_record import LoadedRecord
from railtracks.state._serialization._record_text import ensure_texts, parse_members

Row = tuple[Any, ...]
_FIELDS = (
    "name", "node_type", "started_step", "started", "status", "ended_step", "ended", "reason", "abandoned", "node",
    "changes", "reuse", "attributes", "timeout", "branch", "reads", "was_left", "code", "attempt", "policy",
)  # fmt: skip


class LoadedItemRecord(LoadedRecord, ItemRecord):
    """The record of a call that a worker has made, of an item of a batch that keeps few records."""

    __slots__ = ()
    kept_as = LoadedRecord


def rows_of(records: Sequence[CallRecord], redactor: Redactor) -> list[Row]:
    """Return the rows of some records.

    Args:
        records: A call, and all below it that are to be sent, in the order of creation.
        redactor: The secrets that are known.
    """
    places = {record.index: place for place, record in enumerate(records)}
    rows: list[Row] = []
    for record in records:
        inputs, output = ensure_texts(record, redactor)
        parent = None if record.parent is None else places.get(record.parent)
        raised_by = tuple(places[each] for each in record.raised_by or () if each in places) or None
        rows.append((parent, inputs, output, raised_by, *(getattr(record, name) for name in _FIELDS)))
    return rows


def record_of(
    row: Row,
    index: int,
    parent: int | None,
    run: int,
    new_index: Callable[[int], int],
    kind: type[LoadedRecord] = LoadedRecord,
) -> LoadedRecord:
    """Return the record that a row describes. Its values are decoded when they are asked for.

    Args:
        row: The row.
        index: The index that the record gets.
        parent: The index of its caller.
        run: The index of the top-level call that it is below.
        new_index: Returns the index of the record that another row describes.
        kind: The class of the record.
    """
    _, inputs, output, raised_by, name, node_type, started_step, started, *rest = row
    record = kind(index, parent, run, name, node_type, (), {}, started_step, started)
    for field, value in zip(_FIELDS[4:], rest, strict=True):
        setattr(record, field, value)
    record.inputs, record.output = inputs, output
    del record.args, record.kwargs
    if record.status is Status.COMPLETED:
        del record.result
    elif record.status is Status.FAILED:
        record.exception = decode(parse_members(output)["output"])
    if raised_by is not None:
        record.raised_by = tuple(map(new_index, raised_by))
    return record


def records_of(rows: Iterable[Row], kind: type[LoadedRecord] = LoadedRecord) -> list[CallRecord]:
    """Return the records that rows describe, as those of a session whose only top-level call is the first one."""
    return [record_of(row, index, row[0], 0, int, kind) for index, row in enumerate(rows)]
