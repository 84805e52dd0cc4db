"""One subscriber: a bounded memory channel and the pump that empties it into a callback.

Why not anyio's memory object streams: an end-of-call event must fit in always, the oldest event must be droppable,
and a pump must be able to stop and start again with its buffer kept (a session entered with a plain ``with`` has no
nursery between its calls). What is left of a stream after that is a deque and an event, and costs a tenth of one.
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

from railtracks._backend import is_stray_cancellation
from railtracks._logging import SessionLog
from railtracks._notifier import Notifier
from railtracks._scope import current
from railtracks.exceptions import ConfigError
from railtracks.state import Event

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

Policy = Literal["wait", "drop_oldest", "drop_newest", "fail"]
OnError = Literal["keep", "remove"]

LOGGER = logging.getLogger("RT.Publisher")
in_callback: ContextVar[bool] = ContextVar("railtracks_in_callback", default=False)
"""True in whatever a callback runs: it must not wait for room in a buffer that only it can empty."""

_CHECKPOINT_EVERY = 64
"""Deliveries between two checkpoints, for callbacks that never wait."""


def _describe(callback: Callable[..., Any]) -> str:
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__


class Subscription:
    """A subscriber of a session's events; made by ``session.subscribe``.

    Attributes:
        name: What logs call it.
        dropped: How many events it missed because its channel was full, or because the session ended first.
        errors: How many times its callback raised.
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
        if not callable(callback):
            raise ConfigError(f"subscribe: {callback!r} cannot be called; give a function of one argument")
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise ConfigError(f"subscribe: capacity is {capacity!r}; give a whole number of events, at least 1")
        for label, value, allowed in (("policy", policy, get_args(Policy)), ("on_error", on_error, get_args(OnError))):
            if value not in allowed:
                raise ConfigError(f"subscribe: {label} is {value!r}; give one of {', '.join(allowed)}")
        if not isinstance(kinds, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, Event) for kind in kinds
        ):
            raise ConfigError(f"subscribe: kinds is {kinds!r}; give event classes, such as (rt.state.Broadcast,)")
        self.name: str = name or _describe(callback)
        self.kinds = kinds
        self.policy = policy
        self.dropped: int = 0
        self.errors: int = 0
        self._callback = callback
        self._capacity = capacity
        self._on_error = on_error
        self._log = log
        self._buffer: deque[Event] = deque()
        self._busy = False  # a delivery is under way
        self._closed = False  # takes nothing more
        self._stopping = False  # the pump leaves after this delivery
        self._running = False  # a pump was started and has not left
        self._scope: anyio.CancelScope | None = None  # of the pump, once it has begun
        self._changed = Notifier()  # anything of the above
        self._turns: deque[anyio.Event] = deque()  # of those who wait for room; one is woken for each place

    def close(self) -> None:
        """Take no more events. What was accepted is still delivered."""
        self._closed = True
        self._give_turn()
        self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Takes no more events: closed by its owner, removed by its policy, or its session is over."""
        return self._closed

    @property
    def full(self) -> bool:
        """As many events wait for it as its capacity allows."""
        return len(self._buffer) >= self._capacity

    @property
    def quiet(self) -> bool:
        """Nothing is waiting or being delivered."""
        return not self._buffer and not self._busy

    def offer(self, event: Event) -> None:
        """Take ``event`` or drop one, as the policy says. Never waits, never raises."""
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
                    self.name, len(self._buffer), type(event).__name__, logger=LOGGER,
                )  # fmt: skip
                return
            self._buffer.popleft()
        self._buffer.append(event)
        self._changed.notify_all()

    async def wait_for_room(self) -> None:
        """Wait until an event fits in. Returns at once where waiting could not end."""
        while self.full and not self._closed and self._running and not in_callback.get():
            turn = anyio.Event()
            self._turns.append(turn)
            try:
                await turn.wait()
            except BaseException:
                if turn.is_set():
                    self._give_turn()  # to the next, as this one goes
                else:
                    self._turns.remove(turn)
                raise

    def _give_turn(self) -> None:
        """Wake one of those who wait for room, if there is some; all of them, if no pump will make any."""
        while self._turns and (not self.full or self._closed or not self._running):
            self._turns.popleft().set()
            if self._running and not self._closed:
                return

    async def wait_quiet(self) -> None:
        """Wait until all that was accepted is delivered."""
        await self._changed.wait_while(lambda: not self.quiet and self._running)

    def start(self, nursery: TaskGroup, scope: object) -> None:
        """Start the pump in ``nursery``; callbacks find ``scope`` in the context variable, whoever subscribed them."""
        self._running = True
        nursery.start_soon(self._pump, scope)

    async def _pump(self, scope: object) -> None:
        # Shielded: the end of the session, not a cancellation, decides when it is over.
        current.set(scope)
        in_callback.set(True)
        with anyio.CancelScope(shield=True) as self._scope:
            try:
                await self._deliver_all()
            finally:
                self._scope = None
                self._running = self._busy = False
                self._give_turn()
                self._changed.notify_all()

    async def stop(self, seconds: float) -> int:
        """Stop the pump after the delivery under way, or in ``seconds``; returns how many deliveries were cut off.

        What waits in the buffer stays there, for the next pump.
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
        """Drop what waits in the buffer; returns how many events that were."""
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
                self._give_turn()
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
        except BaseException as exc:  # a subscriber never harms a call: it is told in the log, by name
            if not isinstance(exc, Exception) and not is_stray_cancellation(exc):
                raise
            self.errors += 1
            if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th ... so that it cannot flood the log
                self._log.log(
                    logging.ERROR, "subscriber %s raised %r (%d in all)", self.name, exc, self.errors,
                    logger=LOGGER, exc_info=exc,
                )  # fmt: skip
            if self._on_error == "remove":
                self._closed = True
                self.clear()
