"""Showing what a session does while it runs."""

from __future__ import annotations

from contextvars import Token
from typing import Any

from railtracks._test_hooks import RuntimeHooks
from railtracks.execution import Coordinator, Frame


def show(
    coordinator: Coordinator, hooks: RuntimeHooks, name: str | None, flow_name: str | None, token: Token[Any]
) -> None:
    """Show a session from now on. Nothing is shown in virtual time, as it would depend on real time.

    Args:
        coordinator: Its coordinator.
        hooks: Its clocks.
        name: Its name, if it has one.
        flow_name: The flow that it is a run of, if it is.
        token: What restores the frame around it.
    """
    if hooks.thread_scheduler is not None:
        return
    from railtracks._progress._display import display  # here, as few programs show sessions
    from railtracks._progress._view import SessionView

    around = token.old_value
    is_shown_around = isinstance(around, Frame) and around.coordinator.progress is not None
    coordinator.progress = SessionView(coordinator, name, flow_name, has_summary=not is_shown_around)
    display.add(coordinator.progress)


def hide(coordinator: Coordinator) -> None:
    """Show a session no more. When this returns, nothing is left of what showed it. Idempotent."""
    if coordinator.progress is not None:
        from railtracks._progress._display import display  # loaded by now

        display.remove(coordinator.progress)
        coordinator.progress = None
