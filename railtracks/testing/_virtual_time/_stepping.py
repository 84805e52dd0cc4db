"""An event loop in a thread of its own, whose clock moves only when a method advances it: for state machines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from anyio.lowlevel import checkpoint

from railtracks._test_probe import running_library
from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._choices import seeded_choices
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._run import backend_options
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._stuck_errors import ClockHeldError
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing._virtual_time._trio_loop import seeded_trio

QUIET_TURNS = 3
"""How many turns without anything to do make asyncio's event loop count as idle."""
REAL_WAIT = 0.0002
"""Real seconds between two checks of threads that are at work."""


class SteppedLoop:
    """Runs functions in an event loop; each method returns when nothing can run until time advances.

    Args:
        backend: "asyncio" or "trio".
        seed: The seed, as for ``run``.
    """

    def __init__(self, backend: str, seed: int) -> None:
        self.clock = VirtualClock(jumps=False)
        self.clock.counts_steps = False  # except while a method waits, as the error could not be raised anywhere
        self.clock.thread_scheduler = SeededThreadScheduler(seeded_choices(seed, "threads"))
        scheduler = Scheduler(seeded_choices(seed, "order"))
        options = backend_options(self.clock, backend, scheduler)
        with ExitStack() as stack:
            if backend == "trio":
                stack.enter_context(seeded_trio(scheduler))
            stack.callback(self.clock.thread_scheduler.release_all)
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal(backend, options))
            self._stack = stack.pop_all()

    def start(self, func: Callable[..., Any], *args: Any) -> None:
        """Start the async function ``func`` in a task of its own."""
        self._portal.start_task_soon(func, *args)
        self.wait_idle()

    def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function, or await an async one, in the event loop, and return its result."""
        result = self._portal.call(func, *args)
        self.wait_idle()
        return result

    def wait_idle(self) -> None:
        """Wait until no task and no thread has anything to do before the next deadline.

        Raises:
            StuckError: tasks always have something to do, or a thread has been under way for too long.
        """
        self._portal.call(self._give_up_if_stuck, self._wait_idle)

    def advance(self, seconds: float) -> None:
        """Advance the clock by ``seconds``, from deadline to deadline.

        Raises:
            StuckError: as ``wait_idle``.
        """
        self._portal.call(self._give_up_if_stuck, self._advance, seconds)

    def close(self) -> None:
        """End the event loop, and cancel what still runs in it.

        If a task does not end when it is cancelled, the clock ends the event loop without it.
        """
        self.clock.thread_scheduler.release_all()  # no turns are granted from now on
        self.clock.counts_steps = True
        with contextlib.suppress(RuntimeError, CancelledError):  # of the portal, if the clock ended the event loop
            self._portal.call(self._portal.stop, True)
        with contextlib.suppress(RuntimeError, CancelledError):
            self._stack.close()

    async def _give_up_if_stuck(self, wait: Callable[..., Any], *args: Any) -> None:
        """Await ``wait(*args)``; if the clock finds that the event loop cannot go on, raise why instead."""
        with anyio.CancelScope() as scope:
            self.clock.cancel_run = scope.cancel
            self.clock.counts_steps = True
            try:
                await wait(*args)
            finally:
                self.clock.counts_steps = False
            return
        failure, self.clock.failure = self.clock.failure, None  # the next step may find it again
        assert failure is not None
        raise failure

    async def _wait_idle(self) -> None:
        began = _real_clock.monotonic()
        while True:
            await self._wait_all_tasks_blocked()
            if not self.clock.grant_thread_turn():
                return
            if _real_clock.monotonic() - began > self.clock.patience:
                assert self.clock.event_loop is not None
                problem = f"a worker thread has been under way for {self.clock.patience:g} s of real time; let it end"
                raise ClockHeldError(problem, self.clock.event_loop.waiting())
            _real_clock.block(REAL_WAIT)  # a thread is at work, and nothing else may run before it has ended
            await checkpoint()

    async def _wait_all_tasks_blocked(self) -> None:
        if running_library() == "trio":
            await anyio.wait_all_tasks_blocked()
            return
        import asyncio

        loop: Any = asyncio.get_running_loop()  # anyio's own wait sleeps, and the clock does not move
        quiet = 0
        while quiet < QUIET_TURNS:
            await asyncio.sleep(0)
            quiet = 0 if loop.count_ready() else quiet + 1

    async def _advance(self, seconds: float) -> None:
        clock, event_loop = self.clock, self.clock.event_loop
        assert event_loop is not None
        end = clock.now + seconds
        await self._wait_idle()
        while (deadline := event_loop.deadline()) is not None and clock.seconds_until(deadline) <= end - clock.now:
            clock.jump_to(deadline)
            await checkpoint()
            await self._wait_idle()
        clock.jump(max(0.0, end - clock.now))
        await self._wait_idle()
