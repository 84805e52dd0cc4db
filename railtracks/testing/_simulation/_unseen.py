"""Failures that no code sees: Python prints or logs them, and the program goes on.

A coroutine that was never awaited, an exception of a task that nobody retrieved, one that leaves a thread or a
``__del__``. The hooks of Python for these are of the whole process. They are set while runs are under way, and hand
each failure to the run that it belongs to, or else to the hook that was there before.
"""

from __future__ import annotations

import gc
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._stuck_errors import StuckError
from railtracks.testing._virtual_time._tasks import describe, is_user_code, place_of, where_raised
from railtracks.testing._virtual_time._thread_kinds import name_of

_NO_CODE = (lambda: None).__code__


class UnseenFailures:
    """Collects the unseen failures of one run.

    What the garbage collector finds may be of an earlier run. So it goes to the hook that was there before; what this
    run drops is mostly discarded at once, by its reference count.

    Attributes:
        texts: What failed, and where.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._kept_filters = list(_filters())  # so that no other filter gets the identity of one of these
        self._older_filters = set(map(id, self._kept_filters))
        self._older_threads = set(threading.enumerate())
        self._is_over = False

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Collect the failures of what runs inside the block, and in threads that it starts."""
        token = _current.set(self)
        _hooks.add(self)
        try:
            yield
        finally:
            self._is_over = True
            _hooks.remove(self)
            _current.reset(token)

    def owns(self, thread: threading.Thread | None) -> bool:
        """Return whether the thread was started during this run."""
        return thread is not None and thread not in self._older_threads

    # ---- what has failed

    def on_never_awaited(self, coroutine: Any) -> None:
        """Note that a coroutine is discarded that has never begun, unless user code has silenced the warning of it."""
        frame = _calling_user_frame()
        if self._is_silenced(f"coroutine '{coroutine.__qualname__}' was never awaited", frame):
            return
        where = "" if frame is None else f"; it was discarded in {place_of(frame.f_code, frame.f_lineno)}"
        self.texts.append(f"{_call_text(coroutine)} was never awaited{where}")

    def examine(self, tasks: Iterable[Any]) -> None:
        """Note the exceptions that nobody retrieved of these tasks, which the witness keeps from being discarded."""
        for task in dict.fromkeys(tasks):
            if getattr(task, "_log_traceback", False):
                self._add(task.exception(), "of a task was never retrieved")

    def on_loop_error(self, context: dict[str, Any]) -> bool:
        """Note what an event loop of asyncio would only log, and return whether it was a failure of this run."""
        if self._is_over:
            return False
        message, exc = str(context.get("message", "")), context.get("exception")
        task = context.get("task") or context.get("future")
        if exc is None:
            if "was destroyed but it is pending" not in message or task is None:
                return False
            self.texts.append(f"a task was discarded that waits in {describe(task.get_coro())}")
        elif "never retrieved" in message:
            self._add(exc, f"of a {'task' if hasattr(task, 'get_coro') else 'future'} was never retrieved")
        else:
            self._add(exc, f"was only logged by asyncio: {message.partition(' <')[0].partition('(')[0]}")
        return True

    def on_callback_error(self, name: str, exc: BaseException) -> None:
        """Note that a subscriber of events has raised."""
        self._add(exc, f"of the subscriber {name} was only logged")

    def on_unraisable(self, unraisable: Any) -> None:
        """Note what left a ``__del__`` or another place from which it cannot be raised."""
        name = getattr(unraisable.object, "__qualname__", type(unraisable.object).__qualname__)
        self._add(unraisable.exc_value, f"left {name}, where Python ignores it")

    def on_thread_error(self, exc: BaseException, thread: threading.Thread | None) -> None:
        """Note what has ended a thread."""
        name = "?" if thread is None else name_of(thread)
        self._add(exc, f"has ended the thread {name}")

    def _add(self, exc: BaseException, what: str) -> None:
        if isinstance(exc, ProcessKilled | StuckError):  # of the harness
            return
        place = where_raised(exc.__traceback__, _NO_CODE)
        self.texts.append(f"{stable_repr(exc)} {what}{place and f'; it was raised in {place}'}")

    def _is_silenced(self, message: str, frame: types.FrameType | None) -> bool:
        """Return whether user code has silenced this warning: in this run, or this one among others."""
        module = "" if frame is None else str(frame.f_globals.get("__name__", ""))
        for each in _filters():
            action, text, category, of_module, _ = each
            if not issubclass(RuntimeWarning, category) or not _matches(text, message):
                continue
            if not _matches(of_module, module):
                continue
            is_general = text is None and of_module is None and category is Warning
            if action != "ignore":
                return False
            if not (is_general and id(each) in self._older_filters):
                return True
        return False


