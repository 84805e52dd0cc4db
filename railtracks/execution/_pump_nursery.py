"""Nurseries for calls: the session's own, and that of a call in a session that has none.

A session that was entered with a plain ``with`` in async code has no nursery. There each top-level call opens one, in
which the pumps of the session's subscribers run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._task_groups import find_interrupt, split_cancellation
from railtracks.execution._call_scopes import CallScopes
from railtracks.pubsub import DRAIN_DEADLINE, RTPublisher


class TaskSpawner(Protocol):
    """The nursery of a session, as far as its calls need it."""

    @property
    def task(self) -> object:
        """The task that opened it."""

    @property
    def earlier_cancellations(self) -> int:
        """How many native cancellations of that task came before."""

    def spawn(self, func: Callable[[], Awaitable[object]], on_end: Callable[[], object]) -> None:
        """Await ``func()`` in a task of the session. The session raises what it raises, at the session's end.

        ``on_end`` is called once when the task has ended, even if it was cancelled before its first step.
        """


class _Pumped(Protocol):
    """A session, as far as this module needs it."""

    publisher: RTPublisher
    scopes: CallScopes

    async def close_resources(self, shield: Shield) -> None: ...


async def run_with_pumps(session: _Pumped, frame: object, func: Callable[[], Awaitable[Any]]) -> Any:
    """Run ``func`` beside the pumps of the session's subscribers, in a task group of its own.

    Args:
        session: The coordinator of the session.
        frame: The value of the context variable in callbacks of subscribers.
        func: What to run.

    Raises:
        BaseException: whatever ``func`` raises, as the same object; Ctrl-C and SystemExit of a callback.

    Cancellation: of ``func``; passed on when what was accepted is delivered. So is Ctrl-C that comes meanwhile, also in
    place of an error of ``func``.
    """
    session.scopes.hold()  # the session must not end before the last event is delivered
    try:
        return await _PumpNursery(session, frame).run(func)
    finally:
        session.scopes.release()


class _PumpNursery:
    """The task group of one call, for the pumps: a ``PumpHost``."""

    def __init__(self, session: _Pumped, frame: object) -> None:
        self._session = session
        self.frame = frame
        self._interrupt: BaseException | None = None

    async def run(self, func: Callable[[], Awaitable[Any]]) -> Any:
        result: Any = None
        raised: BaseException | None = None
        cancellation: BaseException | None = None
        shield = Shield()
        try:
            async with anyio.create_task_group() as self.task_group:
                self._session.publisher.attach(self)
                try:
                    result = await func()
                except BaseException as exc:
                    raised, cancellation = exc, split_cancellation(exc)[0]
                    if cancellation is not None:
                        shield.note(cancellation)
                await self._session.publisher.detach(self, shield, anyio.current_time() + DRAIN_DEADLINE)
                await self._session.close_resources(shield)
                if cancellation is not None:
                    raise cancellation
        except BaseExceptionGroup as group:
            self._interrupt = self._interrupt or find_interrupt(group)  # trio may deliver Ctrl-C to the task group
            if self._interrupt is None:
                raise
        except anyio.get_cancelled_exc_class():
            if self._interrupt is None and shield.interruption is None:
                raise
        if self._interrupt is not None:
            raise self._interrupt
        # What came while it delivered counts before an error, which the caller may handle: the program would go on as
        # if nothing had come. Of two cancellations the first counts, with the errors that are in a group with it.
        if shield.interruption is not cancellation:
            shield.check()
        if raised is not None:  # also a cancellation that the task group has lost: anyio counts some as its own
            raise raised
        return result

    def on_interrupt(self, exc: BaseException) -> None:
        """Handle Ctrl-C or SystemExit in a callback: it is raised in place of whatever the call gives."""
        self._interrupt = self._interrupt or exc
        self.task_group.cancel_scope.cancel()
