"""Calls in threads that do not know which session they belong to."""

from __future__ import annotations

import sys
import threading
import warnings
from contextvars import copy_context
from types import FrameType

from railtracks._session._life import open_sessions

_OF_PYTHON = frozenset({"decimal_context", "_warnings_context"})
"""The names of context variables that Python sets in a thread which only computes, or warns."""
_OF_EVENT_LOOPS = frozenset({"current_async_library_cvar", "current_async_library"})
"""The names of those that say which event loop runs."""
_POOL = "concurrent.futures.thread"
"""The module of the functions that the threads of a pool run."""


def warn_of_lost_context(name: str, stack_level: int, in_loop: bool = False) -> None:
    """Warn if a call opens a session of its own that was most likely meant for one that is open.

    That is so in a thread without any context variable: a thread that ``anyio``, ``asyncio.to_thread`` or
    ``copy_context().run`` leads to has those of the code that it works for. A service whose threads each do work of
    their own writes ``with rt.Session()`` there, or uses a flow, and neither comes here. Python shows such a warning
    once per place.

    Args:
        name: What the user has called.
        stack_level: How many calls of the library lie between this one and the user.
        in_loop: Whether an event loop runs in this thread. It counts only if it was started in a thread of a pool:
            other threads with an event loop run a server, or what else is independent of any session.
    """
    if not open_sessions or threading.current_thread() is threading.main_thread() or _has_context(in_loop):
        return
    if in_loop and not _is_in_pool(sys._getframe()):
        return
    instead = " in place of an event loop" if in_loop else ""
    warnings.warn(
        # The same text for all calls of one place, or Python would show it for each.
        f"{name} opens a session of its own although another one is open, because its thread does not have the context "
        f"of that one: it is not cancelled with that session, and is not part of its record. To make the call there, "
        f"use session.call_sync(...){instead}, or start the thread's work with "
        f"contextvars.copy_context().run(...); to keep it apart, write `with rt.Session():` around it",
        RuntimeWarning,
        stacklevel=stack_level + 2,
    )


def _has_context(in_loop: bool) -> bool:
    """Return whether the running code has a context variable that somebody has set."""
    names = {variable.name for variable in copy_context()} - _OF_PYTHON
    return bool(names - _OF_EVENT_LOOPS if in_loop else names)


def _is_in_pool(frame: FrameType | None) -> bool:
    """Return whether a frame is in what a thread of a pool runs."""
    while frame is not None:
        if frame.f_globals.get("__name__") == _POOL:
            return True
        frame = frame.f_back
    return False
