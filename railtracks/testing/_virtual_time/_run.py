"""``run``: run an async function under virtual time, on either backend."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import itertools
import os
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any, TypeVar

import anyio

from railtracks._test_hooks import RuntimeHooks, harness_options, runtime_hooks
from railtracks._test_probe import is_configured, running_library
from railtracks.exceptions import ConfigError, SessionError
from railtracks.state import MemoryStore
from railtracks.testing._virtual_time._asyncio_loop import VirtualLoop
from railtracks.testing._virtual_time._clock import WALL, VirtualClock
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._garbage import collecting_by_turns
from railtracks.testing._virtual_time._run_options import RunOptions
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._stuck_errors import StuckError
from railtracks.testing._virtual_time._switches import switching
from railtracks.testing._virtual_time._thread_kinds import wait_until_idle
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing._virtual_time._thread_waits import VirtualWaits
from railtracks.testing._virtual_time._trio_loop import seeded_trio, trio_options
from railtracks.testing._virtual_time._world import World
from railtracks.testing._virtual_time._world_patches import virtual_names

T = TypeVar("T")
_discarding = threading.Lock()
"""Held while the hook of the whole process is replaced, so that each run puts back what it has found."""


def backend_options(clock: VirtualClock, backend: str, scheduler: Scheduler | None = None) -> dict[str, Any]:
    """Return the ``backend_options`` with which ``anyio.run`` and ``start_blocking_portal`` run on ``clock``."""
    if backend == "trio":
        return trio_options(clock, scheduler)
    return {"loop_factory": lambda: VirtualLoop(clock, scheduler)}


def _generators(decisions: Decisions | None) -> Callable[[str], Random] | None:
    """Return what returns the generator of a purpose, the same in every process; None without decisions.

    A generator is made when it is needed, as many runs need none, and making it takes long.
    """
    if decisions is None:
        return None
    chances = {purpose: decisions.chance(purpose, f"{decisions.seed}/{purpose}") for purpose in ("values", "jitter")}
    return functools.cache(lambda purpose: Random(chances[purpose]))  # noqa: S311 (repeatable, not secret)


def virtual_hooks(clock: VirtualClock, decisions: Decisions | None = None) -> RuntimeHooks:
    """Return hooks with which sessions run on ``clock``, and draw values by chance or by what decides in the run.

    The observer stays as it is.
    """
    count = itertools.count()
    generator = _generators(decisions)
    return RuntimeHooks(
        clock=lambda: clock.now,
        wall=lambda: clock.wall,
        processor_clock=None,  # it differs from run to run
        new_id=lambda: f"s{next(count)}",
        random_bytes=os.urandom if generator is None else lambda size: generator("values").randbytes(size),
        jitter=None if generator is None else lambda most: generator("jitter").uniform(0, most),
        hold_clock=clock.hold,
        thread_scheduler=clock.thread_scheduler,
        observer=runtime_hooks.get().observer,
    )


def run(
    func: Callable[..., Awaitable[T]],
    *args: Any,
    backend: str = "asyncio",
    seed: int | None = None,
    clock: VirtualClock | None = None,
    world: str = "real",
    start: float | None = None,
    schedule: str | None = None,
) -> T:
    """Run an async function as ``anyio.run`` does, under virtual time. Blocks.

    When nothing can run, the clock jumps to the next deadline, so a sleep of an hour takes microseconds. Sessions
    inside have the identifiers ``s0``, ``s1``, ..., and take their times from this clock. They are kept in memory
    unless a store was configured, as other processes have sessions of the same identifiers. The clock is held while
    worker threads are at work, while a task waits for a socket whose other end is elsewhere, and inside
    ``clock.hold()``. In a virtual world, sleeps and waits of threads of the run take virtual time as well.

    Args:
        func: An async function.
        *args: Its arguments.
        backend: "asyncio" or "trio".
        seed: Decides the order of tasks that can run at the same time, and of worker threads, which take turns. The
            same seed gives the same order. With None the event loop decides.
        clock: A clock to read the time from, or to hold it; by default a new one.
        world: With "virtual", ``time``, ``datetime``, ``random``, ``uuid`` and ``os.urandom`` follow the virtual clock
            and the seed for code that runs in the run, and the threads of the run take turns and wait in virtual time.
            With "real" all of these are as they always are; with a seed, the threads of sync nodes take turns all the
            same.
        start: What ``anyio.current_time()`` and, in a virtual world, ``time.monotonic()`` read when the run begins, in
            seconds. By default 0; in a virtual world another number for each seed but 0. With it the date is that of
            seed 0; otherwise half of the seeds from 20 on begin at a date of their own.
        schedule: How the order of tasks is decided: "shuffled", "priorities" or "late timers". By default seeds from 0
            to 19 shuffle, and of other seeds each has one of the three.

    Returns:
        What ``func`` returns.

    Raises:
        ConfigError: an argument is not allowed.
        Deadlock: nothing can run, and nothing ever will. ``func`` is cancelled before this is raised, so its cleanup
            has run.
        Livelock: tasks or threads run on and on, and no virtual time passes. ``func`` is cancelled as for Deadlock.
        EndlessRun: it has not ended after very many steps (``max_total_steps`` of the clock). ``func`` is cancelled as
            for Deadlock.
        ClockHeldError: something held the clock for longer than its ``patience``, in real seconds. ``func`` is
            cancelled as for Deadlock.
        SessionError: an event loop is running in this thread.
        Exception: what ``func`` raises.
    """
    _check_async(func)
    with kept_in_memory():
        how = RunOptions(seed=seed, backend=backend, clock=clock, world=world, start=start, schedule=schedule)
        clock = clock or VirtualClock()
        if clock.wall_start == WALL:
            clock.wall_start = how.wall_at_start
        answer: T = run_with(lambda hooks: hooks, _awaited, func, args, how=how, clock=clock, target=func)
        return answer


def _check_async(func: Any) -> None:
    if inspect.iscoroutine(func):
        func.close()  # or Python would warn that it was never awaited
        name = func.__name__
        raise ConfigError(
            f"run: the coroutine of {name}(...) is not a function; write run({name}, ...), with the function and its "
            f"arguments separate"
        )
    if not callable(func):
        raise ConfigError(f"run: {func!r} is not an async function; write run(main, ...), or simulate(flow) for a flow")


async def _awaited(func: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    result = func(*args)
    if not isinstance(result, Awaitable):
        raise ConfigError(f"run: {func!r} is not async; write `async def`")
    return await result


@contextlib.contextmanager
def kept_in_memory() -> Iterator[None]:
    """Have sessions keep their state in memory if no store was configured."""
    options = harness_options.get()
    if "store" in options or is_configured("store"):
        yield
        return
    token = harness_options.set({**options, "store": MemoryStore()})
    try:
        yield
    finally:
        harness_options.reset(token)


def run_with(
    customize_hooks: Callable[[RuntimeHooks], RuntimeHooks],
    func: Callable[..., Awaitable[T]],
    *args: Any,
    how: RunOptions,
    clock: VirtualClock,
    target: Any = None,
) -> T:
    """Do what ``run`` does, with the hooks that ``customize_hooks`` returns for those of virtual time.

    ``target`` is the function of the user that is run, if ``func`` is not.
    """
    if library := running_library():
        raise SessionError(
            f"an event loop of {library} is running in this thread, and virtual time needs its own event loop; "
            f"call this from a plain `def`, not from an `async def`"
        )
    seed, backend = how.seed, how.backend
    if backend == "trio":
        importlib.import_module("trio")  # which starts a process when it is imported, and that must not count
    clock.begin_at(how.reading_at_start)
    decisions = clock.decisions if seed is None or clock.decisions is not None else Decisions(seed, how.schedule)
    # A run that is resumed begins later, and so has other chance, as another process has.
    chance = None if decisions is None else decisions.chance("world", f"{seed}/{clock.wall:.0f}")
    world = World(clock, chance) if how.world == "virtual" else None
    choices = None if decisions is None else decisions.threads
    switches = None if decisions is None or world is None else decisions.switches
    clock.thread_scheduler = SeededThreadScheduler(choices, world, lambda: clock.reading, switches)
    clock.world = world
    if world is None:
        clock.note_undetermined("clocks, chance and threads of user code, as the world is real")
    clock.scheduler = scheduler = None if decisions is None else decisions.scheduler()
    token = runtime_hooks.set(customize_hooks(virtual_hooks(clock, decisions)))
    try:
        with contextlib.ExitStack() as stack:
            if seed is not None:
                stack.enter_context(collecting_by_turns(clock))
            if world is not None:
                function = func if target is None else target
                stack.enter_context(virtual_names(function, *_namespaces_of(function)))
                stack.enter_context(world.in_this_thread())
                VirtualWaits(world, clock)
                if switches is not None:
                    stack.enter_context(switching(switches))
            try:
                return run_on(clock, scheduler, func, *args, backend=backend)
            finally:
                clock.finish_threads()
    finally:
        runtime_hooks.reset(token)
        paused = clock.thread_scheduler.paused_threads
        clock.thread_scheduler.release_all()
        if paused:
            wait_until_idle(paused)  # or else they might still hold a lock when the next run begins
        if world is not None:
            world.end()


def _namespaces_of(function: Any) -> Iterator[dict[str, Any]]:
    """Yield the namespace of a function: its module may be none that is loaded, as in a notebook."""
    while isinstance(function, functools.partial):
        function = function.func
    namespace = getattr(inspect.unwrap(function), "__globals__", None)
    if isinstance(namespace, dict):
        yield namespace


def run_on(
    clock: VirtualClock, scheduler: Scheduler | None, func: Callable[..., Awaitable[T]], *args: Any, backend: str
) -> T:
    """Run an async function on a clock, without hooks. ``scheduler`` decides the order of tasks."""

    async def main() -> T:
        with anyio.CancelScope() as scope:
            clock.cancel_run = scope.cancel
            return await func(*args)
        assert clock.failure is not None
        raise clock.failure

    try:
        options = backend_options(clock, backend, scheduler)
        with seeded_trio(scheduler) if backend == "trio" else contextlib.nullcontext():
            result = anyio.run(main, backend=backend, backend_options=options)
    except BaseException as exc:
        if clock.failure is None or exc is clock.failure or isinstance(exc, KeyboardInterrupt | SystemExit):
            raise
        if not _consists_of(exc, clock.failure) and type(exc).__name__ != "TrioInternalError":
            clock.failure.add_note(f"its cleanup raised {exc!r}")
        _discard_uncancellable(clock.failure)  # not each time, as it takes long where there are many objects
    if clock.failure is not None:
        raise clock.failure
    return result


def _consists_of(exc: BaseException, failure: StuckError) -> bool:
    """Return whether an exception is a cancellation, or a group of the failure alone: a task may have got that."""
    if isinstance(exc, BaseExceptionGroup):
        return all(_consists_of(each, failure) for each in exc.exceptions)
    return exc is failure or not isinstance(exc, Exception)


def _discard_uncancellable(failure: StuckError) -> None:
    """Let the garbage collector discard now what could not be cancelled, and not in the middle of what runs next.

    Python warns of coroutines that are discarded while they wait, and reports what they raise then. Both are expected
    here, and silenced.
    """
    failure.with_traceback(None).__context__ = None
    with _discarding:
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
        finally:
            sys.unraisablehook = hook