_current: ContextVar[UnseenFailures | None] = ContextVar("railtracks_testing_unseen", default=None)
"""The failures of the run that the running code is part of."""


class _Hook:
    """A hook of Python that hands a failure to the run that it belongs to, or else to the hook that was there before.

    Args:
        take: Hands it to a run, and returns whether there is one.
        before: The hook that was there before.
    """

    def __init__(self, take: Callable[[Any], bool], before: Callable[[Any], object]) -> None:
        self._take = take
        self.before = before

    def __call__(self, failure: Any) -> None:
        if not self._take(failure):
            self.before(failure)


class _Hooks:
    """The hooks of this process, which are set while there are runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[UnseenFailures] = []
        self._replaced: list[tuple[Any, str, _Hook]] = []
        self._collecting: int | None = None  # the thread in which the garbage collector runs

    def add(self, run: UnseenFailures) -> None:
        with self._lock:
            if not self._runs:
                gc.callbacks.append(self._on_collection)
                self._replace(sys, "unraisablehook", self._on_unraisable)
                self._replace(threading, "excepthook", self._on_thread_error)
                self._replace(warnings, "_warn_unawaited_coroutine", self._on_never_awaited)
            self._runs.append(run)

    def remove(self, run: UnseenFailures) -> None:
        with self._lock:
            self._runs.remove(run)
            if not self._runs:
                gc.callbacks.remove(self._on_collection)
                for module, name, hook in self._replaced:
                    if getattr(module, name) is hook:  # and not that of somebody else, who will restore it
                        setattr(module, name, hook.before)
                self._replaced.clear()

    def _replace(self, module: Any, name: str, take: Callable[[Any], bool]) -> None:
        before = getattr(module, name)
        if isinstance(before, _Hook):  # something that had replaced it in an earlier run has put it back
            before = before.before
        hook = _Hook(take, before)
        self._replaced.append((module, name, hook))
        setattr(module, name, hook)

    def _on_collection(self, phase: str, _info: object) -> None:
        self._collecting = threading.get_ident() if phase == "start" else None

    def _run(self) -> UnseenFailures | None:
        """Return the run that discards something in this thread, or None if that is not known."""
        return None if self._collecting == threading.get_ident() else _current.get()

    def _on_never_awaited(self, coroutine: Any) -> bool:
        run = self._run()
        if run is not None:
            run.on_never_awaited(coroutine)
        return run is not None

    def _on_unraisable(self, unraisable: Any) -> bool:
        run, exc = self._run(), unraisable.exc_value
        if run is None or not isinstance(exc, Exception) or isinstance(exc, Warning):  # a filter made it an error
            return False
        run.on_unraisable(unraisable)
        return True

    def _on_thread_error(self, args: Any) -> bool:
        run = _current.get()
        if run is None:  # such a thread has a context of its own
            runs = [each for each in self._runs if each.owns(args.thread)]
            run = runs[0] if len(runs) == 1 else None
        if run is None or not isinstance(args.exc_value, Exception):
            return False
        run.on_thread_error(args.exc_value, args.thread)
        return True


_hooks = _Hooks()


def _filters() -> Any:
    get = getattr(warnings, "_get_filters", None)  # Python 3.14
    return warnings.filters if get is None else get()


def _matches(pattern: Any, text: str) -> bool:
    if pattern is None:
        return True
    return pattern == text if isinstance(pattern, str) else pattern.match(text) is not None


def _calling_user_frame() -> types.FrameType | None:
    """Return the innermost frame of user code that is running in this thread."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not is_user_code(frame):
        frame = frame.f_back
    return frame


def _call_text(coroutine: Any) -> str:
    """Return a coroutine as the call that made it, if that is known."""
    frame = getattr(coroutine, "cr_frame", None)
    if (
        frame is not None
        and str(frame.f_globals.get("__name__", "")).startswith("railtracks.")
        and "node" in frame.f_locals
    ):
        node = frame.f_locals["node"]
        return f"rt.{coroutine.__name__}({getattr(node, '__name__', None) or stable_repr(node)}, ...)"
    return f"the coroutine {coroutine.__qualname__}"
