"""Showing what a session does while it runs."""

from __future__ import annotations

from railtracks._context_variable import current
from railtracks._test_hooks import RuntimeHooks
from railtracks.execution import Coordinator, Frame


def show(coordinator: Coordinator, hooks: RuntimeHooks, name: str | None, flow_name: str | None) -> None:
    """Show a session that is about to be opened. The context variable names what is around it.

    If it cannot be shown, that is logged, and the session goes on. Nothing is shown in virtual time, as it would depend
    on real time.

    Args:
        coordinator: Its coordinator.
        hooks: Its clocks.
        name: Its name, if it has one.
        flow_name: The flow that it is a run of, if it is.

    Raises:
        KeyboardInterrupt, SystemExit: raised by standard error, if that is an object of a user. Nothing is shown then.
    """
    if hooks.thread_scheduler is not None:
        return
    from railtracks._progress._display import display, log_failure  # here, as few programs show sessions
    from railtracks._progress._view import SessionView

    around: Frame | None = current.get()
    is_shown_around = around is not None and around.coordinator.view is not None
    coordinator.view = SessionView(coordinator, name, flow_name, has_summary=not is_shown_around)
    try:
        display.add(coordinator.view)
    except Exception as exc:
        coordinator.view = None
        log_failure(coordinator.log, exc)


def hide(coordinator: Coordinator, has_begun: bool = True) -> None:
    """Stop showing a session. When this returns, nothing is left of what showed it. Idempotent.

    Args:
        coordinator: Its coordinator.
        has_begun: Whether it was entered. Otherwise there is no end of it, of which a line would stay.
    """
    if coordinator.view is not None:
        from railtracks._progress._display import display  # loaded by now

        coordinator.view.has_summary &= has_begun
        display.remove(coordinator.view)
        coordinator.view = None
