"""What became of the items of batches and streams of which few records are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from railtracks._identifiers import node_id
from railtracks._wording import counted
from railtracks.state._batch_summary import BATCH
from railtracks.state._records import CallRecord, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import loads
from railtracks.state._serialization._shown_data import shorten

_MAX_TEXT = 200
"""The number of characters of a failure that a tree shows."""


class ItemFailure(NamedTuple):
    """An item of a batch or stream whose call has failed."""

    item: int
    """The place of the item among all items, from 0."""
    error: str
    """The call and its exception, such as ``parse(0): ZeroDivisionError: division by zero``, without secrets. Long
    texts are cut."""


class BatchCounts(NamedTuple):
    """What became of the items of an ``rt.call_batch`` or ``rt.call_stream`` that does not keep all records.

    While it runs, this may be a quarter of a second old. In a run that was resumed, the items that an earlier session
    had completed count as completed.
    """

    node_id: str
    """The identifier of the call that stands for the batch."""
    name: str
    """The name of that call, such as ``batch of parse``."""
    status: Status
    """The status of that call. It may have completed although items failed, with ``return_exceptions=True``."""
    items: int
    """How many items have ended."""
    completed: int
    """How many have completed."""
    failed: int
    """How many have failed."""
    cancelled: int
    """How many were cancelled."""
    not_recorded: int
    """How many calls are not on record: those of the items, and those below them."""
    mean_seconds: float
    """How long the calls took on average of the items that have completed and are not on record; 0 without any."""
    max_seconds: float
    """How long the longest of them took."""
    failures: tuple[ItemFailure, ...]
    """The first failures, at most ten, in the order in which they came."""


def batches_of(records: Iterable[CallRecord], session_id: str) -> Iterator[BatchCounts]:
    """Yield the batches that do not keep all records, in the order of creation."""
    for record in records:
        if (batch := batch_data(record)) is not None:
            ended, seconds = batch["ended"], batch["seconds"]
            yield BatchCounts(
                node_id=node_id(session_id, record.index),
                name=record.name,
                status=record.status,
                items=batch["items"],
                completed=ended.get(Status.COMPLETED.value, 0),
                failed=ended.get(Status.FAILED.value, 0),
                cancelled=ended.get(Status.CANCELLED.value, 0),
                not_recorded=batch["left_out"],
                mean_seconds=seconds["mean"],
                max_seconds=seconds["max"],
                failures=tuple(ItemFailure(each["item"], each["error"]) for each in batch["failures"]),
            )


def batch_data(record: CallRecord) -> Mapping[str, Any] | None:
    """Return what the call that stands for a batch says of its items; None for any other call."""
    if record.attributes is None or BATCH not in record.attributes:
        return None
    found: Mapping[str, Any] | None = loads(record.attributes).get(BATCH)
    return found


def has_failed_items(record: CallRecord) -> bool:
    """Return whether an item of a batch has failed; False for any other call."""
    batch = batch_data(record)
    return batch is not None and batch["ended"].get(Status.FAILED.value, 0) > 0


def shown_batch(batch: Mapping[str, Any]) -> str:
    """Return in words how many items there are, and how they have ended."""
    others = [f"{number} {status.lower()}" for status, number in batch["ended"].items() if status != "Completed"]
    items = ", ".join([counted(batch["items"], "item"), *others])
    return f"  {items}; {counted(batch['left_out'], 'call')} not on record" if batch["left_out"] else f"  {items}"


def shown_failures(batch: Mapping[str, Any], redactor: Redactor) -> list[str]:
    """Return a line for each failure that is described and whose call is not on record, and how many more failed."""
    on_record = batch["kept"]
    failures = [
        each for each in batch["failures"] if not any(start <= each["item"] < stop for start, stop in on_record)
    ]
    lines = [
        f"item {each['item']}: {shorten(redactor.redact_free_text(each['error']), _MAX_TEXT)}" for each in failures
    ]
    more = batch["ended"].get(Status.FAILED.value, 0) - len(batch["failures"])
    return [*lines, f"… and {counted(more, 'more failed item')}"] if lines and more > 0 else lines
