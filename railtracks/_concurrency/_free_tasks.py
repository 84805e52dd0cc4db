"""Tasks that no task group waits for: whoever starts one has to end it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

from railtracks._concurrency._event_loop import running_library

_tasks: set[Any] = set()
"""The tasks of asyncio that have not ended: the event loop keeps weak references to them."""


def start_free_task(func: Callable[[], Awaitable[None]], on_end: Callable[[], None]) -> None:
    """Start a task in the running event loop, in a copy of the current context.

    Args:
        func: An async function that raises nothing but a cancellation.
        on_end: Called when the task has ended, also if it was cancelled before its first step.
    """

    async def run() -> None:
        try:
            await func()
        finally:
            on_end()

    if running_library() == "trio":  # whose tasks always take their first step
        sys.modules["trio"].lowlevel.spawn_system_task(run, context=copy_context())
        return
    task = sys.modules["asyncio"].get_running_loop().create_task(func())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    task.add_done_callback(lambda _: on_end())
