"""Which event loop is running, and which task.

Neither library is imported here: one that is not loaded runs nothing, and loading both would be half of the time that
``import railtracks`` takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken


def running_library() -> str | None:
    """ "asyncio" or "trio" if an event loop is running in this thread, or else None. Never raises."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return "asyncio"
    return "trio" if trio is not None and trio.lowlevel.in_trio_run() else None


def task_getter() -> Callable[[], object]:
    """The function that tells the current task of the event loop running here."""
    library = running_library()
    getter: Callable[[], object] = (
        sys.modules["trio"].lowlevel.current_task if library == "trio" else sys.modules["asyncio"].current_task
    )
    return getter


def is_stray_cancellation(exc: BaseException) -> bool:
    """Is ``exc`` a CancelledError of asyncio that nobody sent to this task? A cancelled future raises one."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(exc, asyncio.CancelledError):
        return False
    if running_library() != "asyncio":
        return True
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


def call_soon(token: EventLoopToken, func: Callable[[], object]) -> None:
    """Have an event loop call ``func``; from any thread, at any time. RuntimeError if it has ended."""
    loop: Any = token.native_token
    schedule = getattr(loop, "run_sync_soon", None) or loop.call_soon_threadsafe  # trio's, or asyncio's
    schedule(func)
