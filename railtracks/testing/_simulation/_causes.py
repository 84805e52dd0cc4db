"""What has caused the cancellation of a call: the failure of another call, or the end of a timeout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from railtracks._test_probe import index_of, is_fatal
from railtracks.state import CallFailed, Reason
from railtracks.testing._simulation._observed import CallKey, ObservedCall

Calls = Mapping[CallKey, ObservedCall]


def cause_of(call: CallKey, reason: Reason, calls: Calls, failures: Iterable[CallFailed], end_on_error: bool) -> str:
    """Return the cause in words, such as "since s0.2 charge failed"; "" if it is not known.

    Args:
        call: The call that was cancelled.
        reason: What is on record.
        calls: All calls so far.
        failures: The events of calls that failed, in order.
        end_on_error: Whether any error ends the session.
    """
    if call not in calls:
        return ""
    cause: CallKey | None = None
    if reason in (Reason.TIMEOUT, Reason.NODE_TIMEOUT):
        above = [each for each in _with_callers(call, calls) if each[0] == call[0]]
        late = (
            above[-1:] if reason is Reason.TIMEOUT else [each for each in above if _is_late(calls[each], calls[call])]
        )
        return f"since the timeout of {_named(late[0], calls)} ended" if late and late[0] != call else ""
    if reason is Reason.END_ON_ERROR:
        ending = (each for each in failures if each.session_id == call[0] and not each.is_retried)
        found = next((each for each in ending if end_on_error or is_fatal(each.exception)), None)
        cause = None if found is None else (call[0], index_of(found.node_id))
    elif reason is Reason.BATCH or (reason is Reason.OUTSIDE and calls[call].by_sibling):
        cause = _failed_sibling(call, calls)
    return "" if cause is None or cause not in calls or cause == call else f"since {_named(cause, calls)} failed"


def _named(call: CallKey, calls: Calls) -> str:
    return f"{call[0]}.{call[1]} {calls[call].name}"


def _with_callers(call: CallKey, calls: Calls) -> Iterator[CallKey]:
    """Yield a call, the one that made it, and so on."""
    above: CallKey | None = call
    while above is not None and above in calls:
        yield above
        above = calls[above].caller


def _is_late(above: ObservedCall, cancelled: ObservedCall) -> bool:
    """Return whether the timeout of a node was over when the call was cancelled."""
    seconds = None if above.policies is None else above.policies.timeout
    return seconds is not None and cancelled.time >= above.began + seconds - 1e-9


def _failed_sibling(call: CallKey, calls: Calls) -> CallKey | None:
    """Return the first call that failed when this one was cancelled, beside it or beside a call that it is part of."""
    time = calls[call].time
    for above in _with_callers(call, calls):
        one = calls[above]
        beside = [
            key
            for key, other in calls.items()
            if other.outcome == "raised" and other.time == time and other.caller == one.caller
            and other.task is not one.task
        ]  # fmt: skip
        if beside:
            return min(beside, key=lambda key: calls[key].order)
    return None
