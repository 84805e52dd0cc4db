"""RTPublisher: publishes the events of a session to its subscribers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import anyio

from railtracks._logging import PUBLISHER, SessionLog
from railtracks._test_hooks import Observer
from railtracks.pubsub._subscription import Subscription
from railtracks.state import CallEvent, Event

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


class PumpHost(NamedTuple):
    """Where pumps can run."""

    nursery: TaskGroup
    """The nursery that runs the pumps as tasks."""

    frame: object
    """The frame in which callbacks run: what the context variable holds in these tasks."""


DRAIN_DEADLINE = 10.0
"""Seconds that subscribers have, when a session ends, to take the events that were published."""


class RTPublisher:
    """The subscribers of one session.

    ``publish`` is synchronous and never waits. Callers that may wait call ``wait_for_room`` before.

    Attributes:
        subscriptions: The subscriptions, in the order in which they were added.
        watches_calls: Whether a subscriber or the observer wants call events. An attribute, because the hot path reads
            it.
        waits_on_calls: Whether new calls wait for room in a subscription.
    """

    def __init__(self, log: SessionLog, observer: Observer | None = None) -> None:
        self._log = log
        self._observer = observer
        self.subscriptions: list[Subscription] = []
        self.watches_calls: bool = observer is not None
        self.waits_on_calls: bool = False
        self._hosts: list[PumpHost] = []  # the first one runs the pumps
        self._detach_lock: anyio.Lock | None = None  # made by the first host that is detached

    def add(self, subscription: Subscription) -> None:
        """Send events to ``subscription`` from now on."""
        self.subscriptions.append(subscription)
        calls = any(issubclass(kind, CallEvent) or issubclass(CallEvent, kind) for kind in subscription.kinds)
        self.watches_calls |= calls
        self.waits_on_calls |= calls and subscription.policy == "wait"
        if self._hosts:
            subscription.start(*self._hosts[0])

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

    async def wait_for_room(self, kind: type[Event]) -> None:
        """Wait until every subscription to ``kind`` with the policy "wait" has room for an event.

        Cancellation: the wait ends; nothing was published.
        """
        for subscription in self.subscriptions:
            if subscription.policy == "wait" and issubclass(kind, subscription.kinds):
                await subscription.wait_for_room()

    def attach(self, host: PumpHost) -> None:
        """Allow pumps to run in ``host``, and start them there if no other host runs them."""
        self._hosts.append(host)
        if len(self._hosts) == 1:
            self._detach_lock = None  # the event loop may be another one than last time
            self._start_pumps()

    async def detach(self, host: PumpHost, in_time: bool = True) -> None:
        """Deliver what was accepted, within ``DRAIN_DEADLINE``, and stop the pumps in ``host``.

        If other hosts remain, one of them takes over the pumps. Otherwise events that were not delivered in time are
        dropped, counted and logged. Idempotent. Must be called shielded.

        Args:
            host: The host, as it was attached.
            in_time: False if the deadline has passed already.
        """
        if host not in self._hosts:
            return
        if not self.subscriptions:
            self._hosts.remove(host)
            return
        if self._detach_lock is None:
            self._detach_lock = anyio.Lock()
        async with self._detach_lock:  # one at a time: the next host finds the pumps where they have moved
            await self._detach(host, DRAIN_DEADLINE if in_time else 0)

    async def _detach(self, host: PumpHost, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            for subscription in self.subscriptions:
                await subscription.wait_quiet()
        runs_pumps = self._hosts[0] is host
        self._hosts.remove(host)
        if not runs_pumps:
            return
        for subscription in self.subscriptions:
            lost = await subscription.stop(seconds)
            if not self._hosts:
                lost += subscription.clear()
            if lost:
                self._log.log(
                    logging.ERROR, "subscriber %s did not take its events within %g s; %d were dropped",
                    subscription.name, DRAIN_DEADLINE, lost, logger=PUBLISHER,
                )  # fmt: skip
        self._start_pumps()

    @property
    def drained(self) -> bool:
        """Whether all that was accepted is delivered."""
        return all(subscription.quiet for subscription in self.subscriptions)

    async def wait_drained(self) -> bool:
        """Wait up to ``DRAIN_DEADLINE`` until all is delivered, and return whether it is."""
        with anyio.move_on_after(DRAIN_DEADLINE) as scope:
            for subscription in self.subscriptions:
                await subscription.wait_quiet()
        return not scope.cancelled_caught

    def _start_pumps(self) -> None:
        for host in self._hosts[:1]:
            for subscription in self.subscriptions:
                subscription.start(*host)
