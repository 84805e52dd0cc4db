"""The tasks of the running event loop, and where each of them waits, in text that is the same in every process."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Container, Iterable
from types import CodeType, FrameType, TracebackType
from typing import Any

from anyio.lowlevel import checkpoint

from railtracks._test_probe import awaited_limit, is_user_module, suspended_frames

TIMER = "railtracks timer"
"""The name of tasks of the harness itself on trio, which has no timers."""
TURNS_TO_END = 3
"""Turns of the event loop that the callbacks of finished tasks may take."""


def place_of(code: CodeType, line: int) -> str:
    """Return a position in code for people, such as ``transfer (settle.py:24)``."""
    return f"{code.co_name} ({os.path.basename(code.co_filename)}:{line})"


def is_user_code(frame: FrameType) -> bool:
    """Return whether the frame is in user code: not in an event loop, the standard library, or Railtracks."""
    return is_user_module(frame.f_globals.get("__name__", ""))


def where_raised(traceback: TracebackType | None, stop: CodeType) -> str:
    """Return the innermost position in user code that an exception passed on its way to ``stop``, or "".

    Args:
        traceback: The traceback of the exception.
        stop: The code at which to stop looking.
    """
    place = ""
    while traceback is not None and traceback.tb_frame.f_code is not stop:
        if is_user_code(traceback.tb_frame):
            place = place_of(traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def positions_passed(traceback: TracebackType | None, stop: CodeType) -> list[tuple[FrameType, int]]:
    """Return the frames that an exception passed on its way to ``stop``, each with its line, the outermost first."""
    positions = []
    while traceback is not None and traceback.tb_frame.f_code is not stop:
        positions.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return positions


def where_waits(coroutine: Any) -> str | None:
    """Return where in user code the coroutine waits, and for which limit if it does; None if no user code is in it."""
    frames = list(suspended_frames(coroutine))
    own = [frame for frame in frames if is_user_code(frame)]
    if not own:
        return None
    limit = awaited_limit(frames)
    return place_of(own[-1].f_code, own[-1].f_lineno) + ("" if limit is None else f", for {limit}")


def describe(coroutine: Any) -> str:
    """Return where in user code the coroutine waits, or else its name."""
    return where_waits(coroutine) or str(getattr(coroutine, "__qualname__", "?"))


def asyncio_tasks() -> dict[Any, Any]:
    """Return the tasks of the running asyncio event loop, each with its coroutine, oldest first."""
    import asyncio

    return {task: task.get_coro() for task in sorted(asyncio.all_tasks(), key=order_of)}


def order_of(task: Any) -> int:
    """Return how many tasks were made before the task; 0 if no ``VirtualLoop`` made it."""
    order: int = getattr(task, "_railtracks_order", 0)
    return order


def age_of(task: Any) -> int:
    """Return how many tasks were made before the task of either backend; 0 if the harness did not make it."""
    age: int = getattr(task, "_counter", None) or order_of(task)  # of trio
    return age


def trio_tasks() -> dict[Any, Any]:
    """Return the tasks of the running trio event loop, each with its coroutine, except those of trio itself."""
    import trio

    root = trio.lowlevel.current_root_task()
    found: dict[Any, Any] = {}

    def walk(task: Any) -> None:
        for nursery in task.child_nurseries:
            for child in sorted(nursery.child_tasks, key=lambda each: each._counter):
                name = str(getattr(child.coro, "__qualname__", ""))
                if child.name != TIMER and not name.startswith(("EntryQueue.", "Runner.")):
                    found[child] = child.coro
                walk(child)

    if root is not None:
        walk(root)
    return found


def tasks() -> dict[Any, Any]:
    """Return the tasks of the running event loop, each with its coroutine, oldest first."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio_tasks()
    return asyncio_tasks()


async def tasks_left(before: Container[Any]) -> dict[Any, Any]:
    """Return the new tasks that are left once the callbacks of finished tasks have run, each with its coroutine.

    Args:
        before: The tasks that existed before.
    """
    for _ in range(TURNS_TO_END):
        await checkpoint()
    return {task: coroutine for task, coroutine in tasks().items() if task not in before}


def wait_locations(coroutines: Iterable[Any]) -> list[str]:
    """Return where the coroutines with user code in them wait, or if there are none, where all wait."""
    coroutines = list(coroutines)
    own = [place for each in coroutines if (place := where_waits(each)) is not None]
    return own or [describe(each) for each in coroutines]


def describe_step(step: Any, name: str = "") -> tuple[str, bool]:
    """Return where something that runs next is, and whether that is in user code.

    Args:
        step: The coroutine of a task, or a function.
        name: The name of the task; anyio and trio name it after the function that it runs.
    """
    if callable(step):
        place = _where_defined(step)
        return place or str(getattr(step, "__qualname__", type(step).__name__)), place is not None
    place = where_waits(step)
    if place is None and "." in name:  # it has not begun
        return name, is_user_module(name) and not name.startswith("<")
    return place or describe(step), place is not None


def _where_defined(function: Any) -> str | None:
    """Return where in user code the function is defined, or None if it is not user code."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)  # of a method
    code = getattr(function, "__code__", None)
    if code is None or not is_user_module(function.__module__):
        return None
    return place_of(code, code.co_firstlineno)


def keep_for_ever(abandoned: Iterable[Any]) -> None:
    """Keep tasks that never run again from being discarded, also when Python exits.

    Python discards a coroutine that waits by raising GeneratorExit in it. One that catches everything and tries again
    would try for ever, as there is no event loop that it could wait in.
    """
    for task in abandoned:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
