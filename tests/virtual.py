"""``railtracks.testing.run`` with files on disk. Ways to hold its clock, and to wait for a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from anyio.lowlevel import current_token

from railtracks._concurrency._background import Work
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._run import run_with
from railtracks.testing._virtual_time._run_options import RunOptions

PATIENCE = 120
"""Real seconds that threads and processes have where many tests share few processors."""
_clocks: list[VirtualClock] = []
_held_from_outside = 0


def clock() -> VirtualClock:
    """The clock of the run that is going on."""
    return _clocks[-1]


@contextmanager
def hold_clock() -> Iterator[None]:
    """For tests that use threads which the library does not know of; around a run, or in one."""
    global _held_from_outside
    if _clocks:
        with _clocks[-1].hold():
            yield
        return
    _held_from_outside += 1
    try:
        yield
    finally:
        _held_from_outside -= 1


def run(backend: str, func: Callable[..., Any], *args: Any) -> Any:
    clock = VirtualClock(patience=PATIENCE)
    with ExitStack() as stack:
        if _held_from_outside:
            stack.enter_context(clock.hold())
        _clocks.append(clock)
        stack.callback(_clocks.pop)
        return run_with(lambda hooks: hooks, func, *args, how=RunOptions(backend=backend), clock=clock)


async def wait_for(work: Work) -> None:
    """Wait until background work has ended, as a session does that saves. Cancellation: the wait ends."""
    changed, token = Condition(), current_token()
    work.when_done(lambda: call_soon(token, changed.notify_all))
    await changed.wait_while(lambda: not work.is_done)
