"""The end of a call that ran in a worker."""

from __future__ import annotations

import anyio

from railtracks.execution._home import CallFrame
from railtracks.execution._remote._arrival import Arrival

_PATIENCE = 1.0
"""Seconds for which a timeout is waited for that the worker has noticed first."""


def note_failure(frame: CallFrame, arrival: Arrival, exc: BaseException) -> None:
    """Note from which of the calls in the worker the exception of a call comes."""
    raised_by = arrival.raised_by
    if not raised_by:
        return
    coordinator, record = frame.coordinator, frame.record
    assert record is not None
    if record.is_item:
        record.raised_by = raised_by
    elif coordinator.recorder is not None:
        coordinator.recorder.failed_calls.set_found(exc, raised_by)
    first = coordinator.state.entry(raised_by[0])
    assert first is not None
    coordinator.call_log.note_raiser(exc, first)


async def wait_for_timeout() -> None:
    """Wait until the timeout that has ended the call in the worker has come here, too. Cancellation: passed on."""
    await anyio.sleep(_PATIENCE)
