"""The spans of a session, from its beginning to its end. A session that is not traced has none."""

from __future__ import annotations

from railtracks._concurrency._kinds import is_kind
from railtracks._options import TRACE_VALUES
from railtracks.exceptions import RunSuspended
from railtracks.execution import Coordinator
from railtracks.state import ExecutionInfo


def begin_spans(coordinator: Coordinator, info: ExecutionInfo) -> None:
    """Begin the span of a session, and have a span for each of its calls.

    Args:
        coordinator: Runs the calls of the session.
        info: The session, before its first call.
    """
    from railtracks._telemetry._opening import open_spans  # here, as few sessions are traced

    clock, origin = coordinator.clock, coordinator.origin  # spans must not refer to the session
    values = coordinator.config.tracing == TRACE_VALUES
    spans = open_spans(info, values, lambda: clock() + origin, coordinator.log)
    if spans is not None:
        coordinator.call_log.trace(spans)


def enter_spans(coordinator: Coordinator) -> None:
    """Make the span of a session current, for its body."""
    if coordinator.call_log.spans is not None:
        coordinator.call_log.spans.enter()


def note_failure(coordinator: Coordinator, exc: BaseException | None) -> None:
    """Note what the body of a session has raised, or what keeps it from being entered, if that is a failure."""
    spans = coordinator.call_log.spans
    if spans is not None and is_kind(exc, Exception) and not is_kind(exc, RunSuspended):
        spans.note_body_failure(exc)


def abort_spans(coordinator: Coordinator, exc: BaseException) -> None:
    """End the span of a session that could not be entered, because of ``exc``. Idempotent."""
    note_failure(coordinator, exc)
    close_spans(coordinator, coordinator.now())


def close_spans(coordinator: Coordinator, time: float) -> None:
    """End the span of a session, in which nothing runs any more. Idempotent.

    Args:
        coordinator: Runs the calls of the session.
        time: When the session ended, in seconds since the epoch.
    """
    if coordinator.call_log.spans is not None:
        coordinator.call_log.spans.close(time, coordinator.state.entries)


def leave_spans(coordinator: Coordinator) -> None:
    """Make current again what was current before the body of a session, if this runs where it did. Idempotent."""
    if coordinator.call_log.spans is not None:
        coordinator.call_log.spans.leave()
