"""The live spans of a session: one for the session, and one for each call below it.

A span is current in the context of OpenTelemetry while the code of its call runs, just as the frame of the call is. The
two travel together: to the tasks and threads that code of users starts, and to the worker threads of sync nodes.
Where the library itself takes a frame elsewhere, as to the task of ``start_soon`` or to the event loop thread of a
session in synchronous code, the context of OpenTelemetry does not follow. So each context names the call that it
belongs to. A call that finds that of its caller takes it, with whatever span code of users has begun there; any other
call takes the context that its caller's code began with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, TraceFlags, Tracer

from railtracks._logging import SessionLog
from railtracks._telemetry._conventions import (
    MAX_VALUE,
    Attributes,
    attributes_of_session,
    attributes_of_start,
    code_attributes,
    encodable,
    error_of_exception,
    error_of_run,
    operation_of,
    session_span_name,
    span_name,
    span_of_traceparent,
)
from railtracks._telemetry._ending import describe_end, nanoseconds, set_error
from railtracks._telemetry._guard import SpanGuard
from railtracks._telemetry._owners import Owner, TracedSession, context_of_new_session, owned_context, owner_of
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, ExecutionInfo
from railtracks.state._records import is_reused
from railtracks.state._serialization._shown_arguments import shown_arguments


@attrs.frozen
class _OpenSpan:
    """The span of a call that runs.

    Args:
        record: The call.
        span: The span.
        context: What is current while its code runs.
        before: What was current before.
    """

    record: CallRecord
    span: Span
    context: Context
    before: Context


class SessionSpans:
    """The spans of one session.

    Its life: made when the session begins; ``enter`` and ``leave`` around its body; ``close`` when nothing runs any
    more. All times are in seconds since the epoch. An error of a span processor is logged once. No more spans are made
    then; those that have begun are ended.

    Args:
        tracer: Makes the spans.
        info: The session, before its first call. It is not kept.
        values: Whether spans get arguments, results and broadcast items.
        now: Returns the time. It must not refer to the session.
        log: Its log.
    """

    def __init__(
        self, tracer: Tracer, info: ExecutionInfo, values: bool, now: Callable[[], float], log: SessionLog
    ) -> None:
        assert info.start_time is not None
        redactor = info._redactor
        self._tracer = tracer
        self._session_id = info.session_id
        self._values = values
        self._redactor = redactor
        self._now = now
        self._guard = SpanGuard(log)
        self._is_closed = False
        self._open: dict[int, _OpenSpan] = {}  # by the index of the call
        self._last_failure: BaseException | None = None
        self._body_failure: BaseException | None = None
        self._is_entered = False  # while the body runs
        around = context_of_new_session()
        self._traced = TracedSession(around)
        self._names = info.session_name, info.flow_name
        self._redacted_at = redactor.revision
        self._span: Span = tracer.start_span(
            session_span_name(*self._names, redactor),
            context=around,
            attributes=attributes_of_session(info.session_id, *self._names, redactor),
            start_time=nanoseconds(info.start_time),
        )
        self._context: Context = owned_context(Owner(self._traced, None, self._span), around)

    @property
    def traceparent(self) -> str | None:
        """The span of the session, as the W3C header ``traceparent`` names it; None if the tracer makes none."""
        where = self._span.get_span_context()
        if not where.is_valid:
            return None
        return f"00-{where.trace_id:032x}-{where.span_id:016x}-{where.trace_flags:02x}"

    # ---- the session

    def enter(self) -> None:
        """Make the span of the session current, for its body."""
        self._is_entered = True
        context.attach(self._context)

    def leave(self) -> None:
        """Make current again what was current before the body, if this runs where it did. Idempotent."""
        owner = owner_of(context.get_current())
        # It may name a call whose end has not restored what was current before it, as the stack was full.
        if self._is_entered and owner is not None and owner.session is self._traced:
            context.attach(self._traced.before)
        self._is_entered = False

    def link(self, traceparent: str) -> None:
        """Link the span of the session to that of the session that it resumes. Thread-safe.

        Args:
            traceparent: What is on record of that; ignored if it is damaged.
        """
        found = span_of_traceparent(traceparent)
        if found is not None:
            trace_id, span_id, flags = (int(part, 16) for part in found)
            earlier = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
            self._guard.run(self._span.add_link, earlier, {"railtracks.link": "resumes"})

    def note_body_failure(self, exc: BaseException) -> None:
        """Note what the body of the session has raised."""
        self._body_failure = exc

    def close(self, time: float, records: Sequence[CallRecord | None]) -> None:
        """End the span of the session, when nothing runs any more. Idempotent.

        Args:
            time: When the session ended.
            records: Its calls; None in place of those below replayed ones.
        """
        if self._is_closed:
            return
        for each in list(self._open.values()):  # Ctrl-C, or a full stack, has kept them from being ended
            self._end(each.span, each.record, each.record.ended or time)
        self._guard.describe(self._describe_session, records)
        self._guard.run(self._span.end, nanoseconds(time))
        self._is_closed = self._traced.is_over = True
        self._open.clear()
        self._last_failure = self._body_failure = None

    def _describe_session(self, records: Sequence[CallRecord | None]) -> None:
        redactor = self._redactor
        if redactor.revision != self._redacted_at:  # its names may hold a secret that was not known then
            self._span.update_name(session_span_name(*self._names, redactor))
            self._span.set_attributes(attributes_of_session(self._session_id, *self._names, redactor))
        error = error_of_run(records, redactor)
        if error is None and self._body_failure is not None:
            self._span.set_status(StatusCode.ERROR)  # at least, if its code does not let it be described
            error = error_of_exception(self._body_failure, redactor)
        if error is not None:
            set_error(self._span, error)

    # ---- its calls

    def on_created(self, record: CallRecord, caller: CallRecord | None, node: FunctionNode[..., Any] | None) -> None:
        """Begin the span of a call, and make it current. One that is replayed gets a span of no length.

        Args:
            record: The call, which is about to run.
            caller: The call that made it.
            node: What it runs; None if it has run in a worker.
        """
        if self._makes_more:
            self._guard.run(self._begin, record, caller, node)

    def _begin(self, record: CallRecord, caller: CallRecord | None, node: FunctionNode[..., Any] | None) -> None:
        around = self._context_of_caller(record.parent)
        reused = is_reused(record)
        time = self._now() if reused else record.started
        key = record.node or (None if node is None else node.key)
        operation = operation_of(record, caller, key)
        span = self._start(record, operation, key, around, time, {} if node is None else code_attributes(node))
        if reused:
            self._end(span, record, time)
            return
        before = context.get_current()
        own = owned_context(Owner(self._traced, record.index, span), around)
        self._open[record.index] = _OpenSpan(record, span, own, before)
        context.attach(own)

    def _start(
        self, record: CallRecord, operation: str | None, key: str | None, around: Context, time: float, *more: Any
    ) -> Span:
        attributes = attributes_of_start(record, operation, key, self._session_id, self._redactor)
        for each in more:
            attributes.update(each)
        return self._tracer.start_span(
            span_name(record, operation, self._redactor),
            context=around,
            kind=SpanKind.CLIENT if operation == "chat" else SpanKind.INTERNAL,
            attributes=attributes,
            start_time=nanoseconds(time),
        )

    def on_ended(self, record: CallRecord, caller: CallRecord | None) -> None:
        """End the span of a call, and make current again what was current before.

        Args:
            record: The call, which has ended.
            caller: The call that made it.
        """
        if is_reused(record):
            return
        opened = self._open.get(record.index)
        if opened is not None and self._is_restored_by(record.index):
            context.attach(opened.before)
        if opened is not None:
            self._end(opened.span, record, record.ended or record.started)
        elif self._makes_more:
            self._guard.run(self._add_ended, record, caller)

    def _is_restored_by(self, index: int) -> bool:
        """Return whether a call that has ended makes current again here what was current before it.

        Elsewhere it is ended by the garbage collector, or with the session, and what is current there is not its own.
        But if the stack was full, calls below it may not have restored what was current before them.
        """
        owner = owner_of(context.get_current())
        if owner is None or owner.session is not self._traced or owner.index is None or owner.index < index:
            return False
        below = self._open.get(owner.index)
        return below is None or below.record.ended is not None

    def _add_ended(self, record: CallRecord, caller: CallRecord | None) -> None:
        """Make the span of a call in which no code ran: it opened a session, or has ended before its code began."""
        assert record.ended is not None
        around = self._context_of_caller(record.parent)
        operation = operation_of(record, caller, record.node)
        self._end(self._start(record, operation, record.node, around, record.started), record, record.ended)

    def _end(self, span: Span, record: CallRecord, time: float) -> None:
        """End the span of a call. If the stack is full, that is left to the end of the session."""
        exc = record.exception
        # The traceback is where the exception was raised, and at the top-level call.
        has_traceback = exc is not self._last_failure or record.parent is None
        if exc is not None and span.is_recording():
            self._last_failure = exc
        runs_code = self._values or exc is not None
        describe = self._guard.describe if runs_code else self._guard.run
        is_done = describe(
            describe_end, span, record, time, self._redactor, self._values, has_traceback
        ) and self._guard.run(span.end, nanoseconds(time))
        if is_done:
            self._open.pop(record.index, None)

    def on_broadcast(self, record: CallRecord | None, item: Any, time: float) -> None:
        """Add the event of a broadcast to the span of the call that made it; to that of the session outside of calls.

        Args:
            record: The call.
            item: What was broadcast.
            time: When.
        """
        if not self._is_closed:
            add = self._guard.describe if self._values else self._guard.run
            add(self._add_broadcast, record, item, time)

    def _add_broadcast(self, record: CallRecord | None, item: Any, time: float) -> None:
        opened = None if record is None else self._open.get(record.index)
        span = self._span if opened is None else opened.span
        found: Attributes = {}
        if self._values and span.is_recording():
            found["railtracks.item"] = encodable(shown_arguments((item,), {}, self._redactor, (), MAX_VALUE))
        span.add_event("railtracks.broadcast", found, nanoseconds(time))

    # ---- internals

    @property
    def _makes_more(self) -> bool:
        return not self._guard.has_failed and not self._is_closed

    def _context_of_caller(self, index: int | None) -> Context:
        """Return the context in which a call is made: see above."""
        here = context.get_current()
        owner = owner_of(here)
        if owner is not None and owner.session is self._traced and owner.index == index:
            return here
        opened = None if index is None else self._open.get(index)
        return self._context if opened is None else opened.context
