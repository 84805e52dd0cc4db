"""A run in OTLP/JSON: one ExportTraceServiceRequest, which collectors of OpenTelemetry take.

It is the JSON mapping of the protobuf messages, in which integers of 64 bits are texts; but identifiers are hexadecimal
and not base64, and enums are numbers: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from railtracks import ExecutionInfo
from railtracks._telemetry._conventions import (
    SCOPE,
    Attribute,
    Attributes,
    SpanError,
    attributes_of_end,
    attributes_of_session,
    attributes_of_start,
    encodable,
    error_of,
    error_of_run,
    exception_event,
    operation_of,
    session_span_name,
    span_name,
    span_of_traceparent,
)
from railtracks.state import CallRecord
from railtracks.state._views._times import began_at

_INTERNAL, _CLIENT = 1, 3
_ERROR = 2


def otlp_request(info: ExecutionInfo) -> dict[str, Any]:
    """Return the spans of a run: one for the session, and one for each call.

    Their identifiers depend on the identifier and the beginning of the session alone. What has no end reaches to the
    latest moment on record.
    """
    spans = _Spans(info)
    scope_spans = [{"scope": {"name": SCOPE}, "spans": [spans.of_session(), *map(spans.of_call, info.records)]}]
    name = encodable(info._redactor.redact_name(info.flow_name or info.session_name or SCOPE))
    resource = {"attributes": _key_values({"service.name": name})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": scope_spans}]}


class _Spans:
    """Makes the spans of one run."""

    def __init__(self, info: ExecutionInfo) -> None:
        self._info = info
        self._redactor = info._redactor
        self._calls = {record.index: record for record in info.records}
        starts = [record.started for record in info.records]
        ends = [record.ended for record in info.records if record.ended is not None]
        self._latest = max([*starts, *ends], default=info.start_time or 0.0)
        self._started = began_at(info.start_time, info.records)
        self._trace_id = self._digest("", 16)

    def _digest(self, part: str, size: int) -> str:
        text = f"{self._info.session_id}\n{self._info.start_time!r}\n{part}"
        return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()

    def _span_id(self, index: int | None) -> str:
        return self._digest("session" if index is None else str(index), 8)

    def of_session(self) -> dict[str, Any]:
        """Return the span of the session."""
        info, redactor = self._info, self._redactor
        span = self._span(
            None,
            session_span_name(info.session_name, info.flow_name, redactor),
            self._started,
            info.end_time,
            attributes_of_session(info.session_id, info.session_name, info.flow_name, redactor),
            error_of_run(info.records, redactor),
        )
        if (live := span_of_traceparent(info.traceparent)) is not None:
            label = _key_values({"railtracks.link": "live"})
            span["links"] = [{"traceId": live.trace_id, "spanId": live.span_id, "attributes": label}]
        return span

    def of_call(self, record: CallRecord) -> dict[str, Any]:
        """Return the span of a call."""
        redactor = self._redactor
        caller = None if record.parent is None else self._calls.get(record.parent)
        operation = operation_of(record, caller, record.node)
        attributes = attributes_of_start(record, operation, record.node, self._info.session_id, redactor)
        span = self._span(
            record.index,
            span_name(record, operation, redactor),
            record.started,
            record.ended,
            {**attributes, **attributes_of_end(record)},
            error_of(record, redactor),
            _CLIENT if operation == "chat" else _INTERNAL,
        )
        span["parentSpanId"] = self._span_id(None if caller is None else caller.index)
        if record.exception is not None:
            described = _key_values(exception_event(record.exception, redactor, has_traceback=True))
            span["events"] = [{"timeUnixNano": span["endTimeUnixNano"], "name": "exception", "attributes": described}]
        return span

    def _span(
        self,
        index: int | None,
        name: str,
        started: float,
        ended: float | None,
        attributes: Attributes,
        error: SpanError | None,
        kind: int = _INTERNAL,
    ) -> dict[str, Any]:
        status = {} if error is None else {"code": _ERROR, "message": error.description}
        also: Attributes = {} if error is None else {"error.type": error.type}
        return {
            "traceId": self._trace_id,
            "spanId": self._span_id(index),
            "name": name,
            "kind": kind,
            "startTimeUnixNano": _nanoseconds(started),
            "endTimeUnixNano": _nanoseconds(max(self._latest, started) if ended is None else ended),
            "attributes": _key_values({**attributes, **also}),
            "status": status,
        }


def _nanoseconds(time: float) -> str:
    return str(round(time * 1e9))


def _key_values(attributes: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any_value(value)} for name, value in attributes.items()]


def _any_value(value: Attribute) -> dict[str, Any]:
    """Return a value as the message AnyValue."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"arrayValue": {"values": [_any_value(each) for each in value]}}
