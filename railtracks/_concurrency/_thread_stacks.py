"""The stacks of threads, read from another thread.

Before Python 3.12 a garbage collection may begin wherever an object is made, also in the middle of
``sys._current_frames()`` or ``frame.f_back``. What it finalizes may let another thread run, whose frames change then,
and the process crashes; or that thread waits for the lock that ``sys._current_frames()`` holds, and the process hangs
for ever (CPython issue 106883, mended for the second of these in 3.11.9). So nothing is collected meanwhile.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_COLLECTS_ANYWHERE = sys.version_info < (3, 12)


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Read frames of other threads, their lines and their locals inside the block."""
    if not _COLLECTS_ANYWHERE or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
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
