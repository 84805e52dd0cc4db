"""Both event loops under virtual time: asyncio through a loop of our own, trio through its ``MockClock``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import selectors
import socket
import struct
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from railtracks._ids import Sources, sources
from railtracks.exceptions import ConfigError, SessionError
from railtracks.execution import running_library
from railtracks.testing._clock import StuckError, VirtualClock
from railtracks.testing._doors import waits_for_asyncio, waits_for_trio
from railtracks.testing._threads_seen import is_anyio_worker, is_busy_trio_worker, others
from railtracks.testing._turns import ThreadTurns
from railtracks.testing._whereabouts import asyncio_tasks, order_of, places, trio_tasks

if TYPE_CHECKING:
    import trio.testing

T = TypeVar("T")

REAL_WAIT = 0.005
"""Real seconds between two looks at what holds the clock."""
WALL = 1e9
"""What the wall clock says when a run begins: 2001-09-09, 01:46:40 UTC."""


# ---- asyncio


class _JumpingSelector:
    """Polls the real selector; where it would block, asks the clock what to do."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None) -> Any:
        events = self._real.select(0)
        clock = self._loop.clock
        if events or timeout == 0:
            clock.ran()
            return events
        deadline = self._loop.deadline()
        if clock.idle(deadline):
            # A thread may have finished between the look at the events and the look at the threads.
            if events := self._real.select(0):
                return events
            if deadline is not None:
                clock.jump(deadline - clock.now)
            return events
        return self._real.select(0 if self._loop.has_ready else REAL_WAIT)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on a virtual clock.

    Args:
        clock: Its clock.
        random: Decides which of the tasks that can run goes first, as trio does; None: first come, first served.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]  # a heap of timers; those that were cancelled are not at its top when the selector is asked

    def __init__(self, clock: VirtualClock, random: Random | None = None) -> None:
        self.clock = clock
        self._random = random
        self._count = 0
        self._jobs: list[list[int | None]] = []
        super().__init__(_JumpingSelector(self))  # type: ignore[arg-type]
        clock.event_loop = self

    def time(self) -> float:
        return self.clock.now

    def moved(self, seconds: float) -> None:
        self._clock_resolution = max(1e-9, 2 * math.ulp(self.clock.now))  # or asyncio spins once the clock is large

    def deadline(self) -> float | None:
        """When the next timer is due; None if there is none, or never (``anyio.sleep_forever`` sets such a timer)."""
        when = self._scheduled[0]._when if self._scheduled else math.inf
        return None if math.isinf(when) else when

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def create_task(self, coro: Any, **options: Any) -> Any:
        task = super().create_task(coro, **options)
        self._count += 1
        with contextlib.suppress(AttributeError):  # of a user's own task factory
            task._railtracks_order = self._count  # type: ignore[attr-defined]
        return task

    def _run_once(self) -> None:
        if self._random is not None and len(self._ready) > 1:
            self._shuffle(self._random)
        super()._run_once()  # type: ignore[misc]

    def _shuffle(self, random: Random) -> None:
        """Permute the steps of different tasks among their places, and nothing else: callbacks have an order.

        They are sorted first: asyncio and anyio cancel tasks in the order of a set, which is the order of addresses.
        """
        ready = self._ready
        steps = [(place, task) for place, handle in enumerate(ready) if (task := _task_of(handle)) is not None]
        if len(steps) < 2:
            return
        handles = [ready[place] for place, _ in sorted(steps, key=lambda step: (order_of(step[1]), step[0]))]
        random.shuffle(handles)
        for (place, _), handle in zip(steps, handles, strict=True):
            ready[place] = handle

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        job: list[int | None] = [None]  # the thread that is at it

        def work(*args: Any) -> Any:
            job[0] = threading.get_ident()
            return func(*args)

        in_thread = executor is None or isinstance(executor, ThreadPoolExecutor)
        future = super().run_in_executor(executor, work if in_thread else func, *args)
        self._jobs.append(job)
        future.add_done_callback(lambda _: self._jobs.remove(job))
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        with self.clock.hold():  # it has a deadline, and the clock must not jump there
            await super().shutdown_default_executor(*args, **kwargs)

    def waiting(self) -> list[str]:
        return places(asyncio_tasks().values())

    def jobs(self) -> list[tuple[int | None, str]]:
        jobs: list[tuple[int | None, str]] = [(job[0], "a job in an executor") for job in self._jobs]
        for thread in threading.enumerate():
            if is_anyio_worker(thread) and thread.loop is self and thread.queue.unfinished_tasks:  # type: ignore[attr-defined]
                jobs.append((thread.ident, "a worker thread"))
            elif thread.name.startswith("asyncio-waitpid-"):  # how Python 3.11 waits for a process
                jobs.append((None, "a process"))
        return jobs

    def is_waited_for(self, frame: FrameType | None) -> bool:
        return waits_for_asyncio(frame, self)

    def sockets(self) -> list[str]:
        own: socket.socket = self._ssock  # type: ignore[attr-defined]
        return describe_sockets([key for key in self._selector.get_map() if key != own.fileno()])  # type: ignore[attr-defined]


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """The task of which ``handle`` is the next step."""
    callback = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return None
    name = getattr(callback, "__name__", "TaskStepMethWrapper")
    return task if name in ("TaskStepMethWrapper", "task_wakeup", "__step", "__wakeup") else None


