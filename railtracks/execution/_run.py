"""Runs and entries: the cancel scopes of a session.

A nested call runs in the task of the call that makes it, so one scope per *entry* is enough: a call that comes in a
task which is not yet inside a call. That is each top-level call, and the first call in each task that user code
started below one. Only these can be cancelled one by one; everything below them is reached through them.
"""

from __future__ import annotations

from enum import Enum

import anyio

from railtracks.state import CallRecord


class Stop(Enum):
    """Why the session cancelled an entry. An expired deadline has no such reason: the scope itself fired."""

    FAILURE = "a node failed"
    RUN_ENDED = "the run it belongs to has ended"
    SESSION_ENDED = "its session has ended"
    ABANDONED = "the call that made it was cancelled"


class Entry:
    """The scope of a call that entered a task.

    ``caller``: the record of the call that made it; None for a top-level call.

    Invariant: ``scope`` is entered and left by the call itself; whoever else cancels it sets ``stop`` first.
    """

    __slots__ = ("caller", "scope", "stop")

    def __init__(self, deadline: float, caller: CallRecord | None) -> None:
        self.caller = caller
        self.scope = anyio.CancelScope(deadline=deadline)
        self.stop: Stop | None = None

    def cancel(self, stop: Stop) -> None:
        if self.stop is None and not self.scope.cancel_called:  # a deadline that came first stays the reason
            self.stop = stop
        self.scope.cancel()

    @property
    def timed_out(self) -> bool:
        """Did the deadline cancel it? Only to be asked after the scope was left: before, trio answers for the clock."""
        return self.stop is None and self.scope.cancel_called


class Run:
    """One top-level call and the entries below it.

    Invariant: all entries have the same ``deadline`` (on ``anyio.current_time()``), so that they expire in one turn
    of the event loop. ``entries`` holds those that are running; once ``over``, none is added.
    """

    __slots__ = ("deadline", "entries", "over", "timeout")

    def __init__(self, timeout: float, now: float) -> None:
        self.timeout: float = timeout
        self.deadline: float = now + timeout
        self.entries: dict[Entry, None] = {}  # in order, so that cancelling them has one too
        self.over: bool = False

    def cancel(self, stop: Stop) -> None:
        for entry in tuple(self.entries):
            entry.cancel(stop)
