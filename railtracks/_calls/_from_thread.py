"""How code in another thread gets to the event loop of its session."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from railtracks._concurrency._threads import UnansweredError, run_in_loop
from railtracks.exceptions import SessionEndedError
from railtracks.execution import Frame

T = TypeVar("T")
WAIT_FOR_THREAD = "wait for the thread that calls it before the session ends"
"""What to do about a call of another thread that comes too late; for errors."""


def run_in_session(frame: Frame, func: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
    """Run ``func`` on the event loop of the session that this thread is in, and wait for it. Blocks.

    Args:
        frame: The frame of the code in this thread.
        func: What to run.
        name: What the user has called, for errors.

    Raises:
        BaseException: whatever ``func`` raises, as the same object.
        SessionEndedError: the session has ended, or the call that this thread works for was cancelled.
        SessionError: the session has no event loop that can be reached.
    """
    coordinator = frame.coordinator
    if is_abandoned(frame):
        raise SessionEndedError(
            f"{name} came from a thread whose call was cancelled; let its function return, "
            f"or have its call wait for it: @rt.function_node(abandon_on_cancel=False)"
        ) from coordinator.failure
    try:
        token = None if coordinator.threads.is_host_of_this_thread() else coordinator.loop.require_token()
        return run_in_loop(func, token)
    except UnansweredError as exc:
        reason = (
            "the call of its thread was cancelled; let the function return"
            if is_abandoned(frame)
            else f"its session has ended; {WAIT_FOR_THREAD}"
        )
        raise SessionEndedError(f"{name} was not finished: {reason}") from coordinator.failure or exc


def is_abandoned(frame: Frame) -> bool:
    """Return whether the call at ``frame`` was cancelled, and its thread left behind."""
    return frame.record is not None and frame.record.abandoned
