"""Switches: at a few random lines of user code, a thread of the run loses its turn to another one.

Threads that take turns until they wait would never race at a variable that both read and write. So under a part of the
seeds a thread is also interrupted: before a statement, before a value is stored, or before a lock is acquired. Then
another one continues. Threads are traced for that, as debuggers do it; that of the event loop is not.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._held_locks import holds_real_lock
from railtracks.testing._virtual_time._statement_lines import statement_lines
from railtracks.testing._virtual_time._store_events import begin_run, end_run, is_jump, is_store, watch_stores
from railtracks.testing._virtual_time._tasks import is_user_code

_LENGTHS = (2, 4, 6, 8, 10, 12, 16, 20, 32, 64, 256)
"""How many places there may be before the last switch; that is not known beforehand, and most functions are short."""
_BETWEEN = frozenset({"contextlib", "railtracks"})
"""Packages that hold no lock while they call user code for user code."""
_MAX_WAIT = 20
"""How many places later a switch can be made that has to wait for the release of a lock."""
_COMPREHENSIONS = frozenset({"<dictcomp>", "<listcomp>", "<setcomp>"})
"""These have frames in Python 3.11 only, and so have no places of their own."""
_MAX_REPEATS = 2000
"""How many lines of unfinished statements may run; after that no thread is interrupted, as tracing it takes long."""
_MAX_OTHER_CALLS = 5000
"""How many functions of the standard library may be called in threads that are traced, for the same reason."""
_USER, _BENEATH_USER, _OTHER = range(3)
"""Kinds of code: of users; of packages in ``_BENEATH``; of others."""
_BENEATH = _BETWEEN | {"anyio", "asyncio", "concurrent", "outcome", "threading", "trio"}
"""Packages that hold no lock while they call the first function of user code in a thread."""


class SwitchPlan:
    """Where the threads of one run lose their turns.

    Places are counted from 1 on, over all threads, while there is another thread that could continue.

    Args:
        places: The numbers of the places.

    Attributes:
        places: The same.
        last: The greatest of them; 0 if there are none.
        made: The numbers of the places at which a thread has lost its turn.
        on_switch: Called in a thread that is about to lose its turn, with the frame of its code.
    """

    def __init__(self, places: set[int]) -> None:
        self.places = places
        self.last: int = max(places, default=0)
        self.made: list[int] = []
        self.on_switch: Callable[[FrameType], object] = lambda _: None


def drawn_plan(choices: Choices) -> SwitchPlan:
    """Return a plan that is drawn: in half of the runs one without places, and in the others one to three."""
    if not choices.choose(2):
        return SwitchPlan(set())
    length = _LENGTHS[choices.choose(len(_LENGTHS))]
    return SwitchPlan({1 + choices.choose(length) for _ in range(1 + choices.choose(3))})


@contextlib.contextmanager
def switching(plan: SwitchPlan) -> Iterator[None]:
    """Make the switches of a plan possible inside the block."""
    if not plan.places:
        yield
        return
    begin_run(reach_place)
    try:
        yield
    finally:
        end_run()


class Switcher:
    """Traces the threads of one run while they do work, and has them lose their turns by a plan.

    Args:
        plan: The plan.
        others_can_continue: Returns whether another thread than the calling one could continue now.
        lose_turn: Lets another thread continue, and returns when it is the turn of the calling one again.
        is_at_work: Returns whether the calling thread does work of the run.
    """

    def __init__(
        self,
        plan: SwitchPlan,
        others_can_continue: Callable[[], bool],
        lose_turn: Callable[[], None],
        is_at_work: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._others_can_continue = others_can_continue
        self._lose_turn = lose_turn
        self._is_at_work = is_at_work
        self._count = 0
        self._is_due = False
        self._due_at = 0
        self._repeats = 0
        self._other_calls = 0
        self._kinds: dict[Any, int] = {}  # of code, by module

    @property
    def is_over(self) -> bool:
        """Whether no switch is made from now on."""
        is_costly = self._repeats > _MAX_REPEATS or self._other_calls > _MAX_OTHER_CALLS
        return is_costly or (self._count >= self._plan.last and not self._is_due)

    def trace_thread(self) -> None:
        """Trace the calling thread from now on, if that can matter, and neither a debugger nor coverage traces it."""
        if self.is_over or not self._others_can_continue():
            return
        present = sys.gettrace()
        if present is not None and not isinstance(getattr(present, "__self__", None), Switcher):
            return
        for frame in reversed(list(_outer_frames(sys._getframe(1)))):
            if frame.f_trace is None and is_user_code(frame):
                self._on_call(frame, "call", None)
        sys.settrace(self._on_call)

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        module = frame.f_globals.get("__name__")
        kind = self._kinds.get(module)
        if kind is None:
            is_beneath = str(module).partition(".")[0] in _BENEATH
            kind = self._kinds[module] = _USER if is_user_code(frame) else _BENEATH_USER if is_beneath else _OTHER
        if kind == _OTHER:  # quickly, as there may be very many
            self._other_calls += 1
            if self._other_calls > _MAX_OTHER_CALLS:
                sys.settrace(None)
            return None
        if self.is_over or not self._is_at_work():
            sys.settrace(None)
            return None
        if kind != _USER:
            return None
        if not isinstance(frame.f_trace, _FrameTrace):  # it is one already if a generator continues
            place = _place_in_stack(frame)
            if not place:
                return None
            lines = statement_lines(frame.f_code.co_filename)
            frame.f_trace = _FrameTrace(self, is_outermost=place == "outermost", lines=lines)
            if frame.f_code.co_name in _COMPREHENSIONS:
                frame.f_trace_lines = False
            else:
                watch_stores(frame)
        return frame.f_trace

    def on_repeat(self) -> None:
        """Handle that the calling thread is at a line, but not at another statement than before."""
        self._repeats += 1
        if self.is_over:
            sys.settrace(None)

    def reach(self, frame: FrameType) -> None:
        """Handle that the calling thread is at a place where it could lose its turn."""
        if self.is_over or not (self._is_at_work() and self._others_can_continue()):
            sys.settrace(None)
            return
        self._count += 1
        if self._count in self._plan.places:
            self._is_due, self._due_at = True, self._count
        if self._is_due and holds_real_lock(_outer_frames(frame)):
            self._is_due = self._count < self._due_at + _MAX_WAIT
        elif self._is_due:
            self._is_due = False
            self._plan.made.append(self._count)
            self._plan.on_switch(frame)
            self._lose_turn()


class _FrameTrace:
    """The trace function of one frame."""

    def __init__(self, switcher: Switcher, is_outermost: bool, lines: frozenset[int] | None) -> None:
        self.switcher = switcher
        self._lines = lines
        self._is_outermost = is_outermost
        self._line = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> _FrameTrace:
        if event == "line":
            line = frame.f_lineno
            if line != self._line and (self._lines is None or line in self._lines) and not is_jump(frame):
                self._line = line
                self.reach(frame)
            else:  # which of the other lines there are depends on the version of Python
                self.switcher.on_repeat()
        elif event == "opcode":
            if is_store(frame):
                self.reach(frame)
        elif event == "return" and self._is_outermost:
            sys.settrace(None)
        return self

    def reach(self, frame: FrameType) -> None:
        """Handle that the thread is at a place where it could lose its turn."""
        try:
            self.switcher.reach(frame)
        finally:
            # Before Python 3.13, variables of closures are written back from a copy when a trace function returns,
            # and others may have changed them meanwhile. Reading this attribute renews the copy.
            frame.f_locals  # noqa: B018


def reach_place(frame: FrameType) -> None:
    """Handle that the code of a frame is at a place, in the calling thread: it may lose its turn if it is traced."""
    trace = frame.f_trace
    if isinstance(trace, _FrameTrace) and getattr(sys.gettrace(), "__self__", None) is trace.switcher:
        trace.reach(frame)


def _outer_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frame and those outside of it, from the innermost on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place_in_stack(frame: FrameType) -> str:
    """Return "outermost" for the first frame of user code in a thread, "inner" for what traced user code has called.

    Returns "" for other frames. Between them and user code there is code that may hold a lock, such as that of an
    import; or they run at any moment, such as ``__del__``. A thread is not interrupted there.
    """
    if frame.f_code.co_name in ("<module>", "__del__"):
        return ""
    passed: set[str] = set()
    for outer in _outer_frames(frame.f_back):
        if is_user_code(outer):
            return "inner" if passed <= _BETWEEN and isinstance(outer.f_trace, _FrameTrace) else ""
        passed.add(str(outer.f_globals.get("__name__", "")).partition(".")[0])
    return "outermost" if passed <= _BENEATH else ""
