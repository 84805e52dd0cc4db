"""``broadcast``, and its form for synchronous code: send an item to the subscribers of the session."""

from __future__ import annotations

import functools
from threading import get_ident
from typing import Any

from railtracks._context_variable import current
from railtracks.exceptions import ContextError
from railtracks.execution import Frame
from railtracks.execution._broadcasts import publish_broadcast, publish_now
from railtracks.execution._from_thread import run_in_session
from railtracks.execution._lifecycle import Operation
from railtracks.execution._loop_access import require_no_loop
from railtracks.execution._work_thread import blocks_loop


async def broadcast(item: Any) -> None:
    """Send ``item`` to the session's ``broadcast_callback`` and to the subscribers of ``rt.state.Broadcast``.

    It does not wait for the delivery, only for room: while a subscriber with the policy "wait" is behind.

    Raises:
        ContextError: there is no session.
        SessionEndedError: the session has ended.
        SessionError: another event loop runs here than that of the session.

    Cancellation: ends the wait; the item is not broadcast then.
    """
    frame: Frame | None = current.get()
    if frame is None:
        raise ContextError(
            "rt.broadcast() was called outside a session; call it in a node, or inside `async with rt.Session():`"
        )
    coordinator = frame.coordinator
    if (
        coordinator.publisher.is_free and coordinator.loop.thread == get_ident() and coordinator.outbox is None
    ):  # as `publish_broadcast`, without the cost of other calls
        coordinator.call_log.broadcast(frame.record, item, coordinator.clock() + coordinator.origin)
    else:
        await publish_broadcast(coordinator, item, frame)


def broadcast_sync(item: Any) -> None:
    """Run ``broadcast`` from synchronous code: in a sync node, or in a plain ``with rt.Session()``.

    It blocks until the item is accepted, which takes longer only while a subscriber with the policy "wait" is behind.
    In a sync node that runs in the thread of the event loop it does not wait for room.

    Raises:
        ContextError: there is no session.
        SessionError: an event loop is running in this thread; the text shows the ``await`` to write.
        SessionEndedError: the session has ended, or this thread works for a call that was cancelled.
    """
    frame: Frame | None = current.get()
    if frame is None:
        raise ContextError(
            "rt.broadcast_sync() was called outside a session; call it in a sync node, or inside `with rt.Session():`"
        )
    if blocks_loop.get() is not None:
        publish_now(frame.coordinator, item, frame)
        return
    require_no_loop(frame.coordinator, "rt.broadcast_sync()", "rt.broadcast(item)", "rt.broadcast_sync, item")
    frame.coordinator.lifecycle.require(Operation.BROADCAST, "rt.broadcast_sync()")
    if frame.coordinator.outbox is not None:  # in a worker, where nothing delivers it
        frame.coordinator.outbox.add_broadcast(frame.record, item)
        return
    run_in_session(frame, functools.partial(broadcast, item), "rt.broadcast_sync()")
