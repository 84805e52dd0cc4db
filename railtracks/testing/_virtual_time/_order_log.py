"""In which order the tasks of user code continued, as a digest: equal for equal orders."""

from __future__ import annotations

import hashlib
from types import CodeType, CoroutineType
from typing import Any

from railtracks._test_probe import is_user_module, suspended_frames
from railtracks.testing._virtual_time._asyncio_order import task_of
from railtracks.testing._virtual_time._tasks import age_of, is_user_code

_WRAPPERS = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow"})
"""What the interpreter puts around a coroutine or generator that a coroutine awaits."""
MAX_NOTED = 100_000
"""How many changes from one task to another are noted."""

Position = tuple[str, int] | None
"""Where in user code a task waits: a function and a place in it; at the beginning of a call: its node and number."""


class OrderLog:
    """The steps in which user code has run.

    That it has run in a step shows later: the task waits elsewhere then. Of steps that one task takes one after
    another, the first stands for all.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, Position, bool] | None] = []  # the age of the task; whether a call begins
        self._latest: dict[int, int] = {}  # the number of the latest step of each task
        self._last_age = -1
        # Whether code is user code, by its identity, as hashing it takes long; with the code, which keeps the identity.
        self._kinds: dict[int, tuple[bool, CodeType]] = {}

    def note(self, age: int, coroutine: Any, handle: Any) -> None:
        """Note that a task is about to take a step.

        Args:
            age: The age of the task.
            coroutine: Its coroutine.
            handle: The task itself, or the handle of its step on asyncio.
        """
        latest = self._latest.get(age)
        before = None if latest is None else self._steps[latest]
        if age == self._last_age and before is not None and before[1] is not None:
            return
        self._last_age = age
        position = self._position(coroutine)
        if latest is None and position is None and _begins_user_code(handle):
            position = "", -1
        if latest is not None and before == (age, position, False):
            self._steps[latest] = None  # no user code ran in it
        self._add(age, position, False)

    def note_call(self, task: object, name: str, index: int) -> None:
        """Note that the task, which runs, begins a call, whose code may wait nowhere."""
        self._last_age = age_of(task)
        self._add(self._last_age, (name, index), True)

    def _add(self, age: int, position: Position, begins: bool) -> None:
        if len(self._steps) < MAX_NOTED:
            self._latest[age] = len(self._steps)
            self._steps.append((age, position, begins))

    def _position(self, coroutine: Any) -> Position:
        own = None
        kinds = self._kinds
        while type(coroutine) is CoroutineType:
            code = coroutine.cr_code  # a frame would have to be made
            kind = kinds.get(id(code))
            if kind is None:
                frame = coroutine.cr_frame
                kind = kinds[id(code)] = frame is not None and is_user_code(frame), code
            if kind[0]:
                own = coroutine
            coroutine = coroutine.cr_await
        frame = None if own is None else own.cr_frame
        if type(coroutine).__name__ in _WRAPPERS:
            frame = next((each for each in reversed([*suspended_frames(coroutine)]) if is_user_code(each)), frame)
        return None if frame is None else (frame.f_code.co_name, frame.f_lasti)

    def digest(self) -> str:
        """Return a short text, equal for equal orders of the same code on the same Python."""
        steps = self._steps_of_user_code()
        numbers = {age: number for number, age in enumerate(sorted({age for age, *_ in steps}))}
        labels: dict[int, object] = {}  # of a task: its latest call, as any task of a pool may run it
        order: list[tuple[object, Position]] = []
        for age, position, begins in steps:
            label = labels[age] = position if begins else labels.get(age, numbers[age])
            if not order or order[-1][0] != label:
                order.append((label, position))
        return hashlib.sha256(repr(order).encode()).hexdigest()[:8]

    def _steps_of_user_code(self) -> list[tuple[int, Position, bool]]:
        """Return the steps without those from code of others to code of others, or to the beginning of a call."""
        found = []
        next_begins: dict[int, bool] = {}  # whether the next step of a task is the beginning of a call
        for step in reversed(self._steps):
            if step is not None:
                age, position, begins = step
                if position is not None or not next_begins.get(age, True):
                    found.append(step)
                next_begins[age] = begins
        return found[::-1]


def _begins_user_code(handle: Any) -> bool:
    """Return whether a task that has not begun runs user code; anyio and trio name it after its function."""
    name = str(getattr(handle, "name", None) or getattr(task_of(handle), "get_name", str)())
    return "." in name and not name.startswith("<") and is_user_module(name)
