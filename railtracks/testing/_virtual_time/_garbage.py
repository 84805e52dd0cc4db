"""Garbage collection in a run: at turns of the event loop that are counted, and not when the process needs it.

Python collects after so many objects were made in the process, whatever made them. So finalizers, and callbacks of weak
references, of objects in reference cycles would run at other steps each time. While runs with a seed are under way,
Python collects only after very many objects, and each run discards its own garbage at fixed turns instead.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from railtracks.testing._virtual_time._clock import VirtualClock

MANY_OBJECTS = 500_000
"""After how many more objects Python collects nevertheless: a thread or a task may make them without a turn."""
NOTE = "when Python discarded objects in reference cycles, as very many were made, or as another run discarded its own"
_in_run: ContextVar[bool] = ContextVar("railtracks_testing_garbage", default=False)
"""Whether the running code is part of a run, at whose turns the garbage of runs inside of it is discarded, too."""


class _Collector:
    """The garbage collection of this process, while there are runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocks: list[VirtualClock] = []
        self._thresholds = 0, 0, 0  # as they were before the first run
        self._by_clock: VirtualClock | None = None  # whose turn it is that collects now

    def add(self, clock: VirtualClock) -> None:
        """Handle that a run begins."""
        gc.collect(0)  # so that the first collection in the run has its own objects only
        with self._lock:
            if not self._clocks:
                self._thresholds = gc.get_threshold()
                gc.set_threshold(MANY_OBJECTS, *self._thresholds[1:])
                gc.callbacks.append(self._on_collection)
            self._clocks.append(clock)

    def remove(self, clock: VirtualClock) -> None:
        """Handle that a run has ended."""
        with self._lock:
            self._clocks.remove(clock)
            if not self._clocks:
                gc.callbacks.remove(self._on_collection)
                if gc.get_threshold() == (MANY_OBJECTS, *self._thresholds[1:]):  # and not what code of the run has set
                    gc.set_threshold(*self._thresholds)

    def collect(self, clock: VirtualClock) -> None:
        """Discard the garbage of a run, among the objects that are new since the last time."""
        self._by_clock = clock
        try:
            gc.collect(0)
        finally:
            self._by_clock = None

    def _on_collection(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["collected"] and info["generation"] < 2:  # of all objects: by code that asks for it
            for clock in tuple(self._clocks):
                if clock is not self._by_clock:
                    clock.note_undetermined(NOTE)


_collector = _Collector()


@contextlib.contextmanager
def collecting_by_turns(clock: VirtualClock) -> Iterator[None]:
    """Discard the garbage of a run at certain turns inside the block, if Python discards any on its own."""
    if _in_run.get() or not gc.isenabled() or not gc.get_threshold()[0]:
        yield
        return
    token = _in_run.set(True)
    _collector.add(clock)
    clock.collect_garbage = lambda: _collector.collect(clock)
    try:
        yield
    finally:
        _collector.remove(clock)
        _in_run.reset(token)