def describe_sockets(files: list[int]) -> list[str]:
    """Those that wait for the world outside the event loop: not those that listen, nor those whose other end is here.

    The other end is here if it is in this process, which has no other thread that could use it.
    """
    here: set[Any] | None = None
    found = []
    for file in files:
        listens, _, peer = _ends(file)
        if listens:
            continue
        if peer is not None and not others():
            here = _names_here() if here is None else here
            if peer in here:
                continue
        found.append(f"file descriptor {file}")
    return found


def _names_here() -> set[Any]:
    """The addresses of this process's own ends of sockets."""
    try:
        files = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # Windows has none
        return {_OWN}
    return {_OWN, *(name for file in files if (name := _ends(file)[1]))}


_OWN = "the other end of a pair that this process made"


def _ends(file: int) -> tuple[bool, Any, Any]:
    """Does it listen, and the addresses of its two ends; of a pipe nothing is known."""
    try:
        view = socket.socket(fileno=file)
    except OSError:  # no socket
        return False, None, None
    try:
        listens = bool(view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        name = view.getsockname()
        peer = None if listens else view.getpeername() or _peer_of_pair(view)
        return listens, name or None, peer
    except OSError:  # not connected
        return False, None, None
    finally:
        view.detach()


def _peer_of_pair(view: socket.socket) -> Any:
    """A Unix socket without a name: who made it?"""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS has another way
        return None
    process = struct.unpack("3i", view.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))[0]
    return _OWN if process == os.getpid() else None


# ---- trio


@contextlib.contextmanager
def seeded_trio(seed: str | None) -> Iterator[None]:
    """trio takes the order of its tasks from one random generator of its own."""
    from trio._core import _run as trio_run

    if seed is None:
        yield
        return
    allowed, state = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # as trio's own plugin for Hypothesis does
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        trio_run._r.setstate(state)


def _trio_options(clock: VirtualClock) -> dict[str, Any]:
    """A ``MockClock`` that asks ``clock`` before it jumps, and goes with it."""
    import trio
    import trio.testing

    mock = trio.testing.MockClock(autojump_threshold=0.0 if clock.jumps else math.inf)
    wait = 0.0

    class Watch(trio.abc.Instrument):
        def task_scheduled(self, task: object) -> None:
            nonlocal wait
            wait = 0.0
            clock.ran()

    def autojump() -> None:
        nonlocal wait
        deadline = event_loop.deadline()
        if deadline is not None and deadline <= clock.now:
            return
        if clock.idle(deadline):
            if event_loop.has_news():
                return
            assert deadline is not None
            clock.jump(deadline - clock.now)
        else:
            time.sleep(wait)  # the event loop asks again and again, and threads want to run too
            wait = min(max(1e-5, 2 * wait), 1e-3)

    mock._autojump = autojump  # type: ignore[method-assign]
    clock.event_loop = event_loop = _Trio(mock)
    return {"clock": mock, "instruments": [Watch()]}


