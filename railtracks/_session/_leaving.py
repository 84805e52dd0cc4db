"""Whether a session may be left here and now, and what holds up its end."""

from __future__ import annotations

import logging

from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog
from railtracks.exceptions import SessionError
from railtracks.execution import Coordinator, Frame
from railtracks.execution._lifecycle import Operation
from railtracks.pubsub import callback_of
from railtracks.state import Status

LEFT_ELSEWHERE = (
    "the session {} was left in another task than it was entered in; its calls were cancelled and its state was saved; "
    "leave it in the task that entered it, or enter it with a plain `with rt.Session():`, which any task may leave"
)

LONG_WAIT = 5.0
"""Seconds for which the end of a session waits for its calls before a warning names them."""


def check_leaving(coordinator: Coordinator, entered: str, form: str, exc: BaseException | None) -> None:
    """Check that the running code may leave a session.

    Args:
        coordinator: The coordinator of the session.
        entered: The form in which it was entered: "with" or "async with".
        form: The form in which it is left.
        exc: What the body raised.

    Raises:
        SessionError: it may not; the session stays as it is.
    """
    session = f"the session {coordinator.session_id}"
    coordinator.lifecycle.require(Operation.LEAVE, session)
    if form != entered:
        raise SessionError(
            f"{session} was entered with `{entered}` and is left as by `{form}`; write `{entered} rt.Session():`"
        )
    frame: Frame | None = current.get()
    if frame is not None and frame.coordinator is not coordinator and not frame.coordinator.lifecycle.is_closed:
        raise SessionError(
            f"{session} is left before the session {frame.coordinator.session_id} inside it; "
            f"leave the inner one first, as nested `async with` blocks do"
        )
    # A generator that is being closed gets no second chance to leave it.
    if _is_waited_for(coordinator, frame) and not is_kind(exc, GeneratorExit):
        raise SessionError(
            f"{session} is left in one of its own calls or callbacks, which its end waits for; "
            f"leave it in the block that entered it"
        )


def _is_waited_for(coordinator: Coordinator, frame: Frame | None) -> bool:
    """Return whether the end of a session waits for the code at ``frame``, which is running."""
    if callback_of.get() is coordinator.publisher:
        return True
    record = None if frame is None or frame.coordinator is not coordinator else frame.record
    return record is not None and record.status is Status.OPEN


def warn_of_waiting(coordinator: Coordinator, log: SessionLog, are_cancelled: bool) -> None:
    """Warn that a session, which is being left, waits for calls. Call it in the thread of its event loop.

    Args:
        coordinator: The coordinator of the session.
        log: Its log.
        are_cancelled: Whether it has cancelled them.
    """
    from railtracks.execution._waiting import waiting_calls  # here, as few programs need it

    waiting = waiting_calls(coordinator.state.live_entries())
    if not waiting:  # it waits for something else, as a callback that delivers an event
        return
    advice = (
        "They were cancelled; a node that catches that ends its `except` with `raise`"
        if are_cancelled
        else "To end one that does not end by itself, write handle.cancel() before the session is left, with the "
        "handle that start_soon returned"
    )
    log.log(
        logging.WARNING, "The end of the session has waited for %g s, and goes on waiting for these calls: %s. %s",
        LONG_WAIT, "; ".join(waiting), advice, logger=SESSION,
    )  # fmt: skip
