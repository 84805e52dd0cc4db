"""A subscription: a bounded buffer, and the pump that delivers its events to a callback.

anyio's memory object streams do not fit: there must always be room for the end of a call, the oldest event must be
droppable, and a pump must be able to stop and start again without losing its buffer, because a session that was
entered with a plain ``with`` has no nursery between its calls. What remains of a stream is a deque and an event, at a
tenth of the cost.

A pump runs in a host: a task group. Where it runs is decided by the publisher; a pump that was cancelled with all
other tasks of the event loop is started again when there is something to deliver.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from inspect import isawaitable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import anyio
from anyio.lowlevel import checkpoint

from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._task_groups import find_interrupt, split_cancellation
from railtracks._concurrency._tracked_task import start_tracked
from railtracks._context_variable import current
from railtracks._logging import PUBLISHER, SessionLog
from railtracks._wording import counted
from railtracks.exceptions import ConfigError
from railtracks.state import Event

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

Policy = Literal["wait", "drop_oldest", "drop_newest", "fail"]
OnError = Literal["keep", "remove"]

callback_of: ContextVar[object] = ContextVar("railtracks_callback_of", default=None)
"""The publisher whose callback the running code is part of; None outside callbacks.

Such code must not wait for room in a buffer that only it can empty.
"""

_CHECKPOINT_EVERY = 128
"""The number of deliveries between two checkpoints, for callbacks that never wait."""


class PumpHost(Protocol):
    """Where pumps can run: a nursery."""

    task_group: TaskGroup
    """Runs the pumps as tasks."""
    frame: Any
    """The frame in which callbacks run: what the context variable holds in these tasks."""

    def on_interrupt(self, exc: BaseException) -> None:
        """Handle a KeyboardInterrupt or SystemExit of a callback, which ends the program."""


class PumpOwner(Protocol):
    """The publisher, as far as a subscription needs it."""

    is_free: bool
    """If it is true, ``on_room`` need not be called."""

    def on_full(self) -> None:
        """Handle that a subscription is full, and others wait until it is not."""

    def on_room(self) -> None:
        """Handle that a buffer may have room, or that nothing needs to wait for it any more."""

    def on_quiet(self) -> None:
        """Handle that a subscription has delivered all that it has."""

    def on_pump_end(self, subscription: Subscription) -> None:
        """Handle that the pump of a subscription has ended."""

    def on_callback_error(self, name: str, exc: BaseException) -> None:
        """Handle that the callback of the subscription of this name has raised."""

    def find_host(self) -> PumpHost | None:
        """Return the host for a pump that has to be started; None if there is none."""


def _check_arguments(callback: object, kinds: object, capacity: object, policy: object, on_error: object) -> None:
    if not callable(callback):
        raise ConfigError(f"subscribe: {callback!r} is not callable; pass a function of one argument")
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise ConfigError(f"subscribe: capacity must be an integer of at least 1, not {capacity!r}")
    for label, value, allowed in (("policy", policy, get_args(Policy)), ("on_error", on_error, get_args(OnError))):
        if value not in allowed:
            raise ConfigError(f"subscribe: {label} must be one of {', '.join(allowed)}, not {value!r}")
    if not isinstance(kinds, tuple) or not all(isinstance(kind, type) and issubclass(kind, Event) for kind in kinds):
        raise ConfigError(
            f"subscribe: kinds must be a tuple of event classes, such as (rt.state.Broadcast,), not {kinds!r}"
        )


class Subscription:
    """A subscription to a session's events; made by ``session.subscribe``.

    Attributes:
        name: The name in logs.
        kinds: The classes of the events that it takes.
        policy: What happens when an event comes and its buffer is full.
        dropped: The number of events that it missed because its buffer was full, or because the session ended first.
        errors: The number of times that its callback raised.
        host: Where its pump runs; None if it does not run.
        is_patient: Whether the end of the session waits for its deliveries without a limit.
    """

    def __init__(
        self,
        callback: Callable[[Any], Any],
        *,
        name: str | None,
        kinds: tuple[type[Event], ...],
        capacity: int,
        policy: Policy,
        on_error: OnError,
        log: SessionLog,
        is_patient: bool = False,
    ) -> None:
        _check_arguments(callback, kinds, capacity, policy, on_error)
        self.name: str = name or getattr(callback, "__qualname__", None) or type(callback).__qualname__
        self.kinds = kinds
        self.policy = policy
        self.dropped: int = 0
        self.errors: int = 0
        self._callback = callback
        self._capacity = capacity
        self._on_error = on_error
        self.is_patient = is_patient
        self._log = log
        self._buffer: deque[Event] = deque()
        self._busy = False  # a delivery is in progress
        self._closed = False  # no more events are accepted
        self._is_dead = False  # a callback has ended the program; what comes now is dropped
        self._stopping = False  # the pump ends after the current delivery
        self._is_idle = True  # the pump does not run, or waits for an event
        self._owner: PumpOwner | None = None  # set by the publisher
        self._scope: anyio.CancelScope | None = None  # of the pump, once it has begun
        self.host: PumpHost | None = None
        self._changed = Condition()  # notified when there is something to do for the pump

    def close(self) -> None:
        """Accept no more events. Those that were accepted are still delivered."""
        self._closed = True
        self._on_changed()

    @property
    def closed(self) -> bool:
        """Whether no more events are accepted: it was closed, or its policy removed it, or its session has ended."""
        return self._closed

    @property
    def quiet(self) -> bool:
        """Whether all that was accepted is delivered."""
        return not self._buffer and not self._busy

    @property
    def delays(self) -> bool:
        """Whether those who are to wait for room must wait: it is full, and its pump will make room."""
        return self.is_awaited and not self._closed and self.host is not None

    @property
    def is_awaited(self) -> bool:
        """Whether it is full, and its policy has others wait for room."""
        return len(self._buffer) >= self._capacity and self.policy == "wait"

    def offer(self, event: Event) -> None:
        """Accept ``event`` or drop one, as the policy says. Never waits, never raises."""
        if self._closed:
            return
        if self._is_dead:
            self.dropped += 1
            return
        self._buffer.append(event)
        if len(self._buffer) >= self._capacity:
            self._on_full()
        if self._is_idle:
            self._wake_pump()

    def _wake_pump(self) -> None:
        if self.host is None:
            self.start_pump()
        else:
            self._changed.notify_all()
            self._is_idle = False

    def _on_full(self) -> None:
        """Handle that an event was accepted and the buffer is full, or holds one more than it may."""
        if self.policy == "wait":
            if self._owner is not None:
                self._owner.on_full()
            return
        if len(self._buffer) <= self._capacity:
            return
        self.dropped += 1
        if self.policy == "drop_oldest":
            self._buffer.popleft()
            return
        event = self._buffer.pop()
        if self.policy == "fail":
            self._closed = True
            self._log.log(
                logging.ERROR, "subscriber %s fell behind by %s and was removed; it missed %s",
                self.name, counted(len(self._buffer), "event"), type(event).__name__, logger=PUBLISHER,
            )  # fmt: skip

    def _on_changed(self) -> None:
        if self._owner is not None:
            self._owner.on_room()

    # ---- the pump

    def set_owner(self, owner: PumpOwner) -> None:
        """Belong to a publisher, which knows where pumps can run."""
        self._owner = owner

    def start_pump(self) -> None:
        """Start the pump, if it does not run and there is a place for it.

        Callbacks run in the frame of the host, not in that of the code that subscribed them.
        """
        if self.host is not None or self._is_dead or self._owner is None or (host := self._owner.find_host()) is None:
            return
        self.host = host  # first, because an eager task may end before start_tracked returns
        self._stopping = self._is_idle = False
        try:
            start_tracked(host.task_group, functools.partial(self._pump, host, self._owner), self._on_pump_end)
        except BaseException:
            self.host, self._is_idle = None, True
            raise

    def stop_pump(self) -> None:
        """Have the pump end after the current delivery. What is in the buffer stays there."""
        self._stopping = True
        self._changed.notify_all()

    def cancel_pump(self) -> None:
        """Cancel the pump in the middle of a delivery, which is counted as dropped unless the callback finishes it."""
        self._stopping = True
        if self._scope is not None:
            self._scope.cancel()
        self._changed.notify_all()

    def discard(self) -> None:
        """Drop the events in the buffer."""
        self.dropped += len(self._buffer)
        self._buffer.clear()

    @property
    def undelivered(self) -> int:
        """The number of accepted events whose delivery has not begun."""
        return len(self._buffer)

    def _on_pump_end(self) -> None:
        self.host = self._scope = None
        self._is_idle = True
        if self._busy:  # it was cancelled in the middle of a delivery
            self._busy = False
            self.dropped += 1
        self._on_changed()
        if self._owner is not None:
            self._owner.on_pump_end(self)

    async def _pump(self, host: PumpHost, owner: PumpOwner) -> None:
        # Shielded: the pump ends when the session stops it, not when it is cancelled.
        current.set(host.frame)
        callback_of.set(owner)
        try:
            with anyio.CancelScope(shield=True) as self._scope:
                await self._deliver_all(owner)
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            if is_kind(cancellation, GeneratorExit):
                raise
            # `task.cancel()` on asyncio, as by the end of `asyncio.run`, goes through the shield. The session decides
            # when the pump is needed again, and its task group must not take this for a failure.
            if error is not None:
                self._on_error_outside(error, host)

    def _on_error_outside(self, error: BaseException, host: PumpHost) -> None:
        """Handle what has ended the pump: Ctrl-C or SystemExit, or an error while a delivery was cancelled."""
        interrupt = find_interrupt(error) if is_kind(error, BaseExceptionGroup) else error
        if is_kind(interrupt, (KeyboardInterrupt, SystemExit)):
            self._busy = False
            self._is_dead = True
            self.discard()
            host.on_interrupt(interrupt)
        else:
            self._on_callback_error(error)

    async def _deliver_all(self, owner: PumpOwner) -> None:
        """Deliver until the pump is stopped. One function, as each event of a session comes through it."""
        buffer, callback, delivered = self._buffer, self._callback, 0
        while True:
            while buffer and not self._stopping:
                event = buffer.popleft()
                self._busy = True
                if not owner.is_free:
                    owner.on_room()
                try:
                    result = callback(event)
                    if type(result) is CoroutineType or (result is not None and isawaitable(result)):
                        await result
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as exc:  # an error of a subscriber never harms a call: it is logged with its name
                    if split_cancellation(exc)[0] is not None and not is_stray_cancellation(exc):
                        raise
                    self._on_callback_error(exc)
                self._busy = False
                delivered += 1
                if delivered % _CHECKPOINT_EVERY == 0:
                    await checkpoint()
            owner.on_quiet()
            if self._stopping:
                return
            await self._changed.wait_while(self._has_nothing_to_do)

    def _has_nothing_to_do(self) -> bool:
        """Return whether the pump has to wait. It is idle then."""
        self._is_idle = not self._buffer and not self._stopping
        return self._is_idle

    def _on_callback_error(self, exc: BaseException) -> None:
        self.errors += 1
        if self._owner is not None:
            self._owner.on_callback_error(self.name, exc)
        if self._on_error == "remove":
            self._closed = True
            self.discard()
            self._on_changed()
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th ... so that it cannot flood the log
            self._log.log(
                logging.ERROR, "subscriber %s raised %r (%d in all)", self.name, exc, self.errors,
                logger=PUBLISHER, exc_info=exc,
            )  # fmt: skip
