"""The event loop that is running, and its current task.

Neither asyncio nor trio is imported here. A library that is not loaded runs nothing, and loading both would take half
of the time of ``import railtracks``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from contextvars import copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import current_token

from railtracks._concurrency._kinds import is_kind
from railtracks.exceptions import SessionError

if TYPE_CHECKING:
    from anyio import Event
    from anyio.lowlevel import EventLoopToken


def running_library() -> str | None:
    """Return "asyncio" or "trio" if an event loop of it is running in this thread, else None. Never raises."""
    # Another thread may be importing the library, which has some of its names then. It runs nothing yet.
    running_loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    runs_asyncio = running_loop is not None and running_loop() is not None
    trio = sys.modules.get("trio")
    if trio is None:
        return "asyncio" if runs_asyncio else None
    in_trio_run = getattr(getattr(trio, "lowlevel", None), "in_trio_run", None)
    if in_trio_run is None or not in_trio_run():
        return "asyncio" if runs_asyncio else None
    if runs_asyncio and sys.modules["sniffio"].thread_local.name != "trio":  # trio is its guest, and has no turn now
        return "asyncio"
    return "trio"


def check_no_event_loop(call: str, instead: str) -> None:
    """Check that no event loop is running in this thread, as a call that blocks would stop it.

    Args:
        call: What was called, for the error.
        instead: What to write in async code.

    Raises:
        SessionError: one is.
    """
    if library := running_library():
        raise SessionError(
            f"{call} was called inside a running {library} event loop, which it would block; write `{instead}`"
        )


def has_ended(task: Any) -> bool:
    """Return whether a task, of asyncio or trio, has ended; False for None."""
    if task is None:
        return False
    return bool(task.done()) if hasattr(task, "done") else task.coro.cr_frame is None


def is_in_task() -> bool:
    """Return whether the running code is part of a task, and not of a callback of the event loop."""
    return running_library() == "trio" or sys.modules["asyncio"].current_task() is not None


def cancellation_types() -> tuple[type[BaseException], ...]:
    """Return the exceptions that cancel tasks, of the libraries that are loaded. No event loop needs to be running."""
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    types: list[type[BaseException]] = [] if asyncio is None else [asyncio.CancelledError]
    if hasattr(trio, "Cancelled"):  # it may be half imported
        types.append(trio.Cancelled)  # type: ignore[union-attr]
    return tuple(types)


def task_getter() -> Callable[[], object]:
    """Return the function that returns the current task of the event loop running in this thread.

    It raises RuntimeError in other threads.
    """
    if running_library() == "trio":
        trio_task: Callable[[], object] = sys.modules["trio"].lowlevel.current_task
        return trio_task
    asyncio = sys.modules["asyncio"]
    loop_task: Callable[[], object] = asyncio.current_task
    if sys.version_info >= (3, 12):
        return loop_task
    # Before Python 3.12 `current_task()` asks the system for the number of the process, each time, to find the running
    # loop. That takes twice as long as all else that it does.
    loop, loop_thread = asyncio.get_running_loop(), get_ident()

    def current_task() -> object:
        if get_ident() != loop_thread:
            raise RuntimeError("the event loop runs in another thread")
        return asyncio.current_task(loop)

    return current_task


def clock_getter() -> Callable[[], float]:
    """Return what ``anyio.current_time`` calls in the event loop running in this thread, at a third of its cost."""
    if running_library() == "trio":
        trio_clock: Callable[[], float] = sys.modules["trio"].current_time
        return trio_clock
    loop_clock: Callable[[], float] = sys.modules["asyncio"].get_running_loop().time
    return loop_clock


def is_stray_cancellation(exc: BaseException) -> bool:
    """Return whether ``exc`` is a CancelledError that does not cancel this task, such as that of a cancelled future."""
    asyncio: Any = sys.modules.get("asyncio")
    cancelled = getattr(asyncio, "CancelledError", None)  # missing while another thread imports asyncio
    if cancelled is None or not is_kind(exc, cancelled):
        return False
    if running_library() != "asyncio":
        return True
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


def set_event(event: Event, token: EventLoopToken) -> None:
    """Set an event of an event loop, from any thread: at once if the loop is running here, or else soon."""
    if running_library() is not None and current_token().native_token is token.native_token:
        event.set()
    else:
        call_soon(token, event.set)


def call_soon(token: EventLoopToken, func: Callable[[], object]) -> None:
    """Schedule ``func`` on an event loop, from any thread, with a copy of the caller's context variables.

    If the loop has ended, ``func`` is never called.
    """
    loop: Any = token.native_token
    context = copy_context()
    with contextlib.suppress(RuntimeError):  # the loop has ended, and what waited there with it
        if hasattr(loop, "run_sync_soon"):  # trio's
            loop.run_sync_soon(context.run, func)
        else:
            if (sniffio := sys.modules.get("sniffio")) is not None:  # the caller's event loop may be trio's
                context.run(sniffio.current_async_library_cvar.set, "asyncio")
            loop.call_soon_threadsafe(func, context=context)
