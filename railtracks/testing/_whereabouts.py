"""Which tasks there are, and where each of them waits, in words that are the same in every process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

_RUNTIME = ("anyio", "trio", "asyncio", "railtracks", "outcome", "hypothesis")


def place_of(frame: FrameType) -> str:
    return f"{frame.f_code.co_name} ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})"


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


def _home(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def where_waits(coroutine: Any) -> str:
    """Where in the user's own code it waits; its name, if there is none of the user's."""
    own = [frame for frame in _frames(coroutine) if _home(frame) not in _RUNTIME]
    return place_of(own[-1]) if own else getattr(coroutine, "__qualname__", "?")


def asyncio_tasks() -> dict[Any, str]:
    """The tasks of the running event loop, each with where it waits, in the order in which they were made."""
    import asyncio

    tasks = sorted(asyncio.all_tasks(), key=order_of)
    return {task: where_waits(task.get_coro()) for task in tasks}


def order_of(task: Any) -> int:
    """The task's place in the order in which tasks were made; kept at the task by the virtual loop."""
    order: int = getattr(task, "_railtracks_order", 0)
    return order


def trio_tasks() -> dict[Any, str]:
    """The same for trio; without those of trio itself."""
    import trio

    root = trio.lowlevel.current_root_task()
    found: dict[Any, str] = {}

    def walk(task: Any) -> None:
        for nursery in task.child_nurseries:
            for child in sorted(nursery.child_tasks, key=lambda each: each._counter):
                if not str(getattr(child.coro, "__qualname__", "")).startswith(("EntryQueue.", "init", "Runner.")):
                    found[child] = where_waits(child.coro)
                walk(child)

    if root is not None:
        walk(root)
    return found


def tasks() -> dict[Any, str]:
    """The tasks of the event loop that runs here, each with where it waits, oldest first."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio_tasks()
    return asyncio_tasks()
