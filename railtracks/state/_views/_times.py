"""When a run began, and how long a call took by itself."""

from __future__ import annotations

from collections.abc import Sequence

from railtracks.state._records import CallRecord, is_reused


def began_at(start_time: float | None, records: Sequence[CallRecord]) -> float:
    """Return when a run began, in seconds since the epoch.

    Args:
        start_time: What is on record of it. None: it began with its first call.
        records: Its calls.
    """
    return min((record.started for record in records), default=0.0) if start_time is None else start_time


def ran_since(record: CallRecord) -> float:
    """Return when a call began to run, after it had waited for its limits, in seconds since the epoch."""
    return record.started if record.policy is None else record.started + record.policy.waited


def ran_seconds(record: CallRecord) -> float:
    """Return how long a call that has ended ran, without the time in which it waited for its limits."""
    assert record.ended is not None
    return max(0.0, record.ended - ran_since(record))


def own_seconds(record: CallRecord, children: Sequence[CallRecord]) -> float:
    """Return the seconds in which a call that has ended ran, and none of the calls that it made ran or waited.

    Reused calls ran in an earlier attempt, and took none of the time of a call that ran in this one.
    """
    assert record.ended is not None
    ran = [child for child in children if is_reused(record) or not is_reused(child)]
    return ran_seconds(record) - _seconds_covered(ran, record.ended)


def _seconds_covered(records: Sequence[CallRecord], end: float) -> float:
    """Return the seconds in which at least one of the calls was running; those still open count until ``end``."""
    covered, until = 0.0, float("-inf")
    for record in sorted(records, key=lambda each: each.started):
        ended = end if record.ended is None else min(record.ended, end)
        covered += max(0.0, ended - max(until, record.started))
        until = max(until, ended)
    return covered
