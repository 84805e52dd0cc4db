"""The stacks of threads, read from another thread.

Before Python 3.12 a garbage collection may begin wherever an object is made, also in the middle of
``sys._current_frames()`` or ``frame.f_back``. What it finalizes may let another thread run, whose frames change then,
and the process crashes; or that thread waits for the lock that ``sys._current_frames()`` holds, and the process hangs
for ever (CPython issue 106883; 3.11.12 avoids the hang, and not the crash). So nothing is collected meanwhile.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from railtracks._concurrency._after_fork import after_fork

_COLLECTS_ANYWHERE = sys.version_info < (3, 12)
_guard = threading.Lock()
_readers: dict[object, None] = {}
_must_enable = False  # whether collecting goes on when the last of them has ended


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Keep the garbage collector from running while frames of other threads, their lines and locals are read.

    The block must be short: it is a switch of the whole process, which other code may use at the same time.
    """
    global _must_enable
    if not _COLLECTS_ANYWHERE:
        yield
        return
    reader = object()
    try:
        with _guard:
            _readers[reader] = None
            if gc.isenabled():
                _must_enable = True
                gc.disable()
        yield
    finally:
        with _guard:
            _readers.pop(reader, None)
            if not _readers and _must_enable:
                _must_enable = False
                gc.enable()


@after_fork
def _reset() -> None:
    global _guard, _must_enable
    _guard = threading.Lock()  # a thread of the parent may have held it, or have read
    _readers.clear()
    if _must_enable:
        _must_enable = False
        gc.enable()


def innermost_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread, by the identifier of the thread.

    To read the frames outside of that one, use ``stack_of_thread``.
    """
    with nothing_collected():
        return sys._current_frames()


def stack_of_thread(thread: int) -> list[FrameType]:
    """Return the frames of a thread, the innermost first; none if it has ended.

    If it runs meanwhile, the outer ones may be those of a moment later.
    """
    with nothing_collected():
        return _outwards(sys._current_frames().get(thread))


def thread_stacks() -> list[list[FrameType]]:
    """Return the frames of all threads, the innermost first."""
    with nothing_collected():
        return [_outwards(frame) for frame in sys._current_frames().values()]


def _outwards(frame: FrameType | None) -> list[FrameType]:
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    return stack
