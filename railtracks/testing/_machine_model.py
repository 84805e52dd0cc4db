"""The model of ``SessionMachine``: what must have become of each session and each call by now."""

from __future__ import annotations

import math
from typing import Any

import anyio
import attrs

from railtracks import ExecutionInfo, Session
from railtracks.state import Status
from railtracks.testing import faults, trees

_Expected = frozenset[Status]
_ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


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

    def __repr__(self) -> str:
        return f"{self.live!r}.{self.name}"

    def expected(self, now: float) -> _Expected:
        """Return the statuses that the call may have at the time ``now``."""
        end, status = self._own_end()
        limit = min(self.started + self.live.session.executor_config.timeout, self.live.stopped)
        if end < limit:
            return status if now >= end else frozenset({Status.OPEN})
        if now < limit:
            return frozenset({Status.OPEN})
        if end == limit:  # either may come first
            return status | {Status.CANCELLED}
        return self._expected_after_stop(limit, end, now)

    def _own_end(self) -> tuple[float, _Expected]:
        """Return when the call ends if it is not cancelled, and the statuses that it may then have."""
        if isinstance(self.fault, faults.Hang):
            return math.inf, _ENDED
        if isinstance(self.fault, faults.Raise):
            return self.started, frozenset({Status.FAILED})
        if isinstance(self.fault, faults.Return):
            return self.started, frozenset({Status.COMPLETED})
        delay = self.fault.seconds if isinstance(self.fault, faults.Delay) else 0.0
        if isinstance(self.target, trees.Hang):
            return math.inf, _ENDED
        fails = isinstance(self.target, trees.Raise | trees.Fatal)
        end = self.started + delay + getattr(self.target, "seconds", 0.0)
        return end, frozenset({Status.FAILED if fails else Status.COMPLETED})

    def _expected_after_stop(self, limit: float, end: float, now: float) -> _Expected:
        """Return the statuses that a call may have that was cancelled at ``limit``, before its own end at ``end``."""
        runs_at = self.started + (self.fault.seconds if isinstance(self.fault, faults.Delay) else 0.0)
        if limit < runs_at or isinstance(self.fault, faults.Hang):
            return frozenset({Status.CANCELLED})
        began = _ENDED if limit == runs_at else frozenset()  # either may come first
        if isinstance(self.target, trees.Shield):
            return _ENDED if now >= end else began | {Status.OPEN}
        return began | {Status.COMPLETED if isinstance(self.target, trees.Swallow) else Status.CANCELLED}


def stop_session_if_failed(call: LiveCall, now: float) -> None:
    """Note in its session that ``call`` has ended it, if it has failed by ``now`` and such a failure does that."""
    end, status = call._own_end()
    live, config = call.live, call.live.session.executor_config
    failed = status == {Status.FAILED} and end <= now
    limit = min(call.started + config.timeout, live.stopped)
    node_runs = call.fault is None or isinstance(call.fault, faults.Delay)
    is_fatal = node_runs and isinstance(call.target, trees.Fatal)
    if failed and end < limit and (is_fatal or config.end_on_error):
        live.stopped = end
