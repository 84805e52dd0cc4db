"""RTPublisher: publishes the events of a session to its subscribers."""

from __future__ import annotations

import logging
from collections import deque

import anyio

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import is_in_task
from railtracks._concurrency._headroom import require_headroom
from railtracks._logging import PUBLISHER, SessionLog
from railtracks._test_hooks import Observer
from railtracks._wording import counted
from railtracks.pubsub._subscription import PumpHost, Subscription, callback_of
from railtracks.state import CallEvent, Event

MAX_INTERRUPTIONS = 2
"""Interruptions of the end of a session after which nothing more is delivered."""
DRAIN_DEADLINE = 10.0
"""Seconds that all subscribers together have, when a session ends, to take the events that were published."""


class RTPublisher:
    """The subscribers of one session.

    ``publish`` is synchronous and never waits. Callers that may wait call ``wait_for_room`` before.

    Attributes:
        subscriptions: The subscriptions, in the order in which they were added.
        watches_calls: Whether a subscriber or the observer wants call events. An attribute, because the hot path reads
            it.
        waits_on_calls: Whether new calls wait for room in a subscription.
        is_free: Whether an event of any kind can be published at once: there is a host (so the session is open), no
            subscription that others wait for is full, and nobody waits. An attribute, because each broadcast depends on
            it. It may be false for longer than that; then ``has_host`` and ``has_room`` decide.
        changed: Notified when an event was delivered that something waits for, and when a pump has ended.
    """

    __slots__ = (
        "_hosts", "_log", "_observer", "_waiters", "changed", "is_free", "subscriptions", "waits_on_calls",
        "watches_calls",
    )  # fmt: skip

    def __init__(self, log: SessionLog, observer: Observer | None = None) -> None:
        self._log = log
        self._observer = observer
        self.subscriptions: list[Subscription] = []
        self.watches_calls: bool = observer is not None
        self.waits_on_calls: bool = False
        self.is_free: bool = False
        self._hosts: list[PumpHost] = []  # pumps are started in the first one
        self._waiters: dict[type[Event], deque[anyio.Event]] = {}  # who waits for room, in order, for each kind
        self.changed: Condition = Condition()

    def add(self, subscription: Subscription) -> None:
        """Send events to ``subscription`` from now on."""
        self.subscriptions.append(subscription)
        subscription.set_owner(self)
        calls = any(issubclass(kind, CallEvent) or issubclass(CallEvent, kind) for kind in subscription.kinds)
        self.watches_calls |= calls
        self.waits_on_calls |= calls and subscription.policy == "wait"
        subscription.start_pump()

    @property
    def has_host(self) -> bool:
        """Whether there is a host, so that published events will be delivered."""
        return bool(self._hosts)

    def publish(self, event: Event) -> None:
        """Offer ``event`` to all subscriptions to its kind. Never waits, never raises."""
        if self._observer is not None:
            self._observer.on_event(event)
        for subscription in self.subscriptions:
            if isinstance(event, subscription.kinds):
                subscription.offer(event)

    # ---- room

    async def wait_for_room(self, kind: type[Event]) -> None:
        """Wait until every subscription to ``kind`` with the policy "wait" has room for an event.

        The caller publishes one event of that kind before it waits for anything else. It returns at once where the
        wait could never end: in a callback.

        Cancellation: the wait ends; nothing was published.
        """
        if self.has_room(kind):
            return
        waiters = self._waiters.setdefault(kind, deque())
        self.is_free = False
        was_woken = False
        while not was_woken or not self._has_room(kind):
            woken = anyio.Event()
            if was_woken:
                waiters.appendleft(woken)  # the room was taken meanwhile, by an event that does not wait
            else:
                waiters.append(woken)
            self._wake(kind)
            try:
                await woken.wait()
            except BaseException:
                if not woken.is_set():
                    waiters.remove(woken)
                self._wake(kind)
                raise
            was_woken = True
        # The next one looks for itself, when this one has published. So no wake-up can be lost, whatever becomes of
        # those who are woken.
        self._wake(kind)

    def has_room(self, kind: type[Event]) -> bool:
        """Return whether ``wait_for_room`` returns at once."""
        if self.is_free or callback_of.get() is self:
            return True
        return not self._waiters.get(kind) and self._has_room(kind)

    def _has_room(self, kind: type[Event]) -> bool:
        for each in self.subscriptions:  # noqa: SIM110 (a generator costs twice as much)
            if each.delays and issubclass(kind, each.kinds):
                return False
        return True

    def _wake(self, kind: type[Event]) -> None:
        waiters = self._waiters[kind]
        if waiters and self._has_room(kind):
            require_headroom()
            waiters.popleft().set()

    def on_room(self) -> None:
        """Wake the first of those who wait for room, if there is room now. See ``PumpOwner``."""
        for kind, waiters in self._waiters.items():
            if waiters:
                self._wake(kind)
        self._update()

    def on_full(self) -> None:
        """Handle that a subscription that is waited for is full. See ``PumpOwner``."""
        self.is_free = False

    def _update(self) -> None:
        self.is_free = (
            bool(self._hosts)
            and not any(self._waiters.values())
            and not any(each.is_awaited for each in self.subscriptions)
        )

    # ---- pumps

    def find_host(self) -> PumpHost | None:
        """Return where a pump can be started. See ``PumpOwner``."""
        return self._hosts[0] if self._hosts else None

    def on_pump_end(self, subscription: Subscription) -> None:
        """Start the pump again if there is something to deliver, and another host. See ``PumpOwner``.

        A pump that was cancelled before its first step is reported by a callback, which cannot start one; the
        wait for the deliveries does that.
        """
        if subscription.undelivered and is_in_task():
            subscription.start_pump()
        self.changed.notify_all()

    def on_callback_error(self, name: str, exc: BaseException) -> None:
        """Notify the observer. See ``PumpOwner``."""
        if self._observer is not None:
            self._observer.on_callback_error(name, exc)

    def attach(self, host: PumpHost) -> None:
        """Allow pumps to run in ``host``, and start there those that do not run."""
        self._hosts.append(host)
        self._update()
        for subscription in self.subscriptions:
            subscription.start_pump()

    def remove_host(self, host: PumpHost) -> None:
        """Start no more pumps in ``host``. Those that run there go on. Does nothing if it is not attached."""
        if host in self._hosts:
            self._hosts.remove(host)
            self._update()

    def _is_delivering(self) -> bool:
        """Return whether there is something to deliver, and start the pumps for it that were cancelled."""
        for subscription in self.subscriptions:
            if subscription.undelivered:
                subscription.start_pump()
        return not self.drained

    def on_quiet(self) -> None:
        """Handle that a subscription has delivered all that it has. See ``PumpOwner``."""
        self.changed.notify_all()

    @property
    def drained(self) -> bool:
        """Whether all that was accepted is delivered."""
        return all(each.quiet for each in self.subscriptions)

    def is_consumed(self) -> bool:
        """Return whether a patient consumer has not taken all of its events yet. Start its pump if it was cancelled."""
        for subscription in self.subscriptions:
            if subscription.is_patient and subscription.undelivered:
                subscription.start_pump()
        return any(each.is_patient and not each.quiet for each in self.subscriptions)

    def abandon_patient(self) -> None:
        """Deliver no more to patient consumers: what cancels the session may have cancelled them too."""
        for subscription in self.subscriptions:
            if subscription.is_patient:
                subscription.close()
                subscription.discard()
                subscription.cancel_pump()

    async def wait_drained(self, deadline: float) -> None:
        """Wait until all is delivered, or ``deadline``, on ``anyio.current_time()``. Cancellation: the wait ends."""
        with anyio.CancelScope(deadline=deadline):
            await self.changed.wait_while(self._is_delivering)

    async def detach(self, host: PumpHost, shield: Shield, deadline: float) -> None:
        """Stop the pumps in ``host``. If other hosts remain, the pumps go on in one of them.

        If it is the last host, everything is delivered first. Events that were not delivered in time are dropped,
        counted and logged. What interrupts this is kept by ``shield``; a second interruption counts as the deadline.

        Args:
            host: The host, as it was attached.
            shield: Keeps what comes meanwhile.
            deadline: When to cut deliveries off, on ``anyio.current_time()``.
        """
        if len(self._hosts) == 1:
            await shield.wait_while(
                lambda: shield.count < MAX_INTERRUPTIONS and self._is_delivering(), self.changed, deadline
            )
        self.remove_host(host)
        own = [each for each in self.subscriptions if each.host is host]
        for subscription in own:
            subscription.stop_pump()
        if own:
            await shield.wait_while(
                lambda: _run_in(host, own) and shield.count < MAX_INTERRUPTIONS, self.changed, deadline
            )
        before = {each: each.dropped for each in self.subscriptions}
        if _run_in(host, own):
            for subscription in own:
                subscription.cancel_pump()
            await shield.wait_while(lambda: _run_in(host, own), self.changed)
        if not self._hosts:
            self._discard_all()
        for subscription, count in before.items():
            if subscription.dropped > count:
                self._log_dropped(subscription, subscription.dropped - count)

    def _discard_all(self) -> None:
        for subscription in self.subscriptions:
            subscription.discard()

    def _log_dropped(self, subscription: Subscription, count: int) -> None:
        self._log.log(
            logging.ERROR, "subscriber %s did not take all events before the session had ended; it missed %s",
            subscription.name, counted(count, "event"), logger=PUBLISHER,
        )  # fmt: skip

    def stop_pumps(self) -> None:
        """Have all pumps end without waiting for them. Call it on the event loop, while that runs."""
        for subscription in self.subscriptions:
            subscription.stop_pump()

    def close(self) -> None:
        """Accept no more events, from anyone: the session is over. What came after the pumps had stopped is dropped."""
        for subscription in self.subscriptions:
            if late := subscription.undelivered:
                subscription.discard()
                self._log_dropped(subscription, late)
            subscription.close()
        self._hosts.clear()  # which refer to the session
        self._update()


def _run_in(host: PumpHost, subscriptions: list[Subscription]) -> bool:
    return any(each.host is host for each in subscriptions)
