"""Broadcasts: items that nodes send to the subscribers of their session."""

from __future__ import annotations

from typing import Any

from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks.exceptions import SessionError
from railtracks.execution._coordinator import Coordinator, Frame
from railtracks.execution._lifecycle import Operation
from railtracks.execution._loop_access import require_own_loop
from railtracks.execution._pump_nursery import run_with_pumps
from railtracks.pubsub import callback_of
from railtracks.state import Broadcast


async def publish_broadcast(coordinator: Coordinator, item: Any, frame: Frame) -> None:
    """Publish ``item`` on behalf of the code at ``frame``; see ``rt.broadcast``.

    Raises:
        SessionEndedError: the session has ended.
        SessionError: another event loop runs here than that of the session.

    Cancellation: while it waits for room; the item is not published then.
    """
    coordinator.lifecycle.require(Operation.BROADCAST, "rt.broadcast()")
    if coordinator.outbox is not None:
        coordinator.outbox.add_broadcast(frame.record, item)
        return
    if not coordinator.loop.is_this_thread:
        try:
            require_own_loop(coordinator, "rt.broadcast()", "rt.broadcast_sync, item")
        except SessionError:
            await checkpoint_if_cancelled()  # in code that is being cancelled, that is what counts
            raise
    publisher = coordinator.publisher
    # Without a nursery nothing delivers, unless this opens one. A callback must not: it would wait for its own end.
    if not publisher.has_host and not coordinator.owns_nursery and callback_of.get() is not publisher:
        coordinator.bind()
        await run_with_pumps(coordinator, Frame(coordinator), lambda: _publish(coordinator, item, frame))
    else:
        await _publish(coordinator, item, frame)


async def _publish(coordinator: Coordinator, item: Any, frame: Frame) -> None:
    await coordinator.publisher.wait_for_room(Broadcast)
    publish_now(coordinator, item, frame)


def publish_now(coordinator: Coordinator, item: Any, frame: Frame) -> None:
    """Publish ``item`` on behalf of the code at ``frame``, without waiting for room. Called on the event loop."""
    coordinator.lifecycle.require(Operation.BROADCAST, "rt.broadcast()")
    coordinator.call_log.broadcast(frame.record, item, coordinator.now())
