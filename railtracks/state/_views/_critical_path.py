"""The critical path: the calls that a session waited for, one after the other, from its end back to its beginning."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from railtracks.state._call_tree import CallTree
from railtracks.state._records import CallRecord, is_reused
from railtracks.state._views._times import ran_since


@attrs.frozen
class PathStep:
    """A call on the critical path.

    Attributes:
        record: The record of the call.
        seconds: How long the session waited for what the call itself did, and not for a call below it.
    """

    record: CallRecord
    seconds: float


def critical_path(records: Sequence[CallRecord]) -> tuple[PathStep, ...]:
    """Return the calls that the duration of a session consists of, in the order in which they began.

    Go back in time from the end of each call on the path: it had waited last for the call below it that ended last, and
    before that one began for the one that had ended last then, and so on. What remains is the call's own time. Calls
    that ran beside one on the path do not count: making them faster would not end the session earlier. Neither does the
    time in which a call waited for its limits.

    Args:
        records: The calls of a session. Those that have not ended are left out, with all below them, and so are reused
            ones: their times are of an earlier attempt.
    """
    tree = CallTree([record for record in records if not is_reused(record)])
    steps: list[PathStep] = []
    _, stack = _waited_for(tree.children(None), float("inf"), float("-inf"))
    while stack:
        record, until = stack.pop()
        covered, below = _waited_for(tree.children(record), until, record.started)
        steps.append(PathStep(record, max(0.0, until - ran_since(record) - covered)))
        stack += below
    return tuple(sorted(steps, key=lambda step: step.record.started_step))


def _waited_for(
    children: Sequence[CallRecord], until: float, since: float
) -> tuple[float, list[tuple[CallRecord, float]]]:
    """Return which calls were waited for one after the other, each with its end, and the seconds that they took.

    Args:
        children: The calls that one call made.
        until: The end of that call, in seconds since the epoch.
        since: Its beginning.
    """
    found: list[tuple[CallRecord, float]] = []
    covered = 0.0
    for child in sorted((each for each in children if each.ended is not None), key=_end, reverse=True):
        if child.ended is None or child.ended > until or child.started < since:
            continue
        found.append((child, child.ended))
        covered += child.ended - child.started
        until = child.started
    return covered, found


def _end(record: CallRecord) -> tuple[float, int]:
    return record.ended or 0.0, record.ended_step or 0
