"""Tasks and time limits of a program's own, as each backend has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import trio

from tests.fuzz.notes import CANCELLATIONS

Function = Callable[[], Any]
"""An async function without arguments."""
ASKED_BY_THREADS = ("railtracks._calls._broadcast.broadcast", "railtracks._concurrency._threads._Request.run")
"""The names of the system tasks that trio starts for what a thread asks of it."""


def without_errors(exc: BaseException) -> BaseException | None:
    """Return what of ``exc`` the task group or event loop around a task must get: cancellations and interrupts."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split((*CANCELLATIONS, SystemExit, KeyboardInterrupt))[0]
    return exc if isinstance(exc, (*CANCELLATIONS, SystemExit, KeyboardInterrupt)) else None


async def _run_alone(func: Function) -> None:
    try:
        await func()
    except BaseException as exc:
        if (rest := without_errors(exc)) is exc:
            raise
        if rest is not None:
            raise rest from None


class _AsyncioStray:
    def __init__(self, func: Function) -> None:
        self.task = asyncio.create_task(_run_alone(func))

    def cancel(self) -> None:
        self.task.cancel()

    async def wait(self) -> None:
        await asyncio.wait([self.task])


class _TrioStray:
    def __init__(self, func: Function, nursery: trio.Nursery) -> None:
        self._scope, self._done, self._func = trio.CancelScope(), trio.Event(), func
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        try:
            with self._scope:
                await _run_alone(self._func)
        finally:
            self._done.set()

    def cancel(self) -> None:
        self._scope.cancel()

    async def wait(self) -> None:
        await self._done.wait()


class Tasks:
    """Starts the tasks of one program.

    Attributes:
        nursery: Where stray tasks run, on trio.
    """

    def __init__(self, backend: str) -> None:
        self._on_trio = backend == "trio"
        self.nursery: trio.Nursery | None = None

    def current(self) -> Any:
        """Return the current task; None in a worker thread."""
        try:
            return trio.lowlevel.current_task() if self._on_trio else asyncio.current_task()
        except RuntimeError:
            return None

    def stray(self, func: Function) -> _AsyncioStray | _TrioStray:
        """Start a task that nothing need wait for."""
        if not self._on_trio:
            return _AsyncioStray(func)
        assert self.nursery is not None
        return _TrioStray(func, self.nursery)

    async def branches(self, style: str, functions: Sequence[Function]) -> None:
        """Run functions beside each other."""
        if style == "gather" and not self._on_trio:
            await asyncio.gather(*(func() for func in functions))
        elif style == "native" and not self._on_trio:
            async with asyncio.TaskGroup() as native:
                for func in functions:
                    native.create_task(func())
        elif style == "native":
            async with trio.open_nursery() as nursery:
                for func in functions:
                    nursery.start_soon(func)
        else:
            async with anyio.create_task_group() as group:
                for func in functions:
                    group.start_soon(func)

    async def limit(self, style: str, seconds: float, func: Function) -> None:
        """Run a function within a time limit."""
        if style == "wait_for" and not self._on_trio:
            await asyncio.wait_for(func(), seconds)
        elif style == "timeout" and not self._on_trio:
            async with asyncio.timeout(seconds):
                await func()
        elif style == "move_on_after":
            with anyio.move_on_after(seconds):
                await func()
        else:
            with anyio.fail_after(seconds):
                await func()

    def left_by_railtracks(self, loop: asyncio.AbstractEventLoop | None = None) -> list[str]:
        """Return the names of the tasks of Railtracks that have not ended, in ``loop`` or in the running one.

        Those of a batch are not among them, as the task that made the batch waits for them. Nor is what a thread asks
        of the event loop: one that was abandoned may ask at any moment, and gets a refusal at the next turn.
        """
        return [name for name in self._names(loop) if name.startswith("railtracks.") and "CallWorkers." not in name]

    def _names(self, loop: asyncio.AbstractEventLoop | None) -> list[str]:
        if not self._on_trio:
            return [task.get_name() for task in asyncio.all_tasks(loop)]
        root = trio.lowlevel.current_root_task()
        assert root is not None
        found, waiting = [], [task for task in _children(root) if task.name not in ASKED_BY_THREADS]
        while waiting:
            task = waiting.pop()
            found.append(task.name)
            waiting += _children(task)
        return found


def _children(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    return [child for nursery in task.child_nurseries for child in nursery.child_tasks]
