"""``run``: an async function under virtual time, on either backend."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import warnings
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeVar

import anyio

from railtracks._options import BACKENDS
from railtracks._test_hooks import RuntimeHooks, runtime_hooks
from railtracks.exceptions import ConfigError, SessionError
from railtracks.execution import running_library
from railtracks.testing._virtual_time._asyncio_loop import VirtualLoop
from railtracks.testing._virtual_time._clock import StuckError, VirtualClock
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing._virtual_time._trio_loop import seeded_trio, trio_options

T = TypeVar("T")

WALL = 1e9
"""What the wall clock says when a run begins: 2001-09-09, 01:46:40 UTC."""


def backend_options(clock: VirtualClock, backend: str, random: Random | None = None) -> dict[str, Any]:
    """The ``backend_options`` with which ``anyio.run`` and ``start_blocking_portal`` run on ``clock``."""
    if backend == "trio":
        return trio_options(clock)
    return {"loop_factory": lambda: VirtualLoop(clock, random)}


def seeded(seed: int | None, purpose: str) -> Random | None:
    """A random generator of its own for each purpose; the same in every process. None without a seed."""
    return None if seed is None else Random(f"{seed}/{purpose}")  # noqa: S311 (repeatable, not secret)


def virtual_hooks(clock: VirtualClock) -> RuntimeHooks:
    """What sessions take from the outside world when they run on ``clock``; who looks on stays the same."""
    count = itertools.count()
    return RuntimeHooks(
        clock=lambda: clock.now,
        wall=lambda: WALL + clock.now,
        new_id=lambda: f"s{next(count)}",
        thread_scheduler=clock.thread_scheduler,
        observer=runtime_hooks.get().observer,
    )


def run(
    func: Callable[..., Awaitable[T]],
    *args: Any,
    backend: str = "asyncio",
    seed: int | None = None,
    clock: VirtualClock | None = None,
) -> T:
    """``anyio.run`` under virtual time: when nothing can run, the clock jumps to the next deadline.

    A sleep of an hour takes microseconds. Sessions inside count their identifiers, ``s0``, ``s1``, ..., and take their
    times from this clock. It stands still while worker threads are at work, while a task waits for a socket whose other
    end is elsewhere, and inside ``clock.hold()``.

    Args:
        func: An async function.
        *args: For it.
        backend: "asyncio" or "trio".
        seed: What decides the order of tasks that can run at the same time, and of worker threads, which take turns.
            The same seed gives the same order. None: as the event loop has it.
        clock: To read the time by, or to hold it.

    Returns: what ``func`` returns.

    Raises:
        ConfigError: an argument is not allowed.
        Deadlock: nothing can run, and nothing ever will. ``func`` is cancelled first, and its cleanup done.
        ClockHeldError: something held the clock for as many seconds of real time as its ``patience`` is. The same.
        SessionError: an event loop is running in this thread.
        Exception: what ``func`` raises.
    """
    return run_with(lambda given: given, func, *args, backend=backend, seed=seed, clock=clock)


def run_with(
    surroundings: Callable[[RuntimeHooks], RuntimeHooks],
    func: Callable[..., Awaitable[T]],
    *args: Any,
    backend: str,
    seed: int | None,
    clock: VirtualClock | None,
) -> T:
    """``run``, where ``surroundings`` changes what sessions inside take from the outside world."""
    if backend not in BACKENDS:
        raise ConfigError(f"backend is {backend!r}; give 'asyncio' or 'trio'")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ConfigError(f"seed is {seed!r}; give a whole number")
    if library := running_library():
        raise SessionError(
            f"an event loop of {library} is running here, and virtual time needs one of its own; "
            f"call this from a plain `def`, not from an `async def`"
        )
    random = seeded(seed, "order")
    clock = clock or VirtualClock()
    if clock.event_loop is not None:
        raise ConfigError("clock: a VirtualClock is for one run; make another: clock=VirtualClock()")
    clock.thread_scheduler = SeededThreadScheduler(seeded(seed, "threads"))
    token = runtime_hooks.set(surroundings(virtual_hooks(clock)))
    try:
        with seeded_trio(None if seed is None else f"{seed}/order") if backend == "trio" else contextlib.nullcontext():
            return _run(func, args, backend, clock, random)
    finally:
        runtime_hooks.reset(token)
        clock.thread_scheduler.release_all()


def _run(
    func: Callable[..., Awaitable[T]], args: tuple[Any, ...], backend: str, clock: VirtualClock, random: Random | None
) -> T:
    async def main() -> T:
        with anyio.CancelScope() as scope:
            clock.give_up = scope.cancel
            return await func(*args)
        assert clock.failure is not None
        raise clock.failure

    try:
        result = anyio.run(main, backend=backend, backend_options=backend_options(clock, backend, random))
    except BaseException as exc:
        if clock.failure is None or exc is clock.failure or isinstance(exc, KeyboardInterrupt | SystemExit):
            raise
        if isinstance(exc, Exception) and type(exc).__name__ != "TrioInternalError":
            clock.failure.add_note(f"its cleanup raised {exc!r}")
    if clock.failure is not None:
        _bury(clock.failure)
        raise clock.failure
    return result


def _bury(failure: StuckError) -> None:
    """What could not even be cancelled is thrown away here and now, not in the middle of what comes next.

    Python tells of coroutines that are thrown away while they wait, and of what they then raise: that is known.
    """
    failure.with_traceback(None).__context__ = None
    told, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = told
