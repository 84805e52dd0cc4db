"""``broadcast``: send an item to the subscribers of the session."""

from __future__ import annotations

from typing import Any

from railtracks._context_variable import current
from railtracks.exceptions import ContextError
from railtracks.execution import Frame
from railtracks.execution._broadcasts import publish_broadcast


async def broadcast(item: Any) -> None:
    """Send ``item`` to the session's ``broadcast_callback`` and to the subscribers of ``rt.state.Broadcast``.

    It does not wait for the delivery, only for room: while a subscriber with the policy "wait" is behind.

    Raises:
        ContextError: there is no session.
        SessionEndedError: the session has ended.

    Cancellation: ends the wait; the item is not broadcast then.
    """
    frame: Frame | None = current.get()
    if frame is None:
        raise ContextError(
            "rt.broadcast() was called outside a session; call it in a node, or inside `async with rt.Session():`"
        )
    await publish_broadcast(frame.coordinator, item, frame)
