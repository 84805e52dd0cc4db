"""Whether anything in a session can still go on by itself, and why that is hard to know.

A run is suspended when all that it does is to wait for answers and messages. The records tell which calls are open. But
a node may do more than calls: its own tasks may sleep, compute, or wait for a socket. So every task that was started in
the session is examined. It is at rest if it is one that waits for a message, if it waits for tasks or calls of the
session and for nothing else, or if it belongs to the library and has nothing to do. Whatever cannot be recognised can
go on: then the run is not suspended. Private names of asyncio, anyio and trio are read with that default;
``tests/durability/test_suspension.py`` notices if they change.

This examines every task of the event loop, so it is asked only when no other call than those that wait is open.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from types import FrameType
from typing import Any

from railtracks._concurrency._event_loop import running_library
from railtracks._concurrency._suspended import suspended_frames
from railtracks._context_variable import current

_JOINS = {
    ("anyio._backends._asyncio", "__aexit__"),
    ("asyncio.taskgroups", "__aexit__"),
    ("trio._core._run", "_nested_child_finished"),
}
"""The innermost functions of tasks that wait for the tasks they have started."""
_WAITS_FOR_CALLS = {
    ("railtracks.execution._cached_calls", "_wait_in_session"),
    ("railtracks.execution._call_scopes", "wait_idle"),
    ("railtracks.execution._entering", "_run_in_scope"),
    ("railtracks._session._handle", "wait"),
    ("railtracks._session._loop_thread", "_main"),
    ("railtracks.agents._stream", "next"),
    ("railtracks._calls._call_stream", "next"),
    ("railtracks._calls._stream_workers", "_wait_for_room"),
    ("railtracks._calls._async_items", "next"),
    ("railtracks._calls._async_items", "read"),
}
"""Functions of the library that wait for calls of the session, for its body, or for calls that are streamed."""
_PUMP = ("railtracks.pubsub._subscription", "_pump")
"""What delivers events to a subscriber. The caller knows whether it has something to deliver."""
_TRIO_SYSTEM_TASK = "trio._core._entry_queue"
"""The module of a task of trio itself, which gets the context of what started the event loop."""
_TRIO_TRAPS = "trio._core._traps"
"""The module of the innermost functions of all tasks of trio that wait."""


def is_at_rest(waiting: Collection[object], belongs: Callable[[Any], bool]) -> bool:
    """Return whether no task of a session can go on before a message comes.

    Args:
        waiting: The tasks that wait for a message. The one that asks is among them.
        belongs: Returns whether a frame (the value of the context variable) is in the session.
    """
    if running_library() == "trio":
        return _is_trio_at_rest(waiting, belongs)
    return _is_asyncio_at_rest(waiting, belongs)


def _is_in(context: Context | None, belongs: Callable[[Any], bool]) -> bool:
    frame = None if context is None else context.get(current)
    return frame is not None and belongs(frame)


# ---- asyncio


def _is_asyncio_at_rest(waiting: Collection[object], belongs: Callable[[Any], bool]) -> bool:
    asyncio = sys.modules["asyncio"]
    loop = asyncio.get_running_loop()
    ready: Iterable[Any] = getattr(loop, "_ready", ())
    timers: Iterable[Any] = getattr(loop, "_scheduled", ())
    for handle in (*ready, *timers):
        if (
            not handle.cancelled()
            and not _is_scope_timer(handle)
            and _is_in(getattr(handle, "_context", None), belongs)
        ):
            return False
    tasks = {task for task in asyncio.all_tasks(loop) if _is_in(_context_of(task), belongs)}
    return all(task in waiting or _rests_on_asyncio(task, tasks) for task in tasks)


def _is_scope_timer(handle: Any) -> bool:
    """Return whether this is the deadline of a cancel scope; those that matter are around a call that waits."""
    owner = getattr(getattr(handle, "_callback", None), "__self__", None)
    return type(owner).__module__ == "anyio._backends._asyncio" and type(owner).__name__ == "CancelScope"


def _context_of(task: Any) -> Context | None:
    if hasattr(task, "get_context"):  # from Python 3.12 on
        context: Context = task.get_context()
        return context
    return next((each for each in gc.get_referents(task) if isinstance(each, Context)), None)


def _rests_on_asyncio(task: Any, tasks: Collection[object]) -> bool:
    future = getattr(task, "_fut_waiter", None)
    if future is None or future.done():  # it has a turn soon
        return False
    if future in tasks or _is_gathering(future, tasks):
        return True
    return _rests(list(suspended_frames(task.get_coro())))


def _is_gathering(future: Any, tasks: Collection[object]) -> bool:
    """Return whether this is ``asyncio.gather``, of tasks of the session."""
    children: Collection[Any] = getattr(future, "_children", ()) if type(future).__name__ == "_GatheringFuture" else ()
    return bool(children) and all(child.done() or child in tasks for child in children)


# ---- trio


def _is_trio_at_rest(waiting: Collection[object], belongs: Callable[[Any], bool]) -> bool:
    tasks = [task for task in _trio_tasks() if _is_in(task.context, belongs)]
    return all(task in waiting or _rests_on_trio(task) for task in tasks)


def _trio_tasks() -> Iterable[Any]:
    root = sys.modules["trio"].lowlevel.current_root_task()
    left = [] if root is None else [root]
    while left:
        task = left.pop()
        yield task
        left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _rests_on_trio(task: Any) -> bool:
    if getattr(task, "_abort_func", None) is None:  # it has a turn soon
        return False
    return _rests([each for each in suspended_frames(task.coro) if each.f_globals.get("__name__") != _TRIO_TRAPS])


# ---- both


def _rests(frames: list[FrameType]) -> bool:
    """Return whether a task that is suspended in these frames, the outermost first, can go on only if another does."""
    places = [(str(frame.f_globals.get("__name__", "")), frame.f_code.co_name) for frame in frames]
    if not places:
        return False
    if places[-1] in _JOINS or _PUMP in places or places[0][0].startswith(_TRIO_SYSTEM_TASK):
        return True
    for frame, place in zip(reversed(frames), reversed(places), strict=True):
        if place == ("railtracks._concurrency._threads", "run_in_thread"):
            work = frame.f_locals.get("work")
            return work is not None and work.waits_for_loop
        if not place[0].startswith(("railtracks._concurrency", "anyio", "asyncio", "trio")):
            return place in _WAITS_FOR_CALLS
    return False
