"""Ctrl-C in synchronous code: gates that can be waited for again, and sections that it must not tear apart."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Gate:
    """Opens once, for all threads that wait.

    Unlike ``threading.Event`` it holds no lock while it waits, so a KeyboardInterrupt can break off the wait at any
    point, and the thread can wait again.
    """

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let all who wait go on. To be called once."""
        self.is_open = True
        self._lock.release()

    def wait(self, seconds: float = -1) -> bool:
        """Block until it is open, or for some seconds, and return whether it is open.

        Raises:
            KeyboardInterrupt: Ctrl-C came while this waited; call it again then.
        """
        if not self.is_open and self._lock.acquire(timeout=seconds):
            self._lock.release()
        return self.is_open


class DeferredInterrupts:
    """A section of code in which Ctrl-C waits for its end: ``with DeferredInterrupts(): ...``.

    For a few statements that must run all or none of them, such as to start a thread and to note that it runs. The
    handler of the signal is replaced meanwhile, so there must be no ``await`` in it. In threads other than the main
    one, which get no signals, it does nothing.
    """

    __slots__ = ("_handler", "_signum")

    def __init__(self) -> None:
        self._handler: Callable[[int, FrameType | None], Any] | None = None
        self._signum: int | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):  # and not the system's own action
                signal.signal(signal.SIGINT, self._defer)
                self._handler = handler

    def _defer(self, signum: int, frame: FrameType | None) -> None:
        self._signum = signum

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        handler, self._handler = self._handler, None
        if handler is None:
            return
        signal.signal(signal.SIGINT, handler)
        if self._signum is not None:
            handler(self._signum, sys._getframe(1))
