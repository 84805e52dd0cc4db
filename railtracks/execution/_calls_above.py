"""The calls that a call is part of, also in the sessions around its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from railtracks.state import CallRecord
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks.execution._call_log import CallLog


def calls_above(record: CallRecord, state: RTState, log: CallLog) -> Iterator[CallRecord]:
    """Yield the calls above one, from its caller to the outermost call of the outermost session.

    Args:
        record: The call.
        state: The calls of its session.
        log: The log of its session, which knows the call that this was opened in.
    """
    caller = state.caller(record)
    while True:
        while caller is not None:
            yield caller
            caller = state.caller(caller)
        if log.outer is None:
            return
        log, index = log.outer
        state = log.calls
        caller = state.entry(index)
