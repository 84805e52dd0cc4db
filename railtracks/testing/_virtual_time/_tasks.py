"""Which tasks there are, and where each of them waits, in words that are the same in every process."""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Iterable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any

from anyio.lowlevel import checkpoint

TURNS_TO_END = 3
"""Turns of the event loop that callbacks of tasks which have ended may take."""
_RUNTIME = {"anyio", "trio", "railtracks", "outcome", "hypothesis", *sys.stdlib_module_names} - {"__main__"}


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_name} ({os.path.basename(code.co_filename)}:{line})"


def _frames(awaitable: Any) -> Iterator[FrameType]:
    """The frames of a suspended coroutine, the outermost first."""
    while awaitable is not None:
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                inner = "yieldfrom" if prefix == "gi" else "await"
                awaitable = getattr(awaitable, f"{prefix}_{inner}", None)
                break
        else:
            return


def is_users(frame: FrameType) -> bool:
    """Is it code of the user's, not of an event loop, the standard library, or ours?"""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _RUNTIME


def where_raised(traceback: TracebackType | None, stop: CodeType) -> str:
    """Where in the user's code an exception came through, before it came through ``stop``; "" if it did not."""
    place = ""
    while traceback is not None and traceback.tb_frame.f_code is not stop:
        if is_users(traceback.tb_frame):
            place = _place(traceback.tb_frame.f_code, traceback.tb_lineno)
        traceback = traceback.tb_next
    return place


def where_waits(coroutine: Any) -> str | None:
    """Where in the user's own code it waits; None if it has none of the user's."""
    own = [frame for frame in _frames(coroutine) if is_users(frame)]
    return _place(own[-1].f_code, own[-1].f_lineno) if own else None


def described(coroutine: Any) -> str:
    """The same, or else its name."""
    return where_waits(coroutine) or str(getattr(coroutine, "__qualname__", "?"))


def asyncio_tasks() -> dict[Any, Any]:
    """The tasks of the running event loop, each with its coroutine, in the order in which they were made."""
    import asyncio

    return {task: task.get_coro() for task in sorted(asyncio.all_tasks(), key=order_of)}


def order_of(task: Any) -> int:
    """The task's place in the order in which tasks were made; kept at the task by the virtual loop."""
    order: int = getattr(task, "_railtracks_order", 0)
    return order


def trio_tasks() -> dict[Any, Any]:
    """The same for trio; without those of trio itself."""
    import trio

    root = trio.lowlevel.current_root_task()
    found: dict[Any, Any] = {}

    def walk(task: Any) -> None:
        for nursery in task.child_nurseries:
            for child in sorted(nursery.child_tasks, key=lambda each: each._counter):
                if not str(getattr(child.coro, "__qualname__", "")).startswith(("EntryQueue.", "Runner.")):
                    found[child] = child.coro
                walk(child)

    if root is not None:
        walk(root)
    return found


def tasks() -> dict[Any, Any]:
    """The tasks of the event loop that runs here, each with its coroutine, oldest first."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio_tasks()
    return asyncio_tasks()


async def tasks_left(before: Container[Any]) -> dict[Any, Any]:
    """The tasks that were not there before, once callbacks of tasks that have ended have run; with their coroutines."""
    for _ in range(TURNS_TO_END):
        await checkpoint()
    return {task: coroutine for task, coroutine in tasks().items() if task not in before}


def places(coroutines: Iterable[Any]) -> list[str]:
    """Where those wait that have code of the user's; all, if none has."""
    coroutines = list(coroutines)
    own = [place for each in coroutines if (place := where_waits(each)) is not None]
    return own or [described(each) for each in coroutines]
