"""Ctrl-C while an event loop runs in the main thread: it is raised in code of users, and waits in all other code.

Ctrl-C comes between any two bytecodes. On trio it is raised there, in whatever task runs; on asyncio the first one
cancels the main task, and the second one is raised there. If that is in the middle of trio's ``start_soon`` or of a
cancel scope of anyio, a task group waits for ever for a task that is not there; and a thread that anyio was starting
is never stopped, and keeps the process from ending.
"""

from __future__ import annotations

import functools
import os
import sys
import threading

# `signal` makes enums of what it returns, and takes ten times as long; each session calls these.
from _signal import SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]
from collections.abc import Callable
from types import FrameType
from typing import Any

import anyio

from railtracks._concurrency._event_loop import running_library

_Handler = Callable[[int, FrameType | None], Any]

_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_OURS = tuple(
    path + os.sep
    for path in (
        os.path.dirname(os.path.dirname(__file__)), os.path.dirname(anyio.__file__), _STANDARD_LIBRARY + "asyncio",
    )
)  # fmt: skip
_NEUTRAL = ("<frozen ", "<attrs generated ")


def _is_known(handler: object, library: str | None) -> bool:
    """Return whether a handler raises KeyboardInterrupt: Python's, or that of ``asyncio.run`` or ``trio.run``."""
    if isinstance(handler, functools.partial):
        return getattr(handler.func, "__name__", None) == "_on_sigint" and library == "asyncio"
    return handler is default_int_handler or getattr(handler, "__module__", None) == "trio._core._ki"


def _is_stale(handler: Any) -> bool:
    """Return whether a handler is that of an ``asyncio.run`` that no longer waits for its main task.

    Either the task has ended, or something else has ended the event loop, and the task is cancelled when it is closed.
    """
    main_task = getattr(handler, "keywords", {}).get("main_task")
    if main_task is None or not (main_task.done() or main_task.cancelling()):
        return False
    waits = type(handler.func.__self__).run.__code__
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not waits:
        frame = frame.f_back
    return frame is None


def _is_interruptible(frame: FrameType | None) -> bool:
    """Return whether Ctrl-C may be raised here: the innermost function not of the standard library is of a user."""
    trio = sys.modules.get("trio")
    ours = _OURS if trio is None else (*_OURS, os.path.dirname(trio.__file__ or "") + os.sep)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(ours):
            return False
        is_standard = name.startswith(_STANDARD_LIBRARY) and "site-packages" not in name
        if not is_standard and not name.startswith(_NEUTRAL):
            return True
        frame = frame.f_back
    return True


def _current_loop(library: str | None) -> Any:
    """Return the event loop of asyncio, or the token of the trio run, in which the running code is."""
    if library == "trio":
        return sys.modules["trio"].lowlevel.current_trio_token()
    return sys.modules["asyncio"].get_running_loop()


class LoopInterrupts:
    """Replaces the handler of SIGINT while sessions are open in the event loop of the main thread.

    In code of the library, of anyio and of the event loop Ctrl-C waits. On trio it is raised at the next checkpoint of
    the main task, and on asyncio between two callbacks, which ends ``run_until_complete`` as it would where the loop
    waits. If the loop makes no turn, because something blocks it, the third one is raised at once. A handler that a
    user has installed stays.

    Attributes:
        count: How many signals have come that end what runs: Ctrl-C here, and SIGTERM in a ``Termination``.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._sessions: set[int] = set()  # by identity
        self._presses = 0  # since the last turn of the event loop
        self._is_owed = False  # it is raised in the next turn of asyncio's loop
        self._has_been_raised = False
        self._is_on_trio = False
        self._loop: Any = None  # the event loop of asyncio, or the token of the trio run
        self._schedule: Callable[[Callable[[], object]], object] | None = None  # on the event loop
        self._original: _Handler | None = None
        self._handler: _Handler = self._handle  # one object, to be recognised

    def acquire(self, session: object) -> None:
        """Replace the handler for one more session, if this is the main thread and an event loop runs in it."""
        if threading.get_ident() != threading.main_thread().ident or (library := running_library()) is None:
            return
        handler = getsignal(SIGINT)
        if handler is not self._handler:
            if not _is_known(handler, library):
                return
            self._begin(handler, library)
        elif self._loop is not _current_loop(library):
            # A session was left open in an event loop that has ended. This loop has no handler of its own: it saw ours.
            self._begin(default_int_handler, library)
        self._sessions.add(id(session))

    def _begin(self, handler: Any, library: str | None) -> None:
        self._original = handler
        self._sessions = set()
        self._presses = 0
        self._has_been_raised = self._is_owed = False
        self._is_on_trio = library == "trio"
        self._loop = _current_loop(library)
        self._schedule = self._loop.run_sync_soon if self._is_on_trio else self._loop.call_soon_threadsafe
        signal(SIGINT, self._handler)

    def release(self, session: object) -> None:
        """Restore the handler, if no other session needs this one. Idempotent."""
        if id(session) in self._sessions:
            self._sessions.discard(id(session))
            if not self._sessions:
                self._restore()

    def _restore(self) -> None:
        if threading.get_ident() == threading.main_thread().ident and getsignal(SIGINT) is self._handler:
            # That of `asyncio.run` raises from the second time on, and would stay there after its loop. So it would
            # after a session that was left open in that loop.
            is_over = self._has_been_raised or self._has_loop_ended() or _is_stale(self._original)
            signal(SIGINT, default_int_handler if is_over else self._original)
            self._loop = self._schedule = self._original = None

    def _has_loop_ended(self) -> bool:
        if self._is_on_trio:
            return running_library() != "trio" or _current_loop("trio") is not self._loop
        return bool(self._loop.is_closed())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        assert self._schedule is not None
        self.count += 1
        if self._has_loop_ended():  # and a session was left open in it
            self._has_been_raised = True
            self._restore()
            raise KeyboardInterrupt
        self._presses += 1
        self._schedule(self._on_turn)
        if self._presses > 2 or _is_interruptible(frame):
            self._is_owed = False
            self._call(number, frame)
        elif self._is_on_trio:
            self._call(number, None)  # without a frame, that of `trio.run` waits for a checkpoint of the main task
        else:
            try:
                self._call(number, frame)
            except KeyboardInterrupt:
                self._is_owed = True

    def _call(self, number: int, frame: FrameType | None) -> None:
        assert self._original is not None
        try:
            self._original(number, frame)
        except KeyboardInterrupt:
            self._has_been_raised = True
            raise

    def _on_turn(self) -> None:
        self._presses = 0
        if self._is_owed:
            self._is_owed = False
            raise KeyboardInterrupt


loop_interrupts = LoopInterrupts()
"""Those of this process."""
