"""Calls that wait for messages, and whether anything else in their session can go on."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import anyio

from railtracks._logging import SESSION
from railtracks.exceptions import Question, RunCancelledError, RunSuspended
from railtracks.state import CallRecord, Reason, Status
from railtracks.state._stores._messages import Message

if TYPE_CHECKING:
    from railtracks._logging import SessionLog
    from railtracks.execution._call_scopes import RootCall
    from railtracks.execution._lifecycle import Lifecycle
    from railtracks.execution._pump_nursery import TaskSpawner
    from railtracks.execution._recording._recorder import Recorder
    from railtracks.pubsub import RTPublisher
    from railtracks.state._transitions import RTState


class CallFrame(Protocol):
    """The frame of a call, as far as the mailbox needs it."""

    record: CallRecord | None
    run: RootCall | None
    task: object

    @property
    def coordinator(self) -> RunningSession: ...


class LimitWaiters(Protocol):
    """The limits of a session, as far as the mailbox needs them."""

    def blocked(self) -> Mapping[CallRecord, object]: ...


class CachedWaiters(Protocol):
    """The cached calls of a session, as far as the mailbox needs them."""

    @property
    def waiting(self) -> Mapping[int, CallRecord]: ...


class RunningSession(Protocol):
    """The coordinator of a session, as far as the mailbox needs it."""

    session_id: str
    suspends: bool
    state: RTState
    lifecycle: Lifecycle
    log: SessionLog
    publisher: RTPublisher
    recorder: Recorder | None
    nursery: TaskSpawner | None

    @property
    def limits(self) -> LimitWaiters | None: ...
    @property
    def cached_calls(self) -> CachedWaiters | None: ...
    @property
    def outer(self) -> RunningSession | None: ...

    def end_early(self, error: RunCancelledError | RunSuspended, cause: Reason) -> bool: ...


class Waiter:
    """A call that waits for a message.

    Attributes:
        topic: The topic.
        frame: The frame of the call.
        has_deadline: Whether it ends at some time even if no message comes.
        question: The question that the message will answer; None for others.
        woken: Set when there is something to read.
        message: The message that it was given.
    """

    __slots__ = ("frame", "has_deadline", "message", "question", "topic", "woken")

    def __init__(self, topic: str, frame: CallFrame, has_deadline: bool, question: Question | None) -> None:
        self.topic: str = topic
        self.frame: CallFrame = frame
        self.has_deadline: bool = has_deadline
        self.question: Question | None = question
        self.woken: anyio.Event = anyio.Event()
        self.message: Message | None = None


class Waiters:
    """The calls of one session that wait for messages, in the order in which they began to.

    Args:
        session: The session.

    Attributes:
        leader: The one that reads the mailbox for all; None while none does.
    """

    def __init__(self, session: RunningSession) -> None:
        self._session = session
        self._waiters: dict[Waiter, None] = {}
        self._blocked_calls: int | None = None  # these, and their callers; None if that was not counted yet
        self.leader: Waiter | None = None

    def add(self, waiter: Waiter) -> None:
        """Add a call, and have the leader read the mailbox for it."""
        self._waiters[waiter] = None
        self._blocked_calls = None
        self.wake_leader()

    def remove(self, waiter: Waiter) -> None:
        """Remove a call, which waits no more. If it led, another one does."""
        self._waiters.pop(waiter, None)
        self._blocked_calls = None
        if self.leader is waiter:
            self.leader = next(iter(self._waiters), None)
            self.wake_leader()

    def wake_leader(self) -> None:
        """Have the leader read what there is."""
        if self.leader is not None:
            self.leader.woken.set()

    def deliver(self, messages: Iterable[Message]) -> set[str]:
        """Give messages to the calls that wait for them: the first to the first. Return the numbers of those given."""
        waiting: dict[str, deque[Waiter]] = {}
        for waiter in self._waiters:
            if waiter.message is None:
                waiting.setdefault(waiter.topic, deque()).append(waiter)
        given = set()
        for message in messages:
            if message.topic is not None and waiting.get(message.topic):
                waiter = waiting[message.topic].popleft()
                waiter.message = message
                waiter.woken.set()
                given.add(message.number)
        return given

    # ---- suspension

    def on_call_waits(self) -> None:
        """Handle that a call waits for a limit, which may be the last one that could go on."""
        self._blocked_calls = None
        self.on_call_ended()

    def on_call_ended(self) -> None:
        """Have the leader read at once if nothing but calls that wait is open."""
        if self.leader is not None and self._session.suspends and self._are_alone():
            self.leader.woken.set()

    def _are_alone(self) -> bool:
        """Return whether each open call waits for a message, or for a call that does, or has called one of these."""
        if self._blocked_calls is None:
            self._blocked_calls = self._count_blocked()
        return self._session.state.open_calls == self._blocked_calls

    def _count_blocked(self) -> int:
        state = self._session.state
        seen: dict[int, CallRecord] = {}
        limits, cached = self._session.limits, self._session.cached_calls
        waiting = [waiter.frame.record for waiter in self._waiters]
        waiting += () if limits is None else limits.blocked()
        waiting += () if cached is None else cached.waiting.values()
        for record in waiting:
            while record is not None and record.index not in seen:
                seen[record.index] = record
                record = state.caller(record)
        return sum(record.status is Status.OPEN for record in seen.values())

    def must_suspend(self) -> bool:
        """Return whether nothing in the session can go on without an answer or a message."""
        session = self._session
        if not session.suspends or session.lifecycle.failure is not None or session.lifecycle.is_closed:
            return False
        if any(waiter.has_deadline or waiter.message is not None for waiter in self._waiters):
            return False
        self._blocked_calls = None  # a caller may have ended before what it has called
        if not self._are_alone() or not session.publisher.drained:
            return False
        from railtracks.execution._idle import is_at_rest  # here, as few runs are suspended

        waiting = {waiter.frame.task for waiter in self._waiters}
        if session.limits is not None:
            waiting.update(session.limits.blocked().values())
        return is_at_rest(waiting, self._is_inside)

    def _is_inside(self, frame: CallFrame) -> bool:
        """Return whether a frame is in this session, or in one inside it."""
        session: RunningSession | None = frame.coordinator
        while session is not None and session is not self._session:
            session = session.outer
        return session is not None

    def suspend(self) -> None:
        """Suspend the run: end all calls, so that it can be resumed when what they wait for has come."""
        session = self._session
        questions = [waiter.question for waiter in self._waiters if waiter.question is not None]
        topics = [waiter.topic for waiter in self._waiters if waiter.question is None]
        error = RunSuspended(session.session_id, questions, dict.fromkeys(topics))
        session.log.log(logging.INFO, "%s", error, logger=SESSION)
        session.end_early(error, Reason.SUSPENDED)
        for waiter in self._waiters:  # also where no cancellation is delivered, as in a shielded scope
            waiter.woken.set()
