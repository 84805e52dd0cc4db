"""The calls in which something went wrong first, out of all those that did not complete, and why they failed."""

from __future__ import annotations

from collections.abc import Sequence

from railtracks.state._records import CallRecord, Status, is_retried
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._views._texts import shown_error, shown_name


def failures_of(records: Sequence[CallRecord]) -> list[CallRecord]:
    """Return the calls in which an exception was raised, and not passed on from a call below.

    Attempts that were tried again are left out.
    """
    return [record for record in records if is_failure(record)]


def is_failure(record: CallRecord) -> bool:
    """Return whether an exception was raised in a call, and not passed on from a call below."""
    return record.status is Status.FAILED and not record.raised_by and not is_retried(record)


def shown_reason(record: CallRecord, children: Sequence[CallRecord], redactor: Redactor) -> str:
    """Return why a call has failed. The message of an exception that a call below raised is not repeated.

    Args:
        record: The call, which has an exception.
        children: The calls that it made.
        redactor: The secrets that are known.
    """
    assert record.exception is not None
    text = shown_error(record.exception, redactor)
    for below in children:
        if below.exception is not None and _has_raised(below, record, text, redactor):
            return f"{text.partition(':')[0]} (raised by {shown_name(below, redactor)})"
    return text


def _has_raised(below: CallRecord, record: CallRecord, text: str, redactor: Redactor) -> bool:
    """Return whether a call has failed with the exception of a call that it made, which is described by a text."""
    if record.raised_by is None:  # the session recorded nothing, or the state was written by an early release
        return below.exception is record.exception
    assert below.exception is not None
    return below.index in record.raised_by and shown_error(below.exception, redactor) == text


def cancelled_calls(records: Sequence[CallRecord]) -> list[CallRecord]:
    """Return the innermost calls that were cancelled: the cancellation reached no call below them."""
    above = {record.parent for record in records if record.status is Status.CANCELLED}
    return [record for record in records if record.status is Status.CANCELLED and record.index not in above]
