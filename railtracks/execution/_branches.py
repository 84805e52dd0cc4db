"""The numbers of the tasks that make calls for one call, by which resuming tells equal calls apart."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from railtracks.state import CallRecord

_task_branch: ContextVar[tuple[CallRecord | None, tuple[int, ...]]] = ContextVar("task branch", default=(None, ()))
"""The call that the current task, or one that it comes from, has made calls for, and the numbers of that task."""


class Branches:
    """Numbers the tasks of one session that make calls; see ``CallRecord.branch``."""

    __slots__ = ("_by_task", "_count")

    def __init__(self) -> None:
        self._by_task: WeakKeyDictionary[Any, tuple[int, ...]] | None = None  # once one of them makes a call
        self._count = 0

    def of_task(self, task: object, caller: CallRecord | None) -> tuple[int, ...]:
        """Return the numbers of the current task, which makes calls for a call that another task runs.

        Args:
            task: The task.
            caller: The record of the call; None: they are top-level calls.
        """
        if self._by_task is None:
            self._by_task = WeakKeyDictionary()
        branch = self._by_task.get(task)
        if branch is None:
            owner, outer = _task_branch.get()
            branch = (*(outer if owner is caller else ()), self.new())
            self._by_task[task] = branch
        if caller is not None:  # tasks that this one starts from now on come from it
            _task_branch.set((caller, branch))
        return branch

    def new(self) -> int:
        """Return a number that no task has."""
        self._count += 1
        return self._count

    def renumbered(self, branch: tuple[int, ...], numbers: dict[int, int]) -> tuple[int, ...]:
        """Return the numbers here of tasks of a worker.

        Args:
            branch: Their numbers there.
            numbers: Those that are known, by the numbers there without their signs. The others are added.
        """
        for number in branch:
            if abs(number) not in numbers:
                numbers[abs(number)] = self.new()
        return tuple(-numbers[-number] if number < 0 else numbers[number] for number in branch)
