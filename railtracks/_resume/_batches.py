"""What the attempts of a run know of the items of one batch."""

from __future__ import annotations

from collections.abc import Iterable

from railtracks.state._batch_summary import BATCH, BatchSummary
from railtracks.state._records import CallRecord
from railtracks.state._serialization._record_text import loads


def furthest_batch(records: Iterable[CallRecord]) -> tuple[BatchSummary, CallRecord | None]:
    """Return what is known of a batch from the attempt that has most of its items done, and the record of that.

    Args:
        records: The records of the call of the batch, in several attempts.
    """
    best, furthest = BatchSummary(), None
    for record in records:
        if record.attributes is not None and BATCH in record.attributes:
            known = BatchSummary.of(loads(record.attributes).get(BATCH))
            if known.done.count + known.kept.count > best.done.count + best.kept.count:
                best, furthest = known, record
    return best, furthest
