"""The mailbox of a running session: calls that wait for messages, and the messages that have come for them.

One of the calls that wait leads: it has the store read, delivers what has come to all, and decides whether the run has
to be suspended. It does so when something has been put into the mailbox by this process, when a call has ended and left
nothing but calls that wait, and otherwise now and then: in most stores, messages of other processes do not announce
themselves. Where they do, the store is read at long intervals, in case that an announcement was lost.

Why a message is taken exactly once. A call that takes a message has its number among its attributes, and the value as
its result. Only when both are on disk is the message removed. A message whose number is on record, in this session or
in the run that it resumes, is given to no call again; one whose call did not complete is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._threads import run_in_thread
from railtracks._concurrency._watch_thread import watch_thread
from railtracks._logging import SESSION
from railtracks._test_hooks import runtime_hooks
from railtracks._wording import counted
from railtracks.exceptions import Question, RunCancelledError
from railtracks.execution._lifecycle import Operation
from railtracks.execution._node_errors import Unwound
from railtracks.execution._waiters import CallFrame, RunningSession, Waiter, Waiters
from railtracks.state import CallRecord, Reason, Status, Store
from railtracks.state._file_system import is_blocking
from railtracks.state._serialization._record_text import form_in, is_lossy
from railtracks.state._stores._mailboxes import Mailbox
from railtracks.state._stores._messages import CANCEL, Message, decode_message, listen, topic_of, unlisten

SHORTEST, LONGEST = 0.05, 1.0
"""Seconds between two readings of the mailbox, while a call waits. The time doubles each time."""
ANNOUNCED = 30.0
"""The same where the store announces messages."""
VIRTUAL_READINGS = 40
"""The readings under virtual time, in which they grow apart without limit: or a run that hangs would go on for ever."""


class SessionMailbox:
    """Gives the messages of a run to the calls that wait for them, and suspends or cancels the run.

    Args:
        coordinator: Runs the calls of the session.
        store: The store of the run.
        mailbox: The same, as a mailbox.
        on_record: The numbers of the messages that the resumed run has taken.

    Attributes:
        waiters: The calls that wait.
    """

    __slots__ = (
        "_arrived", "_callback", "_coordinator", "_given", "_has_failed", "_interval", "_is_announced", "_is_looking",
        "_is_stale", "_is_virtual", "_known", "_mailbox", "_must_look", "_readings", "_removable", "_stop_listening",
        "_store", "_token", "_watched", "waiters",
    )  # fmt: skip

    def __init__(self, coordinator: RunningSession, store: Store, mailbox: Mailbox, on_record: set[str]) -> None:
        self._coordinator = coordinator
        self._store = store
        self._mailbox = mailbox
        self._known = dict.fromkeys(on_record, 0)  # what is not read again, with its place in the order of messages
        self._removable = set(on_record)  # of these, what is on record and may still be in the store
        self._arrived: dict[str, Message] = {}  # by number, in order: read, and not given to a call yet
        self._given: dict[str, tuple[CallRecord, Message]] = {}  # by number: not known to be on record yet
        self.waiters: Waiters = Waiters(coordinator)
        self._is_stale = True  # something may have come since the store was last read
        self._interval = SHORTEST
        self._readings = 0
        self._is_virtual = runtime_hooks.get().thread_scheduler is not None
        self._token: EventLoopToken | None = None
        self._callback: Callable[[], None] | None = None
        self._watched: Callable[[], None] | None = None
        self._is_announced = callable(getattr(store, "listen", None)) and not self._is_virtual
        self._stop_listening: Callable[[], object] | None = None
        self._must_look = self._is_looking = False  # for what this process has sent while no call waits
        self._has_failed = False

    @property
    def store(self) -> Store:
        """The store of the run."""
        return self._store

    # ---- from and to other threads

    def open(self, token: EventLoopToken) -> None:
        """Begin to listen for what this process sends, and to look for requests of others. Idempotent."""
        if self._token is not None:
            return
        self._token = token
        self._callback = partial(call_soon, token, self._on_sent)
        listen(self._coordinator.session_id, self._callback)
        if is_blocking(self._store) and not self._is_virtual:
            self._watched = self._look_from_outside
            watch_thread.watch(self._watched, ANNOUNCED if self._is_announced else None)
        if self._is_announced:
            store: Any = self._store
            try:
                self._stop_listening = store.listen(self._coordinator.session_id, self._callback)
            except Exception as exc:  # a user's store may raise anything
                self._log_failure("announces nothing", exc)

    def close(self) -> None:
        """Stop what :meth:`open` began. Idempotent."""
        callback, self._callback = self._callback, None
        watched, self._watched = self._watched, None
        if callback is not None:
            unlisten(self._coordinator.session_id, callback)
        if watched is not None:
            watch_thread.unwatch(watched)
        stop_listening, self._stop_listening = self._stop_listening, None
        if stop_listening is not None:
            stop_listening()

    def _look_from_outside(self) -> None:
        """Read the mailbox in another thread, and have the event loop handle what has come."""
        found = self._read(set())
        if found and self._token is not None:
            call_soon(self._token, partial(self._on_read, found))

    def _on_sent(self) -> None:
        """Handle, on the event loop, that this process has sent a message."""
        self._is_stale = True
        if self.waiters.leader is not None:
            self.waiters.wake_leader()
        elif not is_blocking(self._store):  # it may be a request
            self._look_from_outside()
        else:
            self._must_look = True
            self._start_looking()

    def _start_looking(self) -> None:
        """Have a task of the session read the mailbox, so that the session waits for it, unless it is too late."""
        if self._must_look and not self._is_looking:
            nursery = self._coordinator.nursery
            if nursery is not None and self._coordinator.lifecycle.allows(Operation.START_SOON):
                self._is_looking = True
                nursery.spawn(self._look, self._on_looked)

    async def _look(self) -> None:
        while self._must_look:
            self._must_look = False
            self._on_read(await run_in_thread(partial(self._read, set[str]())))

    def _on_looked(self) -> None:
        self._is_looking = False
        self._start_looking()  # more may have been sent since

    # ---- calls that wait

    async def take(
        self, topic: str, frame: CallFrame, until: float | None = None, question: str | None = None
    ) -> Message | None:
        """Wait for the next message of a topic, and take it for the call of ``frame``, which is running.

        The message is on record when that call has ended.

        Args:
            topic: The topic.
            frame: The frame of the call.
            until: When to give up, on ``anyio.current_time()``; None for never.
            question: The question that the message answers, for people; None if it answers none.

        Returns:
            The message; None if none came in time.

        Cancellation: the wait ends, and no message is taken.
        """
        self.open(current_token())
        assert frame.run is not None
        has_deadline = until is not None or anyio.current_effective_deadline() < frame.run.deadline
        waiter = Waiter(topic, frame, has_deadline, None if question is None else Question(topic, question))
        self._is_stale = True
        self.waiters.add(waiter)
        try:
            with anyio.move_on_at(until) if until is not None else anyio.CancelScope():
                await self._wait(waiter)
        except BaseException:
            if waiter.message is not None:  # it was given just before; another call may have it
                self._give_back(waiter.message)
                waiter.message = None
            raise
        finally:
            self.waiters.remove(waiter)
        message = waiter.message
        if message is not None:
            assert frame.record is not None
            self._given[message.number] = frame.record, message
        return message

    async def _wait(self, waiter: Waiter) -> None:
        while waiter.message is None:
            if self._coordinator.state.is_suspending:
                await checkpoint_if_cancelled()
                raise Unwound
            if self.waiters.leader is None:
                self.waiters.leader = waiter
                self._interval, self._readings = SHORTEST, 0
            if self.waiters.leader is waiter:
                await self._lead(waiter)
            else:
                await waiter.woken.wait()
                waiter.woken = anyio.Event()

    async def _lead(self, waiter: Waiter) -> None:
        """Do what the leader does, once."""
        if self._is_stale:
            await self._refresh()
            return
        if self.waiters.must_suspend():
            self.waiters.suspend()
            return
        with anyio.move_on_after(self._pause()) as scope:
            await waiter.woken.wait()
        if scope.cancelled_caught:
            self._is_stale = True
            self._readings += 1
            longest = float("inf") if self._is_virtual else ANNOUNCED if self._is_announced else LONGEST
            self._interval = min(2 * self._interval, longest)
        else:
            self._interval, self._readings = SHORTEST, 0
        waiter.woken = anyio.Event()

    def _pause(self) -> float:
        """Return how long to wait before the next reading."""
        if self._is_virtual:
            return self._interval if self._coordinator.suspends and self._readings < VIRTUAL_READINGS else float("inf")
        return self._interval if self._coordinator.suspends or is_blocking(self._store) else float("inf")

    def _give_back(self, message: Message) -> None:
        arrived = {**self._arrived, message.number: message}
        self._arrived = dict(sorted(arrived.items(), key=lambda item: self._known[item[0]]))
        self._deliver()

    def _deliver(self) -> None:
        """Give what has arrived to the calls that wait for it: the first message to the first call."""
        for number in self.waiters.deliver(self._arrived.values()):
            del self._arrived[number]

    # ---- the store

    async def _refresh(self) -> None:
        """Read the mailbox, and deliver what has come."""
        self._is_stale = False
        removable = self._settle()
        try:
            if is_blocking(self._store):
                found = await run_in_thread(partial(self._read, removable))
            else:
                found = self._read(removable)
        except BaseException:
            self._is_stale = True
            raise
        self._on_read(found)

    def _settle(self) -> set[str]:
        """Look at what was given to calls that have ended. Return what can be removed, once all that is on disk."""
        for number, (record, message) in list(self._given.items()):
            if record.status is Status.OPEN:
                continue
            del self._given[number]
            if record.status is not Status.COMPLETED:
                self._give_back(message)
            elif not is_lossy(form_in(record.output or "")):
                self._removable.add(number)
            # A value that holds a secret of the session is not on record as a whole. The message stays in the mailbox
            # until the run has completed: a resumed run needs it again.
        return set(self._removable)

    def _read(self, removable: set[str]) -> list[tuple[str, bytes]]:
        """Remove what has been taken, and return the messages that are new. Blocks. Failures are logged."""
        identifier = self._coordinator.session_id
        try:
            numbers = self._mailbox.list_messages(identifier)
            done = removable.intersection(numbers)
            if done and self._is_on_disk():
                for number in numbers:
                    if number in done:
                        self._mailbox.remove_message(identifier, number)
                self._removable -= done
            found = []
            for number in numbers:
                if number not in self._known:
                    content = self._mailbox.read_message(identifier, number)
                    if content is not None:
                        found.append((number, content))
        except Exception as exc:  # a user's store may raise anything
            self._log_failure("cannot be read", exc)
            return []
        return found

    def _is_on_disk(self) -> bool:
        recorder = self._coordinator.recorder
        return recorder is not None and recorder.commit()

    def _on_read(self, found: list[tuple[str, bytes]]) -> None:
        """Handle, on the event loop, what was read."""
        for number, content in found:
            if number in self._known:  # it was read twice
                continue
            self._known[number] = len(self._known)
            try:
                message = decode_message(number, content)
            except Exception as exc:  # a hook of a registered type may raise anything
                self._log_failure(f"has a message that is left out: {number}", exc)
                continue
            if message.request is None:
                self._arrived[number] = message
            elif message.request == CANCEL:
                identifier = self._coordinator.session_id
                error = RunCancelledError(f"the run {identifier!r} was cancelled on request (rt.state.cancel_run)")
                if self._coordinator.end_early(error, Reason.REQUEST):  # otherwise a resumed run is cancelled
                    self._removable.add(number)
        self._deliver()

    def _log_failure(self, what: str, exc: BaseException) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._coordinator.log.log(
                logging.WARNING, "The mailbox of %s %s: %s", self._coordinator.session_id, what, exc, logger=SESSION
            )

    def on_saved(self, has_completed: bool) -> None:
        """Remove what the run needs no more, now that its document is saved. Blocks. Failures are logged.

        Args:
            has_completed: Whether the run has completed, and so receives nothing any more.
        """
        identifier = self._coordinator.session_id
        self._settle()
        try:
            left: dict[str, str] = {}
            for number in self._mailbox.list_messages(identifier):
                if has_completed or number in self._removable:
                    if number not in self._known or number in self._arrived:
                        left[number] = self._topic(number)
                    self._mailbox.remove_message(identifier, number)
        except Exception as exc:  # a user's store may raise anything
            self._log_failure("cannot be cleared", exc)
            return
        if left:
            from railtracks.state._stores._runs import some_of  # here, as few runs leave messages

            self._coordinator.log.log(
                logging.WARNING, "The run %s has completed; %s that nothing received %s removed: %s",
                identifier, counted(len(left), "message"), "was" if len(left) == 1 else "were",
                some_of([*dict.fromkeys(left.values())]), logger=SESSION,
            )  # fmt: skip

    def _topic(self, number: str) -> str:
        """Return the topic of a message, for people."""
        content = self._mailbox.read_message(self._coordinator.session_id, number)
        topic = False if content is None else topic_of(content)
        if topic is None:
            return "a request to cancel it"
        return repr(topic) if isinstance(topic, str) else "what cannot be read"
