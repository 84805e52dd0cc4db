"""The model of ``SessionMachine``: what must have become of each session and each call by now.

When a call that has to wait for a limit or for an equal call begins depends on what else runs. The model takes that
from the record; ``_machine_waits.py`` checks that the call had to wait, and that no more run than may.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import anyio
import attrs

from railtracks import ExecutionInfo, Session
from railtracks._test_probe import Retry
from railtracks.state import CallRecord, Status
from railtracks.testing import faults, trees
from railtracks.testing._virtual_time._clock import WALL

_Expected = frozenset[Status]
_ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
_DIGITS = 4
"""Digits of times, which are rounded: the wall clock of a record is."""


@attrs.define(eq=False)
class LiveSession:
    """A session of a state machine, and what the model knows about it."""

    session: Session
    outer: LiveSession | None
    """The session around it."""
    inner: LiveSession | None = None
    """The session that is open inside it."""
    calls: list[LiveCall] = attrs.field(factory=list)
    sent: list[Any] = attrs.field(factory=list)
    """What was broadcast."""
    heard: list[Any] = attrs.field(factory=list)
    """What a subscriber received."""
    stopped: float = math.inf
    """When all its calls were cancelled, by an error or from outside."""
    closing: bool = False
    """Whether its body has ended, so that it waits for its calls."""
    over: bool = False
    error: BaseException | None = None
    """The exception that left it."""
    is_superseded: bool = False
    """Whether another session has resumed its run, in its place."""
    scope: anyio.CancelScope | None = None
    commands: Any = None  # the stream from which its body receives what to do

    @property
    def info(self) -> ExecutionInfo:
        """The record of the session so far."""
        return self.session.info

    def __repr__(self) -> str:
        return self.session.identifier


@attrs.define(eq=False)
class LiveCall:
    """A call of a state machine: what was called and when, and what the model expects of it."""

    name: str
    live: LiveSession
    target: Any
    started: float
    fault: faults.Action | None
    refused: bool
    """Whether the session accepted no more calls."""
    policies: dict[str, Any] = attrs.field(factory=dict)
    """The policies of its node."""
    is_replayed: bool = False
    """Whether it had completed in the run that its session resumes, so that its result is used again."""

    def __repr__(self) -> str:
        return f"{self.live!r}.{self.name}"

    @property
    def attempts(self) -> list[CallRecord]:
        """The records of its attempts; one, if it is not tried again."""
        return [record for record in self.live.info.records if record.parent is None and record.name == self.name]

    @property
    def last(self) -> CallRecord:
        """The record of its last attempt. AssertionError if there is none."""
        attempts = self.attempts
        assert attempts, f"{self} is not on record"
        return attempts[-1]

    @property
    def limit(self) -> float:
        """When it is cancelled at the latest."""
        return min(self.started + self.live.session.executor_config.timeout, self.live.stopped)

    def expected(self, now: float) -> _Expected:
        """Return the statuses that the call, or its last attempt, may have at the time ``now``."""
        last, limit = self.last, self.limit
        if self.is_replayed:  # results come in their former order, so it may wait for a call that runs again
            waits = any(other.status is Status.OPEN for other in self.live.info.records if other.index != last.index)
            others = {Status.OPEN: waits, Status.CANCELLED: now >= limit}
            return frozenset({Status.COMPLETED, *(status for status, may_be in others.items() if may_be)})
        if (policy := last.policy) is not None and policy.waiting is not None:
            return frozenset({Status.OPEN if now < limit else Status.CANCELLED})
        if policy is not None and policy.cached is not None:
            return frozenset({Status.COMPLETED})
        end, status = self._end(last)
        if (again := self.tried_again_at(last)) is not None and again <= now and again < limit:
            return frozenset()  # there should be another attempt
        if end < limit:
            return status if now >= end else frozenset({Status.OPEN})
        if now < limit:
            return frozenset({Status.OPEN})
        if end == limit:  # either may come first
            return status | {Status.CANCELLED}
        return self._expected_after_stop(began(last), limit, end, now)

    def runs(self, now: float) -> bool:
        """Return whether the call, or the wait for its next attempt, has not ended at the time ``now``."""
        if Status.OPEN in self.expected(now):
            return True
        again = self.tried_again_at(self.last)
        return again is not None and now < min(again, self.limit)

    def tried_again_at(self, attempt: CallRecord) -> float | None:
        """Return when another attempt follows this one, unless the call is cancelled before; None if none does."""
        retries = self.policies.get("retries")
        made = 1 + (0 if attempt.policy is None else attempt.policy.retry)
        end, status = self._end(attempt)
        if not isinstance(retries, Retry) or made >= (retries.attempts or math.inf) or self._is_fatal:
            return None
        if Status.FAILED not in status or Status.COMPLETED in status or end >= self.limit:
            return None
        wait: float = min(retries.wait_max, retries.wait_initial * 2.0 ** (made - 1))
        return round(end + wait, _DIGITS)

    @property
    def _runs_node(self) -> bool:
        return self.fault is None or isinstance(self.fault, faults.Delay)

    @property
    def _is_fatal(self) -> bool:
        return self._runs_node and isinstance(self.target, trees.Fatal)

    @property
    def _delay(self) -> float:
        return self.fault.seconds if isinstance(self.fault, faults.Delay) else 0.0

    def _is_kind(self, kind: type[trees.Tree]) -> bool:
        """Return whether it runs such a tree here: what is cancelled in a worker is not waited for."""
        return isinstance(self.target, kind) and "where" not in self.policies

    def _end(self, attempt: CallRecord) -> tuple[float, _Expected]:
        """Return when an attempt that runs ends if it is not cancelled, and the statuses that it may then have."""
        start = began(attempt)
        end, status = self._own_end(start)
        deadline = round(start + self.policies.get("timeout", math.inf), _DIGITS)
        if end < deadline or not status:
            return end, status
        if end == deadline:  # either may come first
            return end, status | {Status.FAILED}
        if self._is_kind(trees.Shield) and self._runs_node and start + self._delay < deadline:
            return end, frozenset({Status.FAILED})
        return deadline, frozenset({Status.FAILED})

    def _own_end(self, start: float) -> tuple[float, _Expected]:
        """Return when what began at ``start`` ends if nothing ends it, and the statuses that it may then have."""
        if isinstance(self.fault, faults.Hang):
            return math.inf, _ENDED
        if isinstance(self.fault, faults.Raise):
            return start, frozenset({Status.FAILED})
        if isinstance(self.fault, faults.Return):
            return start, frozenset({Status.COMPLETED})
        if isinstance(self.target, trees.Hang):
            return math.inf, _ENDED
        fails = isinstance(self.target, trees.Raise | trees.Fatal)
        end = round(start + self._delay + getattr(self.target, "seconds", 0.0), _DIGITS)
        return end, frozenset({Status.FAILED if fails else Status.COMPLETED})

    def _expected_after_stop(self, start: float, limit: float, end: float, now: float) -> _Expected:
        """Return the statuses that a call may have that was cancelled at ``limit``, before its own end at ``end``."""
        runs_at = start + self._delay
        if limit < runs_at or isinstance(self.fault, faults.Hang):
            return frozenset({Status.CANCELLED})
        at_once = _ENDED if limit == runs_at else frozenset()  # either may come first
        if self._is_kind(trees.Shield):
            return _ENDED if now >= end else at_once | {Status.OPEN}
        return at_once | {Status.COMPLETED if self._is_kind(trees.Swallow) else Status.CANCELLED}


def can_be_resumed(calls: list[LiveCall]) -> bool:
    """Return whether the model knows what becomes of these calls if they are made again in a resumed run."""
    known = [
        call
        for call in calls
        if isinstance(call.target, trees.Tree) and not (call.policies or call.fault or call.is_replayed)
    ]
    return bool(calls) and len({repr(call.target) for call in known}) == len(calls)


def calls_again(
    calls: Iterable[LiveCall], resumed: LiveSession, now: float, before: int | None = None
) -> list[LiveCall]:
    """Return the calls of a session that is over, as the session that resumes its run makes them once more.

    Args:
        calls: The calls.
        resumed: The session that resumes the run.
        now: When it makes them.
        before: The step before which they must have completed to be replayed; None for any.
    """
    found = []
    for call in calls:
        ended = call.last.ended_step
        replays = call.last.status is Status.COMPLETED and (before is None or (ended is not None and ended < before))
        found.append(LiveCall(call.name, resumed, call.target, now, None, False, is_replayed=replays))
    return found


def began(attempt: CallRecord) -> float:
    """Return when an attempt began to run, in virtual seconds."""
    waited = 0.0 if attempt.policy is None else attempt.policy.waited
    return round(attempt.started - WALL + waited, _DIGITS)


def stop_session_if_failed(call: LiveCall, now: float) -> None:
    """Note in its session that ``call`` has ended it, if it has failed by ``now`` and such a failure does that."""
    last, live = call.last, call.live
    if last.policy is not None and (last.policy.waiting is not None or last.policy.cached is not None):
        return
    end, status = call._end(last)
    failed = status == {Status.FAILED} and end <= now and call.tried_again_at(last) is None
    if failed and end < call.limit and (call._is_fatal or live.session.executor_config.end_on_error):
        live.stopped = end