class _Trio:
    """trio, as a clock wants to know it."""

    def __init__(self, mock: trio.testing.MockClock) -> None:
        self.moved = mock.jump

    def deadline(self) -> float | None:
        import trio

        ahead = trio.lowlevel.current_statistics().seconds_to_next_deadline
        return None if math.isinf(ahead) else trio.current_time() + ahead

    def jobs(self) -> list[tuple[int | None, str]]:
        frames = sys._current_frames()
        return [
            (thread.ident, "a worker thread") for thread in threading.enumerate() if is_busy_trio_worker(thread, frames)
        ]

    def is_waited_for(self, frame: FrameType | None) -> bool:
        import trio

        return waits_for_trio(frame, trio.lowlevel.current_trio_token())

    def has_news(self) -> bool:
        """Has a thread handed something over that was not looked at yet?"""
        from trio._core._run import GLOBAL_RUN_CONTEXT

        entries = GLOBAL_RUN_CONTEXT.runner.entry_queue
        return bool(entries.queue or entries.idempotent_queue)

    def sockets(self) -> list[str]:
        from trio._core._run import GLOBAL_RUN_CONTEXT

        runner = GLOBAL_RUN_CONTEXT.runner
        registered = getattr(runner.io_manager, "_registered", {})  # epoll and kqueue; Windows does not tell
        own = runner.entry_queue.wakeup.wakeup_sock.fileno()
        files = {key if isinstance(key, int) else key[0] for key in registered}
        return describe_sockets(sorted(files - {own}))

    def waiting(self) -> list[str]:
        return places(trio_tasks().values())


# ---- both


def backend_options(clock: VirtualClock, backend: str, random: Random | None = None) -> dict[str, Any]:
    """The ``backend_options`` with which ``anyio.run`` and ``start_blocking_portal`` run on ``clock``."""
    if backend == "trio":
        return _trio_options(clock)
    return {"loop_factory": lambda: VirtualLoop(clock, random)}


def seeded(seed: int | None, purpose: str) -> Random | None:
    """A random generator of its own for each purpose; the same in every process. None without a seed."""
    return None if seed is None else Random(f"{seed}/{purpose}")  # noqa: S311 (repeatable, not secret)


def run(
    func: Callable[..., Awaitable[T]],
    *args: Any,
    backend: str = "asyncio",
    seed: int | None = None,
    clock: VirtualClock | None = None,
    surroundings: Callable[[Sources], Sources] | None = None,
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
        surroundings: For harnesses: changes what sessions inside take from the outside world.

    Returns: what ``func`` returns.

    Raises:
        Deadlock: nothing can run, and nothing ever will. ``func`` is cancelled first, and its cleanup done.
        ClockHeldError: something held the clock for ``clock.patience`` seconds of real time. The same.
        SessionError: an event loop is running in this thread.
        Exception: what ``func`` raises.
    """
    if backend not in ("asyncio", "trio"):
        raise ConfigError(f"backend is {backend!r}; give 'asyncio' or 'trio'")
    if library := running_library():
        raise SessionError(
            f"an event loop of {library} is running here, and virtual time needs one of its own; "
            f"call this from a plain `def`, not from an `async def`"
        )
    random = seeded(seed, "order")
    clock = clock or VirtualClock(turns=ThreadTurns(seeded(seed, "threads")))
    count = iter(range(10**9))
    given = Sources(
        clock=lambda: clock.now, wall=lambda: WALL + clock.now, new_id=lambda: f"s{next(count)}", turns=clock.turns,
        observer=sources.get().observer,
    )  # fmt: skip
    token = sources.set(given if surroundings is None else surroundings(given))
    try:
        with seeded_trio(None if seed is None else f"{seed}/order") if backend == "trio" else contextlib.nullcontext():
            return _run(func, args, backend, clock, random)
    finally:
        sources.reset(token)
        clock.turns.open()


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
        stuck = clock.failure is not None and exc is not clock.failure and not isinstance(exc, KeyboardInterrupt)
        if not stuck:
            raise
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
