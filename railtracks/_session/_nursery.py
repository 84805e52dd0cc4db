"""The async half of a session: its nursery, from opening to the last task's end.

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
from railtracks.nodes import FunctionNode
from railtracks.pubsub import PumpHost

SAVE_DEADLINE = 60.0
"""Seconds that saving may take; a file system that hangs must not hang the caller for good."""


class Lifetime:
    """The nursery of one session. Opened and closed in the same task.

    Args:
        mark_end: Called when the last call has ended and everything was delivered.
        save: Saves the state; never raises. None if nothing is to be saved.
        in_thread: It blocks, and so is called in a worker thread.
        report: Called on the event loop when that is done; never raises.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        log: SessionLog,
        mark_end: Callable[[], None],
        save: Callable[[], None] | None,
        in_thread: bool,
        report: Callable[[], None],
    ) -> None:
        self._coordinator = coordinator
        self._log = log
        self._mark_end = mark_end
        self._save = save
        self._saves_in_thread = in_thread
        self._report = report
        self._child_error: BaseException | None = None
        self._interrupt: BaseException | None = None
        self._left = False  # the nursery was left
        self.body_is_over = False
        self.root = Frame(coordinator)
        """The frame of code that is in the session, but in no call."""

    async def open(self) -> None:
        """Open the nursery, here and now."""
        self._nursery = anyio.create_task_group()
        await self._nursery.__aenter__()
        coordinator = self._coordinator
        coordinator.bind()
        coordinator.has_nursery = True
        coordinator.loop = current_token()
        self._host = PumpHost(self._nursery, self.root)
        coordinator.publisher.attach(self._host)
        coordinator.house = self
        self.task = coordinator.current_task()

    def start_soon(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Start a top-level call as a child of the session."""
        if self._left:
            raise SessionEndedError(f"start_soon({node.name}) came after the session had waited for its children")

        async def child() -> None:
            current.set(self.root)  # it is a call of the session, not of whoever started it
            await self._coordinator.enter(node, args, kwargs, self.root)

        self.spawn(child)

    def spawn(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await ``func()`` in a task of the session's own. What it raises, the session raises at its end."""
        self._nursery.start_soon(self._child, func)  # it begins later
        self._coordinator.starting(+1)

    async def _child(self, func: Callable[[], Awaitable[object]]) -> None:
        try:
            await func()
        except BaseException as exc:
            self._keep(exc)
        finally:
            self._coordinator.starting(-1)

    def _keep(self, exc: BaseException) -> None:
        """Keep what a child raised, past the nursery.

        It would wrap an error; and a cancellation that nobody sent, of something that a node awaited, would look to it
        as if the child cancelled all of it. One that somebody sent reaches whoever leaves the session too.
        """
        cancellation, error = split_cancellation(exc)
        if error is None or isinstance(error, Exception):
            error = error or cancellation
            assert error is not None
            if self._child_error is not None:
                self._log_lost(error)
            self._child_error = self._child_error or error
        else:  # Ctrl-C, or SystemExit: that ends everything
            self._interrupt = self._interrupt or error
            self._nursery.cancel_scope.cancel()

    def _log_lost(self, error: BaseException) -> None:
        """A session can raise one error; the others are told in the log, unless they are no more than cancellations."""
        if isinstance(error, Exception) and error is not self._coordinator.failure:
            self._log.log(
                logging.ERROR, "a call made by start_soon raised %r, but the session raises something else",
                error, logger=SESSION, exc_info=error,
            )  # fmt: skip

    async def close(self, exc: BaseException | None) -> None:
        """End everything. ``exc`` is what the body raised; if this returns, that is what should go on.

        Raises:
            KeyboardInterrupt, SystemExit: one ended a child of the session.
            Exception: the first error of a child, when the body raised nothing.
            CancelledError: the same, on asyncio, where a child awaited something of its own that was cancelled.
        Cancellation: what runs is cancelled; delivering and saving go on, within their deadlines; then it is passed on.
        """
        coordinator = self._coordinator
        late: BaseException | None = None
        self.body_is_over = True
        if coordinator.streams is not None:
            coordinator.streams.end_left(None)
        if exc is None:
            try:
                await self._join()
            except BaseException as error:  # cancelled or interrupted; raised below, when nothing runs any more
                late = error
        coordinator.close()
        try:
            if (
                self._save is not None
                or coordinator.publisher.subscriptions
                or coordinator.resources is not None
                or not coordinator.idle
            ):
                await shielded(self._wind_up)
            else:
                await coordinator.publisher.detach(self._host)
                self._mark_end()
        except BaseException as error:  # it came while we wound up, which is done all the same
            late = late or error
        try:
            self._report()
        finally:
            if not self._left:
                await self._leave(late or exc)
        if exc is None and late is None and self._interrupt is None and self._child_error is not None:
            raise self._child_error
        if self._child_error is not None and self._child_error is not exc:
            self._log_lost(self._child_error)
        if self._interrupt is not None:
            raise self._interrupt
        if late is not None:
            raise late

    async def _join(self) -> None:
        """Wait for calls, deliveries and children, and leave the nursery.

        Tasks that were made in the body but have not begun get a turn to make their calls: before the pumps stop,
        if there are any, or else while the nursery closes, which is a turn of its own.
        """
        coordinator = self._coordinator
        publisher = coordinator.publisher
        if publisher.subscriptions:
            await checkpoint()
            in_time = True
            while in_time and not (coordinator.idle and publisher.drained):
                await coordinator.wait_idle()
                in_time = await publisher.wait_drained()  # a callback may make calls
            await shielded(lambda: publisher.detach(self._host, in_time))
        await self._leave(None)
        if not coordinator.idle:
            await coordinator.wait_idle()

    async def _wind_up(self) -> None:
        """Wait for cleanup, deliver, save."""
        await self._coordinator.wait_idle()
        await self._coordinator.publisher.detach(self._host)
        await self._coordinator.close_resources()
        self._mark_end()
        if self._save is not None:
            await self._write(self._save)

    async def _write(self, save: Callable[[], None]) -> None:
        if not self._saves_in_thread:
            save()
            return
        with anyio.move_on_after(SAVE_DEADLINE) as scope:
            await run_in_thread(save, abandon_on_cancel=True)
        if scope.cancelled_caught:
            self._log.log(
                logging.ERROR, "the execution info was not saved within %g s; its thread goes on alone",
                SAVE_DEADLINE, logger=SESSION,
            )  # fmt: skip

    async def _leave(self, exc: BaseException | None) -> None:
        """Close the nursery. Only a cancellation passes through it."""
        self._left = True
        carried = exc if exc is not None and split_cancellation(exc)[0] is not None else None
        info = (None, None, None) if carried is None else (type(carried), carried, carried.__traceback__)
        try:
            await self._nursery.__aexit__(*info)
        except BaseExceptionGroup as group:
            interrupt = find_interrupt(group)  # Ctrl-C reached the nursery itself, or a pump of the publisher
            if interrupt is None:
                raise
            self._interrupt = self._interrupt or interrupt
        finally:
            self._coordinator.house = None  # which refers to the coordinator
