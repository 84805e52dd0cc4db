"""What a live span gets when its call, or its session, ends."""

from __future__ import annotations

from opentelemetry.trace import Span, StatusCode

from railtracks._telemetry._conventions import (
    SpanError,
    attributes_of_end,
    error_of,
    exception_event,
    values_of,
)
from railtracks.state import CallRecord
from railtracks.state._redaction._redactor import Redactor


def describe_end(
    span: Span, record: CallRecord, time: float, redactor: Redactor, values: bool, has_traceback: bool
) -> None:
    """Give the span of a call what is known at its end, unless it is not sampled.

    Args:
        span: The span.
        record: The call.
        time: When it ended, in seconds since the epoch.
        redactor: The secrets that the session knows.
        values: Whether the span gets the arguments and the result.
        has_traceback: Whether the event of its exception, if it has failed, has the traceback.
    """
    if not span.is_recording():
        return
    span.set_attributes(attributes_of_end(record, values))
    if record.exception is not None:
        span.set_status(StatusCode.ERROR)  # at least, if its code does not let it be described
    if values:
        span.set_attributes(values_of(record, redactor))
    error = error_of(record, redactor)
    if error is not None:
        set_error(span, error)
    if record.exception is not None:
        event = exception_event(record.exception, redactor, has_traceback)
        span.add_event("exception", event, nanoseconds(time))


def set_error(span: Span, error: SpanError) -> None:
    """Give a span the status ERROR."""
    span.set_attribute("error.type", error.type)
    span.set_status(StatusCode.ERROR, error.description)


def nanoseconds(time: float) -> int:
    """Return a time in seconds as spans have it."""
    return round(time * 1e9)
