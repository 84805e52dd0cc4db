"""The cancel scopes of calls.

A nested call runs in the task of the call that makes it, so one scope for each call that *enters* a task is enough:
each top-level call, and the first call in each task that user code started below one. Only these can be cancelled one
by one; everything below them is reached through them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import anyio

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._condition import Condition
from railtracks.state import CallRecord


class CancelCause(Enum):
    """Why the session cancelled a call scope. An expired deadline has no cause here: the scope itself fired."""

    FAILURE = "a node failed"
    RUN_ENDED = "the top-level call it belongs to has ended"
    SESSION_ENDED = "its session has ended"
    ABANDONED = "the call that made it was cancelled"


class CallScope:
    """The cancel scope of a call that entered a task.

    Invariant: the call itself enters and leaves ``cancel_scope``; all others cancel it through :meth:`cancel`, which
    sets ``cause`` first.

    Args:
        deadline: In seconds, on ``anyio.current_time()``.
        caller: The record of the call that made it; None for a top-level call.
    """

    __slots__ = ("caller", "cancel_scope", "cause")

    def __init__(self, deadline: float, caller: CallRecord | None) -> None:
        self.caller: CallRecord | None = caller
        self.cancel_scope: anyio.CancelScope = anyio.CancelScope(deadline=deadline)
        self.cause: CancelCause | None = None

    def cancel(self, cause: CancelCause) -> None:
        """Cancel the call and all below it. The first cause counts, and so does a deadline that came before it."""
        if self.cause is None and not self.cancel_scope.cancel_called:
            self.cause = cause
        self.cancel_scope.cancel()

    @property
    def timed_out(self) -> bool:
        """Whether the deadline cancelled it.

        Read it only after the scope was left: before, trio answers for the clock.
        """
        return self.cause is None and self.cancel_scope.cancel_called


class RootCall:
    """A top-level call, and the call scopes below it.

    Invariant: all its scopes have the same ``deadline``, so that they expire in one turn of the event loop. ``scopes``
    holds those that are entered; once ``finished``, none is added.

    Args:
        timeout: Seconds that the call may take.
        now: The current time, on ``anyio.current_time()``.
    """

    __slots__ = ("deadline", "finished", "scopes", "timeout")

    def __init__(self, timeout: float, now: float) -> None:
        self.timeout: float = timeout
        self.deadline: float = now + timeout
        self.scopes: dict[CallScope, None] = {}  # in order, so that cancelling them has an order too
        self.finished: bool = False


class CallScopes:
    """All call scopes of one session that are entered, and the children of its nursery that are about to enter theirs.

    Attributes:
        when_idle: Called once, when the last call has ended.
    """

    __slots__ = ("_changed", "_entered", "_pending_children", "when_idle")

    def __init__(self) -> None:
        self._entered: dict[CallScope, None] = {}
        self._pending_children = 0
        self._changed = Condition()
        self.when_idle: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._entered)

    def add(self, root: RootCall, caller: CallRecord | None) -> CallScope:
        """Return a new scope below ``root``, which its call is about to enter."""
        scope = CallScope(root.deadline, caller)
        root.scopes[scope] = self._entered[scope] = None
        return scope

    def remove(self, root: RootCall, scope: CallScope) -> None:
        """Forget a scope whose call has ended."""
        root.scopes.pop(scope, None)
        del self._entered[scope]
        self._changed.notify_all()
        if self.when_idle is not None and self.is_idle:
            when_idle, self.when_idle = self.when_idle, None
            when_idle()

    def cancel_all(self, cause: CancelCause) -> None:
        """Cancel every call of the session."""
        for scope in tuple(self._entered):
            scope.cancel(cause)

    async def finish(self, root: RootCall) -> None:
        """Cancel what is left below a top-level call, and wait until it has ended. Shielded."""
        for scope in tuple(root.scopes):
            scope.cancel(CancelCause.RUN_ENDED)
        await shielded(lambda: self._changed.wait_while(lambda: bool(root.scopes)))

    async def cancel_calls_of(self, caller: CallRecord) -> None:
        """Cancel the scopes that a call made in other tasks, and wait until they are left. Shielded."""
        own = [scope for scope in self._entered if scope.caller is caller]
        for scope in own:
            scope.cancel(CancelCause.ABANDONED)
        if own:
            await shielded(lambda: self._changed.wait_while(lambda: any(scope in self._entered for scope in own)))

    async def wait_while(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, which depends on the scopes, is false. Cancellation: only the wait ends."""
        await self._changed.wait_while(condition)

    def child_started(self) -> None:
        """Count a child of the nursery that is about to call."""
        self._pending_children += 1
        self._changed.notify_all()

    def child_finished(self) -> None:
        """Take a child of the nursery off the count."""
        self._pending_children -= 1
        self._changed.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether no call is running, and none is about to."""
        return not self._entered and not self._pending_children

    async def wait_idle(self) -> None:
        """Wait until no call is running. Cancellation: the wait ends, nothing else does."""
        await self._changed.wait_while(lambda: not self.is_idle)
