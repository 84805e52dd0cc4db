"""What a process has: threads, descriptors, children and memory; and the line through memory over time."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import attrs
import psutil
import sniffio
import trio

from railtracks._session._life import open_sessions
from railtracks.testing._virtual_time._thread_kinds import is_pooled

ERRORS = 3
"""So many standard errors a line must rise before that is more than noise."""
SHARE = 0.01
"""So much of its mean a line must rise over its points before that is growth."""
FEWEST = 20
"""With fewer points in the second half no line is judged."""


@attrs.frozen
class Census:
    """What a process has at one moment, in numbers."""

    sessions: int
    threads: int
    descriptors: int
    children: int

    @classmethod
    def now(cls) -> Census:
        """Count. The workers of pools, which end when they have had nothing to do for a while, do not count."""
        process = psutil.Process()
        threads = sum(not is_pooled(thread) for thread in threading.enumerate())
        return cls(len(open_sessions), threads, process.num_fds(), len(process.children(recursive=True)))

    def more_than(self, before: Census) -> dict[str, int]:
        """Return what there is more of than before, and how much."""
        counts = {name: count - getattr(before, name) for name, count in attrs.asdict(self).items()}
        return {name: count for name, count in counts.items() if count > 0}


def leaks_since(before: Census, patience: float = 5.0) -> dict[str, int]:
    """Return what there is more of than before, after ``patience`` seconds at most in which it may end."""
    deadline = time.monotonic() + patience
    while (more := Census.now().more_than(before)) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    return more


def tasks_alive() -> int:
    """Return the number of tasks of the running event loop."""
    if sniffio.current_async_library() == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


@attrs.frozen
class Line:
    """A straight line through what was measured as sessions ran, by least squares.

    Attributes:
        slope: What comes for each session.
        error: The standard error of the slope.
        rise: How far the line rises from the first point to the last.
        mean: The mean of the points.
        points: Their number.
    """

    slope: float
    error: float
    rise: float
    mean: float
    points: int

    @classmethod
    def through_second_half(cls, points: Sequence[tuple[float, float]]) -> Line | None:
        """Return the line through the second half of (sessions, measured); None if there are fewer than three."""
        half = points[len(points) // 2 :]
        if len(half) < 3 or half[0][0] == half[-1][0]:
            return None
        xs, ys = zip(*half, strict=True)
        slope, intercept = statistics.linear_regression(xs, ys)
        squares = sum((y - slope * x - intercept) ** 2 for x, y in half)
        spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
        error = (squares / (len(half) - 2) / spread) ** 0.5
        return cls(slope, error, slope * (xs[-1] - xs[0]), statistics.fmean(ys), len(half))

    @property
    def grows(self) -> bool:
        """Whether it rises by more than noise, and by more than a trifle."""
        is_judged = self.points >= FEWEST
        return is_judged and self.slope > ERRORS * self.error and self.rise > SHARE * self.mean


class _MallocInfo(ctypes.Structure):
    """What ``mallinfo2`` of glibc returns: of these, ``uordblks`` and ``hblkhd`` are the bytes that are in use."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    )  # fmt: skip


class Memory:
    """The memory of this process as sessions run.

    It is measured in blocks that Python has allocated, in objects that the garbage collector knows, and in bytes that
    the C library has allocated: for what is larger than 512 bytes, and for libraries in C. Resident bytes are measured
    as well. They rise, too, when what is free lies in many pieces, so nothing is judged by them.
    """

    def __init__(self) -> None:
        self.resident: list[tuple[float, float]] = []
        self.allocated: list[tuple[float, float]] = []
        self.blocks: list[tuple[float, float]] = []
        self.objects: list[tuple[float, float]] = []
        self._libc: Any = None
        with contextlib.suppress(OSError):
            self._libc = ctypes.CDLL(None)
        if hasattr(self._libc, "mallinfo2"):
            self._libc.mallinfo2.restype = _MallocInfo

    def measure(self, sessions: int) -> None:
        """Collect garbage, return free memory to the system where the C library can, and measure."""
        gc.collect()
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)
        self.resident.append((sessions, psutil.Process().memory_info().rss))
        if hasattr(self._libc, "mallinfo2"):  # glibc 2.33 or later
            info = self._libc.mallinfo2()
            self.allocated.append((sessions, info.uordblks + info.hblkhd))
        self.blocks.append((sessions, sys.getallocatedblocks()))
        self.objects.append((sessions, len(gc.get_objects())))
