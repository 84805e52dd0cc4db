"""Virtual time for asyncio event loops that run in threads of a run, beside its own.

``asyncio.run`` in a sync node is one, or the loop of a portal of anyio, or one that a library has in its own thread.
Such a loop waits as other code in threads does: others continue meanwhile, and its timers are virtual. While it has
sockets, it first waits for these in real time.
"""

from __future__ import annotations

import functools
import math
import selectors
import sys
from asyncio import BaseEventLoop
from collections.abc import Callable
from typing import Any

from railtracks.testing._virtual_time._thread_patches import scheduler_here, waiting_world


def _loop_time(real: Any) -> Any:
    @functools.wraps(real)
    def time(self: Any) -> float:
        world = waiting_world()
        if world is None:
            return float(real(self))
        reading = world.clock.reading
        self._clock_resolution = max(1e-9, 2 * math.ulp(reading))  # or else it would spin once the clock is large
        return reading

    return time


def _select(real: Any) -> Any:
    @functools.wraps(real)
    def select(self: Any, timeout: float | None = None) -> Any:
        world = waiting_world()
        if world is None or (timeout is not None and timeout <= 0):
            return real(self, timeout)
        if sys._getframe(1).f_globals.get("__name__") != "asyncio.base_events":
            return real(self, timeout)
        if len(self.get_map()) > 1:  # more than that by which threads wake it
            ready = real(self, timeout)
            if ready:
                return ready
        assert world.waits is not None
        world.waits.wait(lambda: bool(real(self, 0)), timeout)
        return real(self, 0)

    return select


def _call_soon_threadsafe(real: Any) -> Any:
    @functools.wraps(real)
    def call_soon_threadsafe(self: Any, callback: Any, *args: Any, **options: Any) -> Any:
        handle = real(self, callback, *args, **options)
        scheduler = scheduler_here()
        if scheduler is not None and not hasattr(self, "clock"):  # the loop of the run does this itself
            scheduler.finish_returned()
        return handle

    return call_soon_threadsafe


LOOP_METHODS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (BaseEventLoop, "time", _loop_time),
    (BaseEventLoop, "call_soon_threadsafe", _call_soon_threadsafe),
    (selectors.DefaultSelector, "select", _select),
]
"""As ``METHODS``, for event loops."""
