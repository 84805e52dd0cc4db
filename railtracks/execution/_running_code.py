"""The code that an event loop runs at this moment, as another thread sees it: on the stack of the loop's thread."""

from __future__ import annotations

from contextvars import Context
from types import FrameType
from typing import Any

import attrs

from railtracks._concurrency._thread_stacks import nothing_collected, stack_of_thread
from railtracks._context_variable import current
from railtracks.execution._waiting import innermost_place, module_of
from railtracks.pubsub import callback_of
from railtracks.state import CallRecord

_CALLS = "railtracks.execution._coordinator"
"""The module whose function ``run`` runs calls, with the locals ``self`` and ``record``."""


@attrs.frozen
class RunningCode:
    """User code of a session that an event loop runs."""

    coordinator: Any
    """The coordinator of the session."""
    record: CallRecord | None
    """The call that the code belongs to; None for the body of the session, and what that has started."""
    is_in_call: bool
    """Whether the call itself runs the code, and not a task or a callback that it has started."""
    is_callback: bool
    """Whether the code is the callback of a subscriber."""
    place: str
    """The line, such as ", line 12 of shop.py"."""


def running_code(thread: int) -> RunningCode | None:
    """Return the user code of a session that the event loop of a thread runs; None if it runs none.

    Args:
        thread: The identifier of the thread. It should be blocked, or what is returned is out of date.
    """
    inside: list[tuple[FrameType, int]] = []
    step: RunningCode | None = None
    with nothing_collected():
        for frame in stack_of_thread(thread):
            if frame.f_code.co_name == "run" and module_of(frame) == _CALLS:
                local: Any = frame.f_locals
                record, place = local.get("record"), innermost_place(inside[::-1])
                # Without a place it is in the library itself, on behalf of the call.
                is_found = record is not None and place
                return RunningCode(local.get("self"), record, True, False, place) if is_found else None
            if step is None and (context := _context_of_step(frame)) is not None:
                step = _code_in(context, innermost_place(inside[::-1]))
            inside.append((frame, frame.f_lineno))
    return step


def _code_in(context: Context, place: str) -> RunningCode | None:
    """Return the code that runs in a context, if that names a session."""
    frame = context.get(current)
    if frame is None or not place:
        return None
    is_callback = context.get(callback_of) is frame.coordinator.publisher
    return RunningCode(frame.coordinator, frame.record, False, is_callback, place)


def _context_of_step(frame: FrameType) -> Context | None:
    """Return the context of the task or the callback that a frame runs, if it is that of asyncio or trio which does."""
    name = frame.f_code.co_name
    if name == "_run" and module_of(frame) == "asyncio.events":
        context: Context | None = getattr(frame.f_locals.get("self"), "_context", None)
        return context
    if name == "unrolled_run" and module_of(frame) == "trio._core._run":
        return getattr(frame.f_locals.get("task"), "context", None)
    return None
