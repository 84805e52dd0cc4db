"""The cancel scopes of calls, and why they were cancelled.

A nested call runs in the task of the call that makes it, so one scope for each call that *enters* a task is enough:
each top-level call, and the first call in each task that user code started below one. Only these can be cancelled one
by one; everything below them is reached through them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import anyio

from railtracks._concurrency._cancellation import Shield, first_cancellation, sender_of
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import has_ended, is_stray_cancellation
from railtracks._concurrency._lost_cancellation import count_cancellations, lost_cancellation
from railtracks.state import CallRecord, Reason


class CallScope:
    """The cancel scope of a call that entered a task.

    Invariant: the call itself enters and leaves ``cancel_scope``; all others cancel it through :meth:`cancel`, which
    sets ``cause`` first.

    Args:
        deadline: In seconds, on ``anyio.current_time()``.
        caller: The record of the call that made it; None for a top-level call.
        task: The task that the call enters.
        earlier_cancellations: How many native cancellations of the task came before; None: as many as it counts now.
        scope_type: The class of ``cancel_scope``.
    """

    __slots__ = ("caller", "cancel_scope", "cause", "earlier_cancellations", "task")

    def __init__(
        self,
        deadline: float,
        caller: CallRecord | None,
        task: Any = None,
        earlier_cancellations: int | None = None,
        scope_type: type[anyio.CancelScope] = anyio.CancelScope,
    ) -> None:
        self.task: Any = task
        self.earlier_cancellations: int = (
            count_cancellations(task) if earlier_cancellations is None else earlier_cancellations
        )
        self.caller: CallRecord | None = caller
        self.cancel_scope: anyio.CancelScope = scope_type(deadline=deadline)
        self.cause: Reason | None = None

    def cancel(self, cause: Reason) -> None:
        """Cancel the call and all below it. The first cause counts, and so does a deadline that came before it."""
        if self.cause is None and not self.cancel_scope.cancel_called:
            self.cause = cause
        self.cancel_scope.cancel(cause.value)

    @property
    def timed_out(self) -> bool:
        """Whether the deadline cancelled it.

        Read it only after the scope was left: before, trio answers for the clock.
        """
        return self.cause is None and self.cancel_scope.cancel_called


class NodeDeadline:
    """The deadline of one call, which its node has declared. It stands still while the call waits for a place.

    Args:
        record: The record of the call.
        seconds: How long it may take.
        scope_type: The class of its cancel scope; see ``CallScopes``.

    Attributes:
        record: As given.
        scope: The cancel scope that the call runs in.
        waiting: Where the innermost calls below it waited when it expired; None until the first of them has ended.
    """

    __slots__ = ("_seconds", "record", "scope", "waiting")

    def __init__(
        self, record: CallRecord, seconds: float, scope_type: type[anyio.CancelScope] = anyio.CancelScope
    ) -> None:
        self._seconds = seconds
        self.record: CallRecord = record
        self.scope: anyio.CancelScope = scope_type(deadline=anyio.current_time() + seconds)
        self.waiting: tuple[str, ...] | None = None

    def stop(self) -> None:
        """Have it never expire, until it starts again."""
        self.scope.deadline = math.inf

    def start(self) -> None:
        """Have the seconds begin now."""
        self.scope.deadline = anyio.current_time() + self._seconds


class RootCall:
    """A top-level call, and the call scopes below it.

    Invariant: all its scopes have the same ``deadline``, so that they expire in one turn of the event loop. ``scopes``
    holds those that are entered; once ``finished``, none is added.

    Args:
        timeout: Seconds that the call may take.
        now: The current time, on ``anyio.current_time()``.
        failed_batches: Those of its session; see ``CallScopes``.

    Attributes:
        failed_batches: As given.
        index: The index of its record. None until it is about to be made; a call that is refused has none.
        waiting: Where the innermost calls below it waited when it timed out; None until the first of them has ended.
        has_streamed: Whether ``rt.call_stream`` was used in it or below it.
        budget: The budget of its session, in seconds, if that ends before its own timeout does; None otherwise.
        node_deadlines: The deadlines of calls below it that have one of their own, by the scope that has it.
    """

    __slots__ = (
        "budget", "deadline", "failed_batches", "finished", "has_streamed", "index", "node_deadlines", "scopes",
        "timeout", "waiting",
    )  # fmt: skip

    def __init__(self, timeout: float, now: float, failed_batches: Collection[anyio.CancelScope] = ()) -> None:
        self.failed_batches: Collection[anyio.CancelScope] = failed_batches
        self.timeout: float = timeout
        self.deadline: float = now + timeout
        self.scopes: dict[CallScope, None] = {}  # in order, so that cancelling them has an order too
        self.finished: bool = False
        self.has_streamed: bool = False
        self.index: int | None = None
        self.waiting: tuple[str, ...] | None = None
        self.budget: float | None = None
        self.node_deadlines: dict[anyio.CancelScope, NodeDeadline] = {}

    def limit_by_budget(self, budget: float, left: float, now: float) -> None:
        """End the call when the budget of its session does, if that is earlier. Before any scope is added.

        Args:
            budget: The budget, in seconds.
            left: What is left of it.
            now: The current time, on ``anyio.current_time()``.
        """
        if now + left < self.deadline:
            self.deadline, self.budget = now + left, budget

    @property
    def expiry(self) -> Reason:
        """Why its calls are cancelled when its deadline expires."""
        return Reason.TIMEOUT if self.budget is None else Reason.BUDGET

    def deadline_of(self, record: CallRecord) -> NodeDeadline | None:
        """Return the deadline that the node of a call has declared; None if it has none.

        The deadlines are searched from the end, where that of a call which is about to run is.
        """
        return next((each for each in reversed(self.node_deadlines.values()) if each.record is record), None)

    def reason_of(self, exc: BaseException, frame: object) -> Reason:
        """Return why a call below this one is being cancelled.

        Args:
            exc: The cancellation that has reached it.
            frame: The Python frame that it has reached.
        """
        scopes: dict[anyio.CancelScope, CallScope | NodeDeadline]
        scopes = {**{scope.cancel_scope: scope for scope in self.scopes}, **self.node_deadlines}
        sender = sender_of(first_cancellation(exc, frame), [*scopes, *self.failed_batches])
        if sender is None and not is_stray_cancellation(exc):
            # The exception does not say. It comes from outside unless a scope of ours was cancelled.
            sender = next((each for each in scopes if each.cancel_called), False)
        if sender is None or isinstance(sender, bool):
            return Reason.OUTSIDE
        if sender not in scopes:
            return Reason.BATCH
        scope = scopes[sender]
        return Reason.NODE_TIMEOUT if isinstance(scope, NodeDeadline) else scope.cause or self.expiry

    def expired_deadline(self, exc: BaseException, frame: object) -> NodeDeadline | None:
        """Return the deadline of a node that has sent a cancellation; None if none has. Arguments as ``reason_of``."""
        sender = sender_of(first_cancellation(exc, frame), self.node_deadlines)
        if sender is None or isinstance(sender, bool):
            return None
        return self.node_deadlines[sender]


class CallScopes:
    """All call scopes of one session that are entered, and what else a session must wait for before it ends.

    Attributes:
        changed: Notified when a scope was left, or a hold taken or released.
        failed_batches: The cancel scopes of batches that the failure of one of their calls has cancelled, until all
            their calls have ended.
        scope_type: The class of their cancel scopes. ``anyio.CancelScope(...)`` finds that of the backend each time,
            and on asyncio initialises each scope twice: a third of what a scope costs. So a session with a nursery has
            the class of the backend here.
        when_idle: Called once, when the session has become idle.
    """

    __slots__ = ("_entered", "_holds", "changed", "failed_batches", "scope_type", "when_idle")

    def __init__(self) -> None:
        self._entered: dict[CallScope, None] = {}
        self._holds = 0
        self.changed: Condition = Condition()
        self.failed_batches: set[anyio.CancelScope] = set()
        self.scope_type: type[anyio.CancelScope] = anyio.CancelScope
        self.when_idle: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self._entered)

    def add(
        self, root: RootCall, caller: CallRecord | None, task: Any = None, earlier_cancellations: int | None = None
    ) -> CallScope:
        """Return a new scope below ``root``, which its call is about to enter in ``task``. See ``CallScope``."""
        scope = CallScope(root.deadline, caller, task, earlier_cancellations, self.scope_type)
        root.scopes[scope] = self._entered[scope] = None
        return scope

    def remove(self, root: RootCall, scope: CallScope) -> None:
        """Forget a scope whose call has ended."""
        root.scopes.pop(scope, None)
        self._entered.pop(scope, None)
        self._on_changed()

    def lost_cancellation(self, task: Any) -> BaseException | None:
        """Return the cancellation to raise in the current task, because it came in a call, and the call went on."""
        scope = self._innermost(task)
        if scope is None:  # a task of a batch
            return lost_cancellation(task, 0)
        return lost_cancellation(task, scope.earlier_cancellations, scope.cancel_scope)

    def earlier_cancellations(self, task: Any) -> int:
        """Return how many native cancellations of a task came before its call, or so far if it is in none."""
        scope = self._innermost(task)
        return count_cancellations(task) if scope is None else scope.earlier_cancellations

    def _innermost(self, task: Any) -> CallScope | None:
        """Return the scope that a task has entered last."""
        return next((scope for scope in reversed(self._entered) if scope.task is task), None)

    def discard_torn(self, here: object = None) -> None:
        """Forget the scopes of calls that Ctrl-C has torn apart between two lines of the library.

        On asyncio the second Ctrl-C can do that. It is raised in any task; that task has ended then.

        Args:
            here: The task that runs here, outside of all calls.
        """
        for scope in [each for each in self._entered if each.task is not None]:
            if scope.task is here or has_ended(scope.task):
                del self._entered[scope]
                scope.task = None

    def hold(self) -> None:
        """Keep the session from becoming idle: a child of its nursery, or a call that delivers events, goes on."""
        self._holds += 1

    def release(self) -> None:
        """Release a hold."""
        self._holds -= 1
        self._on_changed()

    def _on_changed(self) -> None:
        self.changed.notify_all()
        if self.when_idle is not None and self.is_idle:
            when_idle, self.when_idle = self.when_idle, None
            when_idle()

    def cancel_all(self, cause: Reason) -> None:
        """Cancel every call of the session."""
        for scope in tuple(self._entered):
            scope.cancel(cause)

    def cancel_task(self, task: object, cause: Reason) -> None:
        """Cancel the calls that have entered a task."""
        for scope in tuple(self._entered):
            if scope.task is task:
                scope.cancel(cause)

    async def finish(self, root: RootCall) -> None:
        """Cancel what is left below a top-level call, and wait until it has ended.

        Cancellation: raised after that.
        """
        for scope in tuple(root.scopes):
            scope.cancel(Reason.RUN_ENDED)
        shield = Shield()
        await shield.wait_while(lambda: self._is_below(root), self.changed)
        shield.check()

    def _is_below(self, root: RootCall) -> bool:
        """Return whether a call below ``root`` still runs."""
        return any(not has_ended(scope.task) for scope in root.scopes)

    async def cancel_calls_of(self, is_caller: Callable[[CallRecord], bool], cause: Reason) -> None:
        """Cancel the scopes that some calls have made in other tasks, and wait until they are left.

        Args:
            is_caller: Whether a call is one of these.
            cause: Why they are cancelled.

        Cancellation: raised after that.
        """
        own = [scope for scope in self._entered if scope.caller is not None and is_caller(scope.caller)]
        for scope in own:
            scope.cancel(cause)
        if own:
            shield = Shield()
            await shield.wait_while(lambda: any(scope in self._entered for scope in own), self.changed)
            shield.check()

    @property
    def is_idle(self) -> bool:
        """Whether no call is running, and nothing holds the session."""
        return not self._entered and not self._holds

    async def wait_idle(self) -> None:
        """Wait until the session is idle. Cancellation: the wait ends, nothing else does."""
        await self.changed.wait_while(lambda: not self.is_idle)
