"""The nursery of a session, from its opening to the end of its last task.

Why leaving is hard. The body's exception must come out as the same object, so it may not pass through a task group,
which would wrap or copy it; a cancellation, on the other hand, must pass through the scope it belongs to. While the
session joins, delivers and saves, it can be cancelled or interrupted by Ctrl-C, at any moment and more than once, and
must still leave nothing running. So ``close`` is a list of steps. Each waits through a :class:`Shield`, which keeps
what comes, and each runs although the one before failed. What was kept is raised at the end.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from anyio.lowlevel import checkpoint, current_token

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._lost_cancellation import count_cancellations
from railtracks._concurrency._tracked_task import start_tracked
from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog
from railtracks._session._handle import CallHandle
from railtracks._session._leaving import LONG_WAIT, warn_of_waiting
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import SessionEndedError
from railtracks.execution import Coordinator, Frame, find_interrupt, split_cancellation
from railtracks.execution._lifecycle import Phase
from railtracks.nodes import FunctionNode
from railtracks.pubsub import DRAIN_DEADLINE
from railtracks.state import Reason

Finalizer = Callable[[Shield], Awaitable[None]]
"""What a session does when nothing runs any more: it saves and reports. It handles what it raises."""


class SessionNursery:
    """The task group of one session: a ``PumpHost``. Opened and closed in the same task.

    Args:
        coordinator: Runs the calls of the session.
        log: The session's log.

    Attributes:
        frame: The frame of code that is in the session, but in no call.
        task: The task that opened it.
        earlier_cancellations: How many native cancellations of that task came before.
        task_group: The task group, once it is open.
    """

    __slots__ = (
        "_child_error", "_coordinator", "_deadline", "_has_warned", "_interrupt", "_is_task_group_open", "_log",
        "_shield", "earlier_cancellations", "frame", "task", "task_group",
    )  # fmt: skip

    def __init__(self, coordinator: Coordinator, log: SessionLog) -> None:
        self._coordinator = coordinator
        self._log = log
        self._child_error: BaseException | None = None
        self._interrupt: BaseException | None = None
        self._shield: Shield | None = None  # while it closes
        self._is_task_group_open = False
        self._has_warned = runtime_hooks.get().thread_scheduler is not None  # never in virtual time
        self._deadline: float | None = None  # of all deliveries together, once they are waited for
        self.frame = Frame(coordinator)
        self.task: object = None
        self.earlier_cancellations: int = 0

    async def open(self) -> None:
        """Open the task group, in the current task."""
        self.task_group = anyio.create_task_group()
        await self.task_group.__aenter__()
        self._is_task_group_open = True
        coordinator = self._coordinator
        coordinator.loop.token = token = current_token()
        coordinator.bind(token)
        coordinator.scopes.scope_type = type(self.task_group.cancel_scope)
        coordinator.publisher.attach(self)
        coordinator.nursery = self
        self.task = coordinator.loop.current_task()
        around: Frame | None = current.get()
        if around is not None and around.coordinator is not coordinator:
            coordinator.outer = around.coordinator
            self.earlier_cancellations = around.coordinator.scopes.earlier_cancellations(self.task)
        else:
            self.earlier_cancellations = count_cancellations(self.task)
        if coordinator.mailbox is not None:
            coordinator.mailbox.open(coordinator.loop.token)

    # ---- children

    def start_soon(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallHandle:
        """Start a top-level call as a child of the session. The caller has checked that it is not too late."""
        handle = CallHandle(self._coordinator, node.name)

        async def child() -> None:
            current.set(self.frame)  # it is a call of the session, not of the code that started it
            await handle._run(node, args, kwargs, self.frame)

        self.spawn(child, handle._end)
        return handle

    def spawn(self, func: Callable[[], Awaitable[object]], on_end: Callable[[], object] = lambda: None) -> None:
        """Await ``func()`` in a task of the session. The session raises what it raises, at the session's end.

        Args:
            func: What to run.
            on_end: Called once when the task has ended, even if it was cancelled before its first step.
        """
        scopes = self._coordinator.scopes
        scopes.hold()

        async def child() -> None:
            try:
                await func()
            except BaseException as exc:
                self._store_child_exception(exc)

        def ended() -> None:
            on_end()
            scopes.release()

        try:
            start_tracked(self.task_group, child, ended)
        except BaseException:
            scopes.release()
            raise

    def _store_child_exception(self, exc: BaseException) -> None:
        """Store what a child raised, past the task group.

        The task group would wrap an error, and would mistake a stray cancellation (of a future that a node awaited) for
        its own. A cancellation that was sent reaches the code that leaves the session too.
        """
        cancellation, error = split_cancellation(exc)
        if error is not None and is_kind(error, (KeyboardInterrupt, SystemExit)):
            self.on_interrupt(error)
            return
        if error is None:
            error = cancellation
        assert error is not None
        if self._child_error is None:
            self._child_error = error
        else:
            self._log_suppressed(error)

    def on_interrupt(self, exc: BaseException) -> None:
        """Handle Ctrl-C or SystemExit in a child or a callback: they end everything."""
        if self._interrupt is None:
            self._interrupt = exc
        reason = Reason.OUTSIDE if is_kind(exc, KeyboardInterrupt) else Reason.SESSION_ENDED
        self._coordinator.scopes.cancel_all(reason)
        self.task_group.cancel_scope.cancel(reason.value)

    def _log_suppressed(self, error: BaseException) -> None:
        """Log an error of a child that the session does not raise, because it can raise only one."""
        is_expected = error is self._coordinator.failure or is_kind(error, SessionEndedError)
        if is_kind(error, Exception) and not is_expected:
            self._log.log(
                logging.ERROR, "a call made by start_soon raised %r, but the session raises something else",
                error, logger=SESSION, exc_info=error,
            )  # fmt: skip

    # ---- the end

    def interrupt(self, exc: KeyboardInterrupt) -> None:
        """Handle Ctrl-C in another thread, which waits for this nursery to close."""
        if self._shield is not None:
            self._shield.interrupt(exc)

    async def close(self, exc: BaseException | None, finalize: Finalizer) -> None:
        """End everything.

        Args:
            exc: What the body raised. If this method returns, the caller lets that go on.
            finalize: Awaited when nothing runs and nothing is delivered any more.

        Raises:
            KeyboardInterrupt, SystemExit: one ended a child of the session.
            Exception: the first error of a child, when the body raised nothing.
            CancelledError: the same, on asyncio, where a child awaited something of its own that was cancelled.

        Cancellation: what runs is cancelled; delivering and saving go on, within their deadlines; then it is passed on.
        """
        coordinator = self._coordinator
        scopes = coordinator.scopes
        shield = self._shield = Shield()
        if coordinator.streams is not None:
            coordinator.streams.cancel_orphaned(None)
        if exc is None:
            try:
                await self._drain()
            except GeneratorExit:  # the coroutine is closed, and can wait for nothing
                raise
            except BaseException as error:  # a cancellation or Ctrl-C: what still runs is cancelled
                shield.note(error)
        elif _comes_from_outside(exc):
            shield.count_earlier()
        is_outside = _comes_from_outside(shield.interruption if exc is None else exc)
        coordinator.close(Reason.OUTSIDE if is_outside else Reason.SESSION_ENDED)
        if is_outside:
            coordinator.publisher.abandon_patient()
        if not scopes.is_idle:
            scopes.discard_torn(self.task)
            await shield.step(self._wait_idle)
        if coordinator.publisher.subscriptions or coordinator.resources is not None:
            await shield.step(self._deliver)
        coordinator.publisher.remove_host(self)  # or else `rt.broadcast` would take the session for an open one
        coordinator.lifecycle.advance(Phase.SAVING)
        if self._is_task_group_open:
            carried = exc if shield.interruption is None else shield.interruption
            await shield.step(functools.partial(self._close_task_group, carried))
        await finalize(shield)
        self._forget()
        self._raise(exc, shield)

    async def close_elsewhere(self, finalize: Finalizer) -> None:
        """End everything in a task that did not open the nursery, and so cannot close its task group.

        Cancellation: raised at the end.
        """
        coordinator = self._coordinator
        shield = self._shield = Shield()
        coordinator.close()
        coordinator.publisher.abandon_patient()
        await shield.step(self._wait_idle)
        await shield.step(self._deliver)
        coordinator.lifecycle.advance(Phase.SAVING)
        await finalize(shield)
        self._forget()
        shield.check()

    def _forget(self) -> None:
        """Drop what refers back to the nursery, so that it is freed without the garbage collector."""
        self._coordinator.nursery = self._coordinator.outer = self._shield = None

    async def _drain(self) -> None:
        """Wait for children, calls and deliveries, and close the task group if nothing is to be delivered.

        Tasks that were created in the body but have not begun get a turn to make their calls. Without subscribers that
        is the turn in which the task group closes.

        Cancellation: the wait ends.
        """
        coordinator = self._coordinator
        publisher, scopes, lifecycle = coordinator.publisher, coordinator.scopes, coordinator.lifecycle
        if publisher.subscriptions:
            lifecycle.advance(Phase.DRAINING)
            await checkpoint()
        while True:
            if not scopes.is_idle:
                lifecycle.advance(Phase.DRAINING)
                await self._wait_for_calls()
            if not publisher.subscriptions:
                break
            if publisher.drained:
                return
            await publisher.changed.wait_while(publisher.is_consumed)  # without a limit; that of others begins then
            await publisher.wait_drained(self._delivery_deadline())
            if not publisher.drained:  # a subscriber does not take its events
                return
        lifecycle.advance(Phase.JOINING)
        await self._close_task_group(None)
        if not scopes.is_idle:
            await scopes.wait_idle()

    async def _wait_for_calls(self) -> None:
        """Wait until the session is idle, and warn once if that takes long. Cancellation: the wait ends."""
        scopes = self._coordinator.scopes
        if not self._has_warned:
            with anyio.move_on_after(LONG_WAIT):
                await scopes.wait_idle()
            if not scopes.is_idle:
                self._warn_of_waiting(are_cancelled=False)
        await scopes.wait_idle()

    def _warn_of_waiting(self, are_cancelled: bool) -> None:
        self._has_warned = True
        warn_of_waiting(self._coordinator, self._log, are_cancelled)

    def _delivery_deadline(self) -> float:
        if self._deadline is None:
            self._deadline = anyio.current_time() + DRAIN_DEADLINE
        return self._deadline

    async def _wait_idle(self) -> None:
        assert self._shield is not None
        scopes = self._coordinator.scopes

        def is_busy() -> bool:
            scopes.discard_torn()
            return not scopes.is_idle

        if not self._has_warned:
            deadline = anyio.current_time() + LONG_WAIT
            if not await self._shield.wait_while(is_busy, scopes.changed, deadline):
                self._warn_of_waiting(are_cancelled=True)
        await self._shield.wait_while(is_busy, scopes.changed)

    async def _deliver(self) -> None:
        assert self._shield is not None
        publisher = self._coordinator.publisher
        await self._shield.wait_while(publisher.is_consumed, publisher.changed)
        await publisher.detach(self, self._shield, self._delivery_deadline())
        await self._coordinator.close_resources(self._shield)

    async def _close_task_group(self, exc: BaseException | None) -> None:
        """Close the task group. Only a cancellation passes through it.

        The ``GeneratorExit`` of an async generator that is being closed counts as one, but is of no scope, and the task
        group would wrap it.
        """
        if not self._is_task_group_open:
            return
        self._is_task_group_open = False
        is_carried = exc is not None and not is_kind(exc, GeneratorExit) and split_cancellation(exc)[0] is not None
        carried = exc if is_carried else None
        info = (None, None, None) if carried is None else (type(carried), carried, carried.__traceback__)
        try:
            await self.task_group.__aexit__(*info)
        except BaseExceptionGroup as group:
            interrupt = find_interrupt(group)  # Ctrl-C reached the task group itself
            if interrupt is None:
                raise
            if self._interrupt is None:
                self._interrupt = interrupt

    def _raise(self, exc: BaseException | None, shield: Shield) -> None:
        """Raise what the session gives in place of what its body gave, if anything."""
        child_error, interruption = self._child_error, shield.interruption
        if exc is None and interruption is None and self._interrupt is None and child_error is not None:
            raise child_error
        if child_error is not None and child_error is not exc:
            self._log_suppressed(child_error)
        if self._interrupt is not None:
            raise self._interrupt
        if interruption is None or interruption is exc or is_kind(exc, (KeyboardInterrupt, SystemExit)):
            return
        if exc is not None and is_kind(interruption, Exception):  # it must not replace what the body raised
            self._log.log(
                logging.ERROR, "the end of the session raised %r", interruption, logger=SESSION, exc_info=interruption
            )
            return
        raise interruption


def _comes_from_outside(exc: BaseException | None) -> bool:
    """Return whether an exception that ends a session is a cancellation or Ctrl-C."""
    return exc is not None and (is_kind(exc, KeyboardInterrupt) or split_cancellation(exc)[0] is not None)
