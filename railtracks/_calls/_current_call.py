"""``current_call``: what a node can know of its own call."""

from __future__ import annotations

from typing import final

import attrs

from railtracks._context_variable import current
from railtracks._identifiers import node_id, run_id
from railtracks.execution import Frame


@final
@attrs.frozen
class CurrentCall:
    """The call that the running code is in; made by ``rt.current_call()``."""

    session_id: str
    """The identifier of its session."""
    run_id: str
    """The identifier of the top-level call that it is part of, as on events and log records."""
    node_id: str
    """Its own identifier, as on events, log records, and in the saved document. It may change when a run is resumed."""
    parent_id: str | None
    """The identifier of the call that made it; None for a top-level call."""
    name: str
    """The name of its node."""
    attempt: int
    """How many times it has begun, this time included: more than 1 if it runs again in a run that was resumed."""
    deadline: float
    """When the ``timeout`` of its top-level call ends it, in seconds since the epoch, as ``rt.now()``. ``math.inf``
    without a limit. Timeouts of user code are not known here."""


def current_call() -> CurrentCall | None:
    """Return the call that the running code is in; None outside of calls.

    For logs, traces and keys of idempotent requests. It also works in worker threads, and in tasks that a node starts.
    """
    frame: Frame | None = current.get()
    if frame is None or frame.record is None or frame.run is None:
        return None
    session, record = frame.coordinator.session_id, frame.record
    top = frame.coordinator.state.entries[record.run]
    assert top is not None  # it runs, so it was not replayed
    outbox = frame.coordinator.outbox
    if outbox is not None:
        own, run, caller = outbox.identifiers_of(record)
    else:
        own, run = node_id(session, record.index), run_id(session, record.run)
        caller = None if record.parent is None else node_id(session, record.parent)
    return CurrentCall(
        session,
        run,
        own,
        caller,
        record.name,
        record.attempt,
        top.started + frame.run.timeout,
    )
