"""The calls in which something went wrong first, out of all those that did not complete."""

from __future__ import annotations

from collections.abc import Sequence

from railtracks.state._records import CallRecord, Status


def failures_of(records: Sequence[CallRecord]) -> list[CallRecord]:
    """Return the calls in which an exception was raised, and not passed on from a call below."""
    return [record for record in records if record.status is Status.FAILED and not record.raised_by]


def cancelled_calls(records: Sequence[CallRecord]) -> list[CallRecord]:
    """Return the innermost calls that were cancelled: the cancellation reached no call below them."""
    above = {record.parent for record in records if record.status is Status.CANCELLED}
    return [record for record in records if record.status is Status.CANCELLED and record.index not in above]
