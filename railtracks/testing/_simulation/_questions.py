"""What invariants ask of an outcome, and the error that they raise."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from railtracks._test_probe import index_of, is_fatal
from railtracks.exceptions import NodeTimeOutError
from railtracks.state import CallRecord, RecordedError
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._simulation._observed import CallKey, ObservedCall
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing.faults import Hang, LeaseStore, LoseLease, LoseWorker

_ENDLESS = frozenset(map(repr, (Hang(), LoseWorker())))


class InvariantError(AssertionError):
    """An AssertionError that knows the calls it is about.

    Args:
        text: What is wrong.
        *calls: The calls.

    Attributes:
        has_chance: Whether the text says already what the seed did not decide.
    """

    has_chance = False

    def __init__(self, text: str, *calls: CallKey) -> None:
        super().__init__(text)
        self.calls = calls


def named(record: CallRecord, call: CallKey) -> str:
    """Return how a call is called in messages."""
    return f"{call[0]}.{call[1]} {record.name}"


def was_killed(outcome: Outcome) -> bool:
    """Return whether the process was killed, so that the records are those that a journal holds."""
    return isinstance(outcome.exception, ProcessKilled)


def hangs_by_plan(outcome: Outcome) -> bool:
    """Return whether a run hangs while a call is under way that a fault keeps from ending, and no timeout is over."""
    hung = next((place for place, event in enumerate(outcome.trace) if event.what == "hangs"), None)
    if hung is None:
        return False
    top = outcome.calls.get((outcome.info.session_id, 0))
    if outcome.config is None or top is None or outcome.trace[hung].time - top.began >= outcome.config.timeout:
        return False  # a timeout should have ended it
    kept = set()
    for event in outcome.trace[:hung]:
        if event.what == "fault" and event.detail in _ENDLESS:
            kept.add((event.session, event.call))
        elif event.what in ("completed", "failed", "cancelled"):
            kept.discard((event.session, event.call))
    return bool(kept)


def may_lose_run(outcome: Outcome) -> bool:
    """Return whether another session may have taken the run, so that this one wrote nothing any more."""
    return isinstance(outcome.store, LeaseStore) or any(isinstance(fault, LoseLease) for fault in outcome.faults)


def records_of(outcome: Outcome, session: str) -> tuple[CallRecord, ...]:
    """Return the records of a session."""
    return next((each.info.records for each in outcome.sessions if each.info.session_id == session), ())


def is_cached(record: CallRecord) -> bool:
    """Return whether a call got the result of an equal one, and did not run."""
    return record.policy is not None and record.policy.cached is not None


def ending_error(outcome: Outcome, session: str, end_on_error: bool) -> ObservedCall | None:
    """Return the call whose error should have ended the session, or None if none should.

    Args:
        outcome: The outcome.
        session: The identifier of the session.
        end_on_error: Whether any error ends it.
    """
    records = records_of(outcome, session)
    failures = [event for event in outcome.failures.values() if event.session_id == session]
    retried = {index_of(event.node_id) for event in failures if event.is_retried}
    calls = [observed for call, observed in outcome.calls.items() if call[0] == session and call[1] not in retried]
    failed = [observed for observed in calls if observed.outcome == "raised"]
    if end_on_error:
        failed += _failed_outside_their_nodes(outcome, session, records)
    ending = [
        observed
        for observed in failed
        if is_fatal(observed.value) or (end_on_error and not isinstance(observed.value, KeyboardInterrupt | SystemExit))
    ]
    return min(ending, key=lambda observed: observed.order, default=None)


def _failed_outside_their_nodes(
    outcome: Outcome, session: str, records: tuple[CallRecord, ...]
) -> Iterator[ObservedCall]:
    """Yield the calls that failed by a policy: at the timeout of their node, or because they may not wait for a limit.

    What is observed of them is that they were cancelled, or nothing. The trace has the place of their end among others.
    It is asked, and not the records, which lack those of batches that keep few.
    """
    by_index = {record.index: record for record in records}
    latest = -1
    for place, event in enumerate(outcome.trace):
        observed = None if event.call is None else outcome.calls.get((event.session, event.call))
        if observed is not None and event.what in ("completed", "failed", "cancelled"):
            latest = max(latest, observed.order)
        failure = outcome.failures.get(place)
        if failure is None or failure.session_id != session or failure.is_retried:
            continue
        exc = failure.exception
        if observed is None and not _is_copy(exc, by_index.get(index_of(failure.node_id)), records):
            yield ObservedCall(
                None, None, False, event.time, outcome="raised", value=exc, order=latest, time=event.time
            )
        elif observed is not None and observed.outcome != "raised" and isinstance(exc, NodeTimeOutError):
            yield attrs.evolve(observed, outcome="raised", value=exc, time=event.time)


def _is_copy(exc: BaseException, record: CallRecord | None, records: tuple[CallRecord, ...]) -> bool:
    """Return whether an exception has come from a worker, as a copy of that which ended the session."""
    return isinstance(exc, RecordedError) or (record is not None and _is_below_worker(record, records))


def _is_below_worker(record: CallRecord, records: tuple[CallRecord, ...]) -> bool:
    """Return whether a call was made in a worker, from where its exception has come as a copy."""
    parent = record.parent
    while parent is not None:
        above = records[parent]
        if above.policy is not None and above.policy.place is not None:
            return True
        parent = above.parent
    return False
