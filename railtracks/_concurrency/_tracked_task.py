"""Tasks whose end is noticed whatever happens to them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from railtracks._concurrency._event_loop import running_library

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


def start_tracked(group: TaskGroup, func: Callable[[], Awaitable[object]], on_end: Callable[[], object]) -> None:
    """Await ``func()`` in a task of ``group``, and call ``on_end`` once when that task has ended.

    On asyncio a task that is cancelled before its first step runs none of its code, not even a ``finally``; the end of
    ``asyncio.run`` does that. Its first step comes before any callback that is scheduled later, so such a callback
    finds out.

    Args:
        group: The task group.
        func: What to run; it should handle what it raises.
        on_end: Called on the event loop. It must not raise.
    """
    has_begun = False

    async def tracked() -> None:
        nonlocal has_begun
        has_begun = True
        try:
            await func()
        finally:
            on_end()

    def check_begun() -> None:
        if not has_begun:
            handle.coro.close()  # or Python would warn that it was never awaited
            on_end()

    handle = group.start_soon(tracked)
    if not has_begun and running_library() == "asyncio":
        sys.modules["asyncio"].get_running_loop().call_soon(check_begun)
