"""Refusals of what comes in another event loop than that of its session, or would block the event loop it comes in."""

from __future__ import annotations

from railtracks._concurrency._event_loop import check_no_event_loop
from railtracks.exceptions import SessionError
from railtracks.execution._coordinator import Coordinator


def require_own_loop(coordinator: Coordinator, what: str, blocking: str) -> None:
    """Check that an operation does not come in another event loop than its session's.

    Args:
        coordinator: The coordinator of the session.
        what: The subject of the refusal, such as "the call of greet".
        blocking: The form for synchronous code and its arguments, as ``anyio.to_thread.run_sync`` takes them.

    Raises:
        SessionError: it does.
    """
    if is_elsewhere(coordinator):
        raise SessionError(f"{what} came in another event loop than its session's; write `{_in_thread(blocking)}`")


def require_no_loop(coordinator: Coordinator | None, what: str, awaited: str, blocking: str) -> None:
    """Check that a function which blocks is not called in an event loop.

    Args:
        coordinator: The coordinator of the session that it is called in, if there is one.
        what: The function, for the refusal.
        awaited: What to await in the event loop of the session.
        blocking: As in ``require_own_loop``.

    Raises:
        SessionError: it is.
    """
    is_own = coordinator is None or not is_elsewhere(coordinator)
    check_no_event_loop(what, f"await {awaited}" if is_own else _in_thread(blocking))


def is_elsewhere(coordinator: Coordinator) -> bool:
    """Return whether this thread is not that of the event loop which the session is bound to."""
    return not coordinator.loop.is_this_thread and (coordinator.owns_nursery or bool(coordinator.scopes))


def _in_thread(blocking: str) -> str:
    return f"await anyio.to_thread.run_sync({blocking})"
