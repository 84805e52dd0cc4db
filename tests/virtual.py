"""Virtual time for the tests, on both backends: when nothing can run, the clock jumps to the next deadline.

It stands still while a worker thread of the library is at work, or one that a test announces with ``hold_clock``.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import trio

from railtracks import _threads
from railtracks._ids import Sources, sources

REAL_WAIT = 0.005  # seconds between two looks at the threads that hold the clock
_holds = 0


class Deadlock(RuntimeError):
    """Nothing can run, no deadline is set, no thread is at work: the test would hang for ever."""


@contextmanager
def hold_clock() -> Iterator[None]:
    """For tests that use threads which the library does not know of."""
    global _holds
    _holds += 1
    try:
        yield
    finally:
        _holds -= 1


def held() -> bool:
    return bool(_holds or _threads.running())


class Clock:
    """What time it is in one run; readable from all threads."""

    def __init__(self) -> None:
        self.now = 0.0


class _Patience:
    """How often in a row may a loop have nothing at all to do? A thread about to report needs real time."""

    def __init__(self) -> None:
        self._left = int(20 / REAL_WAIT)

    def wait(self) -> None:
        self._left -= 1
        if not self._left:
            raise Deadlock("no task can run, and there is no deadline and no thread to wait for")


class _JumpingSelector:
    def __init__(self, loop: VirtualLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop
        self._patience = _Patience()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None) -> Any:
        events = self._real.select(0)
        if events or timeout == 0:
            return events
        if held():
            return self._real.select(REAL_WAIT)
        # A thread may have finished between the look at the events and the look at the threads.
        if events := self._real.select(0):
            return events
        if timeout is None:
            self._patience.wait()
            return self._real.select(REAL_WAIT)
        self._loop.jump(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        self._virtual = clock
        super().__init__(_JumpingSelector(self))  # type: ignore[arg-type]

    def time(self) -> float:
        return self._virtual.now

    def jump(self, seconds: float) -> None:
        self._virtual.now += seconds
        self._clock_resolution = max(1e-9, 2 * math.ulp(self._virtual.now))  # or asyncio spins once the clock is large


class VirtualClock(trio.abc.Clock):
    def __init__(self, clock: Clock) -> None:
        self._patience = _Patience()
        self._virtual = clock

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._virtual.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline <= self._virtual.now:
            return 0
        if held():
            return REAL_WAIT
        if math.isinf(deadline):
            self._patience.wait()
            return REAL_WAIT
        self._virtual.now = deadline
        return 0


def run(backend: str, func: Callable[..., Any], *args: Any) -> Any:
    """``anyio.run`` under virtual time; the library's own clock is virtual too, and its identifiers are counted."""
    clock, count = Clock(), iter(range(10**9))
    if backend == "asyncio":
        options: dict[str, Any] = {"loop_factory": lambda: VirtualLoop(clock)}
    else:
        options = {"clock": VirtualClock(clock)}
    source = Sources(clock=lambda: clock.now, wall=lambda: 1e9 + clock.now, new_id=lambda: f"s{next(count)}")
    token = sources.set(source)
    try:
        return anyio.run(func, *args, backend=backend, backend_options=options)
    finally:
        sources.reset(token)
