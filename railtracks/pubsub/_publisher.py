"""RTPublisher: hands events to subscribers, each over its own bounded channel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from railtracks._ids import Observer
from railtracks._logging import SessionLog
from railtracks.pubsub._subscription import LOGGER, Subscription
from railtracks.state import CallEvent, Event

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


Host = tuple["TaskGroup", object]
"""A nursery that can run pumps, and what the context variable holds for whatever the callbacks do there."""

DRAIN_DEADLINE = 10.0
"""Seconds that subscribers have, when a session ends, to take what was published."""


class RTPublisher:
    """The subscribers of one session.

    ``publish`` is synchronous and never waits. Who may wait does so before: ``wait_for_room``.
    """

    def __init__(self, log: SessionLog, observer: Observer | None = None) -> None:
        self._log = log
        self._observer = observer
        self.subscriptions: list[Subscription] = []
        """In the order in which they subscribed."""
        self._hosts: list[Host] = []  # the first one runs the pumps
        self._leaving: anyio.Lock | None = None  # made by the first host that leaves
        self.watches_calls: bool = observer is not None
        """Does anyone want call events? Kept here so that the hot path reads one attribute."""
        self.waits_on_calls: bool = False
        """Is there one that new calls wait for?"""

    def add(self, subscription: Subscription) -> None:
        """Let ``subscription`` have the events from now on."""
        self.subscriptions.append(subscription)
        calls = any(issubclass(kind, CallEvent) or issubclass(CallEvent, kind) for kind in subscription.kinds)
        self.watches_calls |= calls
        self.waits_on_calls |= calls and subscription.policy == "wait"
        if self._hosts:
            subscription.start(*self._hosts[0])

    @property
    def housed(self) -> bool:
        """Is there a host, so that what is published will be delivered?"""
        return bool(self._hosts)

    def publish(self, event: Event) -> None:
        """Offer ``event`` to all who subscribed to its kind. Never waits, never raises."""
        if self._observer is not None:
            self._observer.happened(event)
        for subscription in self.subscriptions:
            if isinstance(event, subscription.kinds):
                subscription.offer(event)

    async def wait_for_room(self, kind: type[Event]) -> None:
        """Wait until all who want to be waited for have room for an event of ``kind``.

        Cancellation: nothing was published; the wait ends.
        """
        for subscription in self.subscriptions:
            if subscription.policy == "wait" and issubclass(kind, subscription.kinds):
                await subscription.wait_for_room()

    def attach(self, host: Host) -> None:
        """Let pumps run in ``host``; they start here if no other host runs them."""
        self._hosts.append(host)
        if len(self._hosts) == 1:
            self._leaving = None  # this may be another event loop than last time
            self._start_pumps()

    async def detach(self, host: Host, in_time: bool = True) -> None:
        """Deliver what was accepted, within ``DRAIN_DEADLINE``, and take the pumps out of ``host``.

        If other hosts are left, one of them goes on with the pumps; if none is, what was not delivered by then is
        dropped, counted, and logged. ``in_time``: False if the deadline has passed. Does nothing the second time.
        To be called shielded.
        """
        if host not in self._hosts:
            return
        if not self.subscriptions:
            self._hosts.remove(host)
            return
        if self._leaving is None:
            self._leaving = anyio.Lock()
        async with self._leaving:  # one at a time: whoever comes next finds the pumps at their new place
            await self._leave(host, DRAIN_DEADLINE if in_time else 0)

    async def _leave(self, host: Host, seconds: float) -> None:
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
                    subscription.name, DRAIN_DEADLINE, lost, logger=LOGGER,
                )  # fmt: skip
        self._start_pumps()

    @property
    def quiet(self) -> bool:
        """Has everything been delivered?"""
        return all(subscription.quiet for subscription in self.subscriptions)

    async def wait_quiet(self) -> bool:
        """Wait until everything is delivered, for ``DRAIN_DEADLINE`` at the most; False if that was not enough."""
        with anyio.move_on_after(DRAIN_DEADLINE) as scope:
            for subscription in self.subscriptions:
                await subscription.wait_quiet()
        return not scope.cancelled_caught

    def _start_pumps(self) -> None:
        for host in self._hosts[:1]:
            for subscription in self.subscriptions:
                subscription.start(*host)
