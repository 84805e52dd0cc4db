"""SIGTERM as another Ctrl-C, for the forms that own the program's main thread while they run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, TypeVar, cast

import anyio

from railtracks._concurrency._event_loop import cancellation_types
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._loop_interrupts import loop_interrupts
from railtracks._concurrency._suspended import is_user_module
from railtracks._concurrency._task_groups import split_cancellation

T = TypeVar("T")
EXIT_STATUS = 128 + signal.SIGTERM
"""The status of a program that SIGTERM has ended, as shells report it."""


class Termination:
    """A section of code that SIGTERM ends as Ctrl-C does, from ``begin`` to ``end``.

    Whatever handles Ctrl-C at that moment (asyncio, trio, or Python) handles SIGTERM too, so what was started is
    cancelled, and the state is saved. Then SystemExit comes out of the section in place of KeyboardInterrupt.

    It does nothing in other threads than the main one, and where the application has its own way with SIGTERM. A forked
    child is ended at once, as ``multiprocessing`` expects: the session is its parent's.
    """

    __slots__ = ("_before", "_came", "_is_installed", "_process")

    def __init__(self) -> None:
        self._process = 0
        self._came = False
        self._is_installed = False
        self._before: Restoring | None = None

    def begin(self) -> None:
        """Begin the section."""
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            before = signal.getsignal(signal.SIGTERM)
            if before is signal.SIG_DFL or isinstance(before, Restoring):
                self._process = os.getpid()
                self._before = before if isinstance(before, Restoring) else None
                signal.signal(signal.SIGTERM, self._handle)
                self._is_installed = True
        except ValueError:  # not the main interpreter of the process
            return

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        self._came = True
        loop_interrupts.count += 1
        handler: Any = signal.getsignal(signal.SIGINT)
        # In the background of a shell SIGINT is ignored, and has no handler.
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    def end(self, exc: BaseException | None) -> None:
        """End the section.

        Args:
            exc: What its code raised; None if it returned.

        Raises:
            SystemExit: SIGTERM came, and ``exc`` is nothing else than the KeyboardInterrupt that it has led to. The
                status is ``EXIT_STATUS``.
        """
        self.restore()
        if self._came and (exc is None or isinstance(exc, KeyboardInterrupt)):
            raise SystemExit(EXIT_STATUS) from exc

    def restore(self) -> None:
        """Leave SIGTERM to the system again, unless the application has set a handler meanwhile. Idempotent."""
        if self._is_installed:
            self._is_installed = False
            if signal.getsignal(signal.SIGTERM) == self._handle:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                if self._before is not None and self._before.is_on:
                    self._before.begin()


class Restoring:
    """What is done when SIGTERM ends the program where nothing else handles it, as if it were not handled.

    Args:
        restore: It is called in the main thread. It must not raise.

    Attributes:
        is_on: Whether it is done, between ``begin`` and ``end``.
    """

    def __init__(self, restore: Callable[[], None]) -> None:
        self.is_on = False
        self._restore = restore
        self._process = 0

    def begin(self) -> None:
        """Do it from now on. It cannot be done if this is another thread than the main one."""
        self.is_on = True
        if threading.current_thread() is not threading.main_thread():
            return
        with suppress(ValueError):  # not the main interpreter of the process
            if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, self):
                self._process = os.getpid()
                signal.signal(signal.SIGTERM, self)

    def end(self) -> None:
        """Leave SIGTERM to the system again, if it was not handled otherwise meanwhile. Idempotent."""
        self.is_on = False
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is self:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        if self.is_on and os.getpid() == self._process:
            self._restore()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def run_event_loop(func: Callable[[], Awaitable[T]], backend: str) -> T:
    """Run an event loop of its own until ``func()`` has ended; SIGTERM ends it as Ctrl-C does. See ``Termination``.

    Raises:
        SystemExit: SIGTERM came.
        KeyboardInterrupt: Ctrl-C came. Its traceback has the lines of the program at which it stood, without the frames
            of the library and of the event loop, which would be three times as many.
        BaseException: whatever ``func`` raises.
    """
    termination = Termination()
    termination.begin()
    try:
        result, error = anyio.run(_outcome_of, func, backend=backend)
    except BaseException as exc:
        termination.end(exc)
        if type(exc) is KeyboardInterrupt:
            leave_out_library_frames(exc)
        raise
    termination.end(error)
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame
    return cast("T", result)


def leave_out_library_frames(exc: BaseException) -> None:
    """Remove the frames of the library, of event loops and of the standard library from the tracebacks of a Ctrl-C.

    Args:
        exc: The KeyboardInterrupt, or the cancellation of the main task; nothing is done to another exception.
    """
    for each in (exc, exc.__context__):  # asyncio cancels the main task first
        if each is not None and type(each) in (KeyboardInterrupt, *cancellation_types()):  # and no class of a user's
            each.__traceback__ = _user_frames(each.__traceback__)


def _user_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of the library, of event loops and of the standard library."""
    entries = []
    while traceback is not None:  # a recursive function could fail here, as Ctrl-C may come in very deep calls
        if is_user_module(traceback.tb_frame.f_globals.get("__name__")):
            entries.append(traceback)
        traceback = traceback.tb_next
    rest: TracebackType | None = None
    for entry in reversed(entries):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest


async def _outcome_of(func: Callable[[], Awaitable[T]]) -> tuple[T | None, BaseException | None]:
    """Return what an async function returns, and what it raises.

    asyncio must not have the exception: when it restores the handler of Ctrl-C, it asks for the repr of its main task,
    and so for that of the exception, which may raise. The handler would stay then, and the next event loop fail.
    """
    try:
        return await func(), None
    except BaseException as exc:
        if is_kind(exc, (KeyboardInterrupt, SystemExit, GeneratorExit)) or split_cancellation(exc)[0] is not None:
            raise
        return None, exc
