"""RTPublisher: hands events to subscribers, each over its own bounded channel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from railtracks._logging import SessionLog
from railtracks.pubsub._subscription import LOGGER, OnError, Policy, Subscription
from railtracks.state import CallEvent, Event

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


class RTPublisher:
    """The subscribers of one session.

    ``publish`` is synchronous and never waits. Who may wait does so before: ``wait_for_room``.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self.subscriptions: list[Subscription] = []
        """In the order in which they subscribed."""
        self._hosts: list[TaskGroup] = []  # nurseries that can run pumps; the first one does
        self.watches_calls = False
        """Is there a subscriber for call events? Kept here so that the hot path reads one attribute."""
        self.waits_on_calls = False
        """Is there one that new calls wait for?"""

    def subscribe(
        self,
        callback: Callable[[Any], Any],
        *,
        name: str | None = None,
        kinds: tuple[type[Event], ...] = (Event,),
        capacity: int = 1024,
        policy: Policy = "drop_oldest",
        on_error: OnError = "keep",
    ) -> Subscription:
        """Add a subscriber; see ``Session.subscribe``."""
        subscription = Subscription(
            callback, name=name, kinds=kinds, capacity=capacity, policy=policy, on_error=on_error, log=self._log
        )
        self.subscriptions.append(subscription)
        calls = any(issubclass(kind, CallEvent) or issubclass(CallEvent, kind) for kind in kinds)
        self.watches_calls |= calls
        self.waits_on_calls |= calls and policy == "wait"
        if self._hosts:
            subscription.start(self._hosts[0])
        return subscription

    def publish(self, event: Event) -> None:
        """Offer ``event`` to all who subscribed to its kind. Never waits, never raises."""
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

    def attach(self, host: TaskGroup) -> None:
        """Let pumps run in ``host``; they start here if no other host runs them."""
        self._hosts.append(host)
        if len(self._hosts) == 1:
            self._start(host)

    async def detach(self, host: TaskGroup, deadline: float) -> None:
        """Deliver what was accepted, within ``deadline`` seconds, and take the pumps out of ``host``.

        What was not delivered by then is dropped, counted, and logged. Call it shielded.
        """
        runs_pumps = self._hosts[0] is host
        self._hosts.remove(host)
        if not runs_pumps:
            return
        with anyio.move_on_after(deadline) as scope:
            for subscription in self.subscriptions:
                await subscription.stop()
        if scope.cancelled_caught:
            await self._abort(deadline)
        if self._hosts:
            self._start(self._hosts[0])

    async def wait_quiet(self, deadline: float) -> bool:
        """Wait until everything is delivered, ``deadline`` seconds at the most; False if they were not enough."""
        with anyio.move_on_after(deadline) as scope:
            for subscription in self.subscriptions:
                await subscription.wait_quiet()
        return not scope.cancelled_caught

    def _start(self, host: TaskGroup) -> None:
        for subscription in self.subscriptions:
            subscription.start(host)

    async def _abort(self, deadline: float) -> None:
        for subscription in self.subscriptions:
            if subscription.quiet:
                continue
            subscription.abort()
            self._log.log(
                logging.ERROR, "subscriber %s did not take its events within %g s; %d were dropped",
                subscription.name, deadline, subscription.dropped, logger=LOGGER,
            )  # fmt: skip
        for subscription in self.subscriptions:
            await subscription.stop()
