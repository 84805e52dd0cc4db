"""A warning when code of a session blocks its event loop.

Nothing can be done about such code from within the loop, and a call pays nothing for this: while calls run, the watch
thread asks the loop to answer, a few times per limit. If there is no answer for as long as the limit, and the loop is
in code of the session (a node, what it has started, a subscriber's callback, the body), one turn of it has taken that
long. Only then is the stack of the loop's thread read, as that of a running thread says nothing.

asyncio answers at the end of the turn. trio may have another turn before; if that blocks too, both count as one.

There is none of this in virtual time, in which nothing takes time.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from anyio.lowlevel import EventLoopToken

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._watch_thread import watch_thread
from railtracks._identifiers import node_id, run_id
from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig
from railtracks._test_hooks import runtime_hooks
from railtracks.execution._call_scopes import CallScopes

if TYPE_CHECKING:
    from railtracks.execution._running_code import RunningCode

CHECKS = 4
"""Checks of an event loop in the time that a turn of it may take. So what takes a quarter longer is always found."""


def _always() -> bool:
    return True


class _Watching(Protocol):
    """A session, as far as this module needs it."""

    config: ExecutorConfig
    log: SessionLog
    scopes: CallScopes
    session_id: str
    watched_loop: WatchedLoop | None
    """The event loop that is watched for it; None if none is."""


class WatchedLoop:
    """An event loop, and how many sessions are on it.

    Args:
        token: How other threads reach the loop. The current thread runs it.
        clock: Returns monotonic seconds.

    Attributes:
        loop: The loop's own object.
        sessions: How many of its sessions are open. It is watched a little longer, so that sessions that come one after
            another do not begin anew.
    """

    def __init__(self, token: EventLoopToken, clock: Callable[[], float] = time.monotonic) -> None:
        self.sessions: int = 0
        self._coordinators: dict[int, ref[_Watching]] = {}  # by identity; a session that was never left may be freed
        self.loop: Any = token.native_token
        self._token = token
        self._clock = clock
        self._thread = threading.get_ident()
        self._limit = math.inf  # the shortest of its sessions, in seconds
        self._question: list[float] | None = None  # when it was asked of the loop, until that has answered
        self._was_reported = False  # the turn in which the loop is

    def add(self, coordinator: _Watching) -> None:
        """Watch for a session too."""
        self.sessions += 1
        self._coordinators[id(coordinator)] = ref(coordinator)
        coordinator.watched_loop = self
        if coordinator.config.slow_callback_seconds < self._limit:
            self._set_limit(coordinator.config.slow_callback_seconds)

    def remove(self, coordinator: _Watching) -> None:
        """Stop watching for a session. The next check applies the limits of those that are left."""
        self.sessions -= 1
        self._coordinators.pop(id(coordinator), None)

    def _set_limit(self, seconds: float) -> None:
        self._limit = seconds
        watch_thread.watch(self.check, seconds / CHECKS)

    def _live(self) -> list[_Watching]:
        """Return the sessions that there still are, and apply the shortest of their limits."""
        with _guard:
            live = [each for each in (link() for link in self._coordinators.values()) if each is not None]
            limit = min((each.config.slow_callback_seconds for each in live), default=self._limit)
            if limit != self._limit:
                self._set_limit(limit)
            return live

    @property
    def is_over(self) -> bool:
        """Whether it is not used any more, as far as is known: its sessions have ended, or were abandoned by it."""
        is_closed = getattr(self.loop, "is_closed", None)  # trio has none
        return not self.sessions or (is_closed is not None and bool(is_closed()))

    def check(self) -> None:
        """Ask whether the loop goes on, and warn if it has been in some code for too long. For the watch thread."""
        if self.is_over:
            with _guard:
                if self.is_over:  # no session has come meanwhile
                    watch_thread.unwatch(self.check)
                    if _loops.get(self._thread) is self:
                        del _loops[self._thread]
                    return
        if not getattr(self.loop, "is_running", _always)():  # trio has none
            self._question = None  # an asyncio loop that was stopped, and may be started again, answers nothing
            return
        live = self._live()
        question = self._question
        if question is None:
            if any(each.scopes for each in live):  # or an idle program would be woken again and again
                self._was_reported = False
                self._question = question = [self._clock()]
                call_soon(self._token, lambda: self._on_answer(question))
        elif not self._was_reported and (seconds := self._clock() - question[0]) >= self._limit:
            from railtracks.execution._running_code import running_code  # here, as few event loops are blocked

            code = running_code(self._thread)
            if code is not None:
                self._report(code, seconds)

    def _on_answer(self, question: list[float]) -> None:
        if self._question is question:
            self._question = None

    def _report(self, code: RunningCode, seconds: float) -> None:
        coordinator, record = code.coordinator, code.record
        if coordinator.watched_loop is not self or seconds < coordinator.config.slow_callback_seconds:
            return
        self._was_reported = True
        session, ids = coordinator.session_id, {}
        if record is not None:
            ids = {"run_id": run_id(session, record.run), "node_id": node_id(session, record.index)}
        coordinator.log.log(
            logging.WARNING,
            "%s has blocked the event loop for %.1f s so far%s: until it waits, nothing else runs there, and no "
            "timeout or cancellation can end it; write `await anyio.to_thread.run_sync(...)` around what blocks%s",
            _subject(code), seconds, code.place, _SYNC_NODE if code.is_in_call else "", **ids,
        )  # fmt: skip


_SYNC_NODE = ", or make it a sync node (`def` in place of `async def`), which runs in a worker thread"


def _subject(code: RunningCode) -> str:
    if code.is_callback:
        return "the callback of a subscriber"
    if code.record is None:
        return "code outside of the session's calls"
    return code.record.name if code.is_in_call else f"what {code.record.name} has started"


_loops: dict[int, WatchedLoop] = {}
"""The event loops that are watched, by their threads. In guest mode it is the one whose session came last."""
_guard = threading.RLock()  # a finalizer may leave a session while it is held


@after_fork
def _reset() -> None:
    global _guard
    _guard = threading.RLock()
    _loops.clear()


def watch_loop(coordinator: _Watching, token: EventLoopToken) -> None:
    """Watch the event loop of the current thread for a session, whose calls begin to run there. Idempotent."""
    if coordinator.config.slow_callback_seconds == math.inf or runtime_hooks.get().thread_scheduler is not None:
        return
    watched = coordinator.watched_loop
    if watched is not None and watched.loop is token.native_token:
        return
    unwatch_loop(coordinator)
    thread = threading.get_ident()
    with _guard:
        loop = _loops.get(thread)
        if loop is None or loop.loop is not token.native_token:
            if loop is not None:
                watch_thread.unwatch(loop.check)
            loop = _loops[thread] = WatchedLoop(token)
        loop.add(coordinator)


def unwatch_loop(coordinator: _Watching) -> None:
    """Stop watching for a session. Idempotent."""
    loop, coordinator.watched_loop = coordinator.watched_loop, None
    if loop is not None:
        with _guard:
            loop.remove(coordinator)
