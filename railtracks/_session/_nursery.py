"""The nursery of a session, from its opening to the end of its last task.

Why leaving is hard. The body's exception must come out as the same object, so it may not pass through a task group,
which would wrap or copy it; a cancellation, on the other hand, must pass through the scope it belongs to. While the
session joins, delivers and saves, it can be cancelled or interrupted by Ctrl-C, and must still leave nothing
running. The order in ``close`` answers all of this.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from anyio.lowlevel import checkpoint, current_token

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._threads import run_in_thread
from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog
from railtracks.exceptions import SessionEndedError
from railtracks.execution import Coordinator, Frame, find_interrupt, split_cancellation
from railtracks.execution._entering import enter
from railtracks.nodes import FunctionNode
from railtracks.pubsub import PumpHost

SAVE_DEADLINE = 60.0
"""Seconds that saving may take; a file system that hangs must not hang the caller for good."""


class SessionNursery:
    """The task group of one session. Opened and closed in the same task.

    Args:
        coordinator: Runs the calls of the session.
        log: The session's log.
        mark_end: Called when the last call has ended and everything was delivered.
        save: Saves the state; never raises. None if nothing is to be saved.
        saves_in_thread: Whether ``save`` blocks, and so is called in a worker thread.
        report: Called on the event loop after that; never raises.

    Attributes:
        root: The frame of code that is in the session, but in no call.
        body_finished: Whether the session's body has ended.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        log: SessionLog,
        mark_end: Callable[[], None],
        save: Callable[[], None] | None,
        saves_in_thread: bool,
        report: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._log = log
        self._mark_end = mark_end
        self._save = save
        self._saves_in_thread = saves_in_thread
        self._report = report
        self._child_error: BaseException | None = None
        self._interrupt: BaseException | None = None
        self._task_group_closed = False
        self.body_finished = False
        self.root = Frame(coordinator)

    async def open(self) -> None:
        """Open the task group, in the current task."""
        self._task_group = anyio.create_task_group()
        await self._task_group.__aenter__()
        coordinator = self._coordinator
        coordinator.bind()
        coordinator.entered_async = True
        coordinator.loop.token = current_token()
        self._host = PumpHost(self._task_group, self.root)
        coordinator.publisher.attach(self._host)
        coordinator.nursery = self
        self.task = coordinator.loop.current_task()

    def start_soon(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Start a top-level call as a child of the session."""
        if self._task_group_closed:
            raise SessionEndedError(
                f"start_soon({node.name}) came after the session had waited for its children; "
                f"start the call before the body of the session ends"
            )

        async def child() -> None:
            current.set(self.root)  # it is a call of the session, not of the code that started it
            await enter(node, args, kwargs, self.root)

        self.spawn(child)

    def spawn(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await ``func()`` in a task of the session. The session raises what it raises, at the session's end."""
        self._task_group.start_soon(self._child, func)  # it begins later
        self._coordinator.scopes.child_started()

    async def _child(self, func: Callable[[], Awaitable[object]]) -> None:
        try:
            await func()
        except BaseException as exc:
            self._store_child_exception(exc)
        finally:
            self._coordinator.scopes.child_finished()

    def _store_child_exception(self, exc: BaseException) -> None:
        """Store what a child raised, past the task group.

        The task group would wrap an error, and would mistake a stray cancellation (of a future that a node awaited) for
        its own. A cancellation that was sent reaches the code that leaves the session too.
        """
        cancellation, error = split_cancellation(exc)
        if error is None or isinstance(error, Exception):
            error = error or cancellation
            assert error is not None
            if self._child_error is not None:
                self._log_suppressed(error)
            self._child_error = self._child_error or error
        else:  # Ctrl-C or SystemExit, which end everything
            self._interrupt = self._interrupt or error
            self._task_group.cancel_scope.cancel()

    def _log_suppressed(self, error: BaseException) -> None:
        """Log an error of a child that the session does not raise, because it can raise only one."""
        if isinstance(error, Exception) and error is not self._coordinator.failure:
            self._log.log(
                logging.ERROR, "a call made by start_soon raised %r, but the session raises something else",
                error, logger=SESSION, exc_info=error,
            )  # fmt: skip

    async def close(self, exc: BaseException | None) -> None:
        """End everything.

        Args:
            exc: What the body raised. If this method returns, the caller lets that go on.

        Raises:
            KeyboardInterrupt, SystemExit: one ended a child of the session.
            Exception: the first error of a child, when the body raised nothing.
            CancelledError: the same, on asyncio, where a child awaited something of its own that was cancelled.
        Cancellation: what runs is cancelled; delivering and saving go on, within their deadlines; then it is passed on.
        """
        coordinator = self._coordinator
        exit_error: BaseException | None = None
        self.body_finished = True
        if coordinator.streams is not None:
            coordinator.streams.cancel_orphaned(None)
        if exc is None:
            try:
                await self._drain()
            except BaseException as error:  # cancelled or interrupted; raised below, when nothing runs any more
                exit_error = error
        coordinator.close()
        try:
            if (
                self._save is not None
                or coordinator.publisher.subscriptions
                or coordinator.resources is not None
                or not coordinator.scopes.is_idle
            ):
                await shielded(self._finalize)
            else:
                await coordinator.publisher.detach(self._host)
                self._mark_end()
        except BaseException as error:  # it came during the end, which is complete all the same
            exit_error = exit_error or error
        try:
            self._report()
        finally:
            if not self._task_group_closed:
                await self._close_task_group(exit_error or exc)
        if exc is None and exit_error is None and self._interrupt is None and self._child_error is not None:
            raise self._child_error
        if self._child_error is not None and self._child_error is not exc:
            self._log_suppressed(self._child_error)
        if self._interrupt is not None:
            raise self._interrupt
        if exit_error is not None:
            raise exit_error

    async def _drain(self) -> None:
        """Wait for calls, deliveries and children, and close the task group.

        Tasks that were created in the body but have not begun get a turn to make their calls: before the pumps stop,
        if there are any, or else while the task group closes, which is a turn of its own.
        """
        coordinator = self._coordinator
        publisher, scopes = coordinator.publisher, coordinator.scopes
        if publisher.subscriptions:
            await checkpoint()
            in_time = True
            while in_time and not (scopes.is_idle and publisher.drained):
                await scopes.wait_idle()
                in_time = await publisher.wait_drained()  # a callback may make calls
            await shielded(lambda: publisher.detach(self._host, in_time))
        await self._close_task_group(None)
        if not scopes.is_idle:
            await scopes.wait_idle()

    async def _finalize(self) -> None:
        """Wait for cleanup, deliver, save."""
        coordinator = self._coordinator
        await coordinator.scopes.wait_idle()
        await coordinator.publisher.detach(self._host)
        await coordinator.close_resources()
        self._mark_end()
        if self._save is not None:
            await self._run_save(self._save)

    async def _run_save(self, save: Callable[[], None]) -> None:
        if not self._saves_in_thread:
            save()
            return
        with anyio.move_on_after(SAVE_DEADLINE) as scope:
            await run_in_thread(save, abandon_on_cancel=True)
        if scope.cancelled_caught:
            self._log.log(
                logging.ERROR, "the execution info was not saved within %g s; its worker thread goes on",
                SAVE_DEADLINE, logger=SESSION,
            )  # fmt: skip

    async def _close_task_group(self, exc: BaseException | None) -> None:
        """Close the task group. Only a cancellation passes through it."""
        self._task_group_closed = True
        carried = exc if exc is not None and split_cancellation(exc)[0] is not None else None
        info = (None, None, None) if carried is None else (type(carried), carried, carried.__traceback__)
        try:
            await self._task_group.__aexit__(*info)
        except BaseExceptionGroup as group:
            interrupt = find_interrupt(group)  # Ctrl-C reached the task group itself, or a pump of the publisher
            if interrupt is None:
                raise
            self._interrupt = self._interrupt or interrupt
        finally:
            self._coordinator.nursery = None  # which refers to the coordinator
