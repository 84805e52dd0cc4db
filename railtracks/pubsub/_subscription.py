"""A subscription: a bounded buffer, and the pump that delivers its events to a callback.

anyio's memory object streams do not fit: there must always be room for the end of a call, the oldest event must be
droppable, and a pump must be able to stop and start again without losing its buffer, because a session that was
entered with a plain ``with`` has no nursery between its calls. What remains of a stream is a deque and an event, at a
tenth of the cost.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal, get_args

import anyio
from anyio.lowlevel import checkpoint

from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._context_variable import current
from railtracks._logging import PUBLISHER, SessionLog
from railtracks.exceptions import ConfigError
from railtracks.state import Event

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

Policy = Literal["wait", "drop_oldest", "drop_newest", "fail"]
OnError = Literal["keep", "remove"]

in_callback: ContextVar[bool] = ContextVar("railtracks_in_callback", default=False)
"""Whether the running code is part of a callback, which must not wait for room in a buffer that only it can empty."""

_CHECKPOINT_EVERY = 64
"""The number of deliveries between two checkpoints, for callbacks that never wait."""


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
        self._log = log
        self._buffer: deque[Event] = deque()
        self._busy = False  # a delivery is in progress
        self._closed = False  # no more events are accepted
        self._stopping = False  # the pump ends after the current delivery
        self._running = False  # a pump was started and has not ended
        self._scope: anyio.CancelScope | None = None  # of the pump, once it has begun
        self._changed = Condition()  # notified when any of the above changes
        self._waiters: deque[anyio.Event] = deque()  # tasks that wait for room; one is woken for each free place

    def close(self) -> None:
        """Accept no more events. Those that were accepted are still delivered."""
        self._closed = True
        self._wake_one()
        self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether no more events are accepted: it was closed, or its policy removed it, or its session has ended."""
        return self._closed

    @property
    def full(self) -> bool:
        """Whether its buffer holds as many events as its capacity allows."""
        return len(self._buffer) >= self._capacity

    @property
    def quiet(self) -> bool:
        """Whether all that was accepted is delivered."""
        return not self._buffer and not self._busy

    def offer(self, event: Event) -> None:
        """Accept ``event`` or drop one, as the policy says. Never waits, never raises."""
        if self._closed:
            return
        if self.full and self.policy != "wait":
            self.dropped += 1
            if self.policy == "drop_newest":
                return
            if self.policy == "fail":
                self._closed = True
                self._log.log(
                    logging.ERROR, "subscriber %s fell behind by %d events and was removed; it missed %s",
                    self.name, len(self._buffer), type(event).__name__, logger=PUBLISHER,
                )  # fmt: skip
                return
            self._buffer.popleft()
        self._buffer.append(event)
        self._changed.notify_all()

    async def wait_for_room(self) -> None:
        """Wait until there is room for an event. Return at once where the wait could never end."""
        while self.full and not self._closed and self._running and not in_callback.get():
            woken = anyio.Event()
            self._waiters.append(woken)
            try:
                await woken.wait()
            except BaseException:
                if woken.is_set():
                    self._wake_one()  # another waiter may have the room that this one leaves
                else:
                    self._waiters.remove(woken)
                raise

    def _wake_one(self) -> None:
        """Wake one waiter if there is room, or all of them if no pump will make room any more."""
        while self._waiters and (not self.full or self._closed or not self._running):
            self._waiters.popleft().set()
            if self._running and not self._closed:
                return

    async def wait_quiet(self) -> None:
        """Wait until all that was accepted is delivered, or no pump runs."""
        await self._changed.wait_while(lambda: not self.quiet and self._running)

    def start(self, nursery: TaskGroup, frame: object) -> None:
        """Start the pump in ``nursery``. Callbacks run in ``frame``, not in that of the code that subscribed them."""
        self._running = True
        nursery.start_soon(self._pump, frame)

    async def _pump(self, frame: object) -> None:
        # Shielded: the pump ends when the session stops it, not when it is cancelled.
        current.set(frame)
        in_callback.set(True)
        with anyio.CancelScope(shield=True) as self._scope:
            try:
                await self._deliver_all()
            finally:
                self._scope = None
                self._running = self._busy = False
                self._wake_one()
                self._changed.notify_all()

    async def stop(self, seconds: float) -> int:
        """Stop the pump after the current delivery, or cancel it after ``seconds``.

        The buffer is kept for the next pump.

        Returns:
            The number of deliveries that were cut off: 0 or 1.
        """
        self._stopping = True
        self._changed.notify_all()
        with anyio.move_on_after(seconds):
            await self._wait_stopped()
        cut = int(self._busy)
        self.dropped += cut
        if self._scope is not None:
            self._scope.cancel()
        await self._wait_stopped()
        self._stopping = False
        return cut

    async def _wait_stopped(self) -> None:
        await self._changed.wait_while(lambda: self._running)

    def clear(self) -> int:
        """Drop the events in the buffer, and return their number."""
        count = len(self._buffer)
        self._buffer.clear()
        self.dropped += count
        return count

    async def _deliver_all(self) -> None:
        delivered = 0
        while True:
            while self._buffer and not self._stopping:
                event = self._buffer.popleft()
                self._busy = True
                self._wake_one()
                await self._deliver(event)
                self._busy = False
                delivered += 1
                if delivered % _CHECKPOINT_EVERY == 0:
                    await checkpoint()
                self._changed.notify_all()
            if self._stopping:
                return
            await self._changed.wait_while(lambda: not self._buffer and not self._stopping)

    async def _deliver(self, event: Event) -> None:
        try:
            result = self._callback(event)
            if isawaitable(result):
                await result
        except BaseException as exc:  # an error of a subscriber never harms a call: it is logged with its name
            if not isinstance(exc, Exception) and not is_stray_cancellation(exc):
                raise
            self.errors += 1
            if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th ... so that it cannot flood the log
                self._log.log(
                    logging.ERROR, "subscriber %s raised %r (%d in all)", self.name, exc, self.errors,
                    logger=PUBLISHER, exc_info=exc,
                )  # fmt: skip
            if self._on_error == "remove":
                self._closed = True
                self.clear()
