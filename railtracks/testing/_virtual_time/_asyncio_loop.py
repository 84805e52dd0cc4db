"""asyncio under virtual time: a small event loop of our own."""

from __future__ import annotations

import asyncio
import itertools
import math
import selectors
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from railtracks.testing._virtual_time._asyncio_order import Future, Moment, Task, sets_in_order, task_of
from railtracks.testing._virtual_time._asyncio_sleeps import Sleeps
from railtracks.testing._virtual_time._asyncio_steps import FromThread, Steps
from railtracks.testing._virtual_time._blocked_threads import BlockedThreads
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._sockets import describe_sockets
from railtracks.testing._virtual_time._tasks import (
    asyncio_tasks,
    describe_step,
    keep_for_ever,
    wait_locations,
)
from railtracks.testing._virtual_time._thread_kinds import is_anyio_worker, name_of, package_of
from railtracks.testing._virtual_time._thread_patches import scheduler_here

_WITHOUT_THREADS = frozenset({"anyio", "railtracks", "sniffio", "trio", "uvloop"})
"""Packages whose futures no thread of their own has done, or whose threads are known otherwise."""
REAL_WAIT = 0.005
"""Real seconds between two checks of what holds the clock."""
_REAL_SELECT = selectors.DefaultSelector.select
"""That of the selector itself: in a run the method is replaced by one that waits in virtual time."""


class _JumpingSelector:
    """Polls the real selector, and where that would block, asks the clock whether to jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop
        self.events: list[Any] = []
        """What the real selector returned last."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def poll(self) -> Any:
        """Return what has happened."""
        return _REAL_SELECT(self._real, 0)

    def select(self, timeout: float | None) -> Any:
        self.events = _REAL_SELECT(self._real, 0)
        loop, clock = self._loop, self._loop.clock
        if self.events or timeout == 0:
            clock.note_activity()
        else:
            loop.sleeps.delay()
            deadline = loop.deadline()
            if clock.may_jump(deadline):
                if deadline is not None:
                    clock.jump_to(deadline)
                loop.note_due(self.events)
                return self.events
            self.events = _REAL_SELECT(self._real, 0 if loop.count_ready() else REAL_WAIT)
            if self.events or loop.count_ready():
                clock.note_activity()
        ready = loop.count_ready() + len(self.events)
        if ready or timeout == 0:  # a timer is due, if there is nothing else
            clock.note_turn(ready)
        if loop.steps.held and loop.has_callbacks_due(self.events):
            loop.steps.release()
        loop.note_due(self.events)
        return self.events


class _Job:
    """A piece of work in an executor."""

    thread: int | None = None
    """The thread that runs it; None before it has begun."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on a virtual clock.

    Args:
        clock: Its clock.
        scheduler: Decides the order of the tasks that can run, as in trio. With None they run in the order in which
            they became ready.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]  # a heap of timers; no cancelled one is at its top when the selector is polled

    def __init__(self, clock: VirtualClock, scheduler: Scheduler | None = None) -> None:
        self.clock = clock
        self._made = itertools.count(1)  # tasks and futures
        self._timers_set = itertools.count()
        self._jobs: dict[_Job, None] = {}
        self._library_futures: dict[str, weakref.WeakSet[asyncio.Future[Any]]] = {}  # by the package that made them
        self._own_thread = threading.get_ident()
        self._blocked = BlockedThreads()
        super().__init__(_JumpingSelector(self))  # type: ignore[arg-type]
        self._observer = scheduler if scheduler is not None and scheduler.observes else None
        self.steps = Steps(self._ready, scheduler)
        self.sleeps = Sleeps(lambda: self._scheduled, clock, scheduler, self._moment)
        clock.event_loop = self
        self._in_order = sets_in_order()
        self._in_order.__enter__()

    def close(self) -> None:
        if not self.is_closed():
            self._in_order.__exit__(None, None, None)
            self.sleeps.close()
            keep_for_ever(asyncio.all_tasks(self))  # if any are left, the clock ended the run, and they never run again
        super().close()
        self._blocked.release()  # what a thread has asked between the last turn and this is never answered

    def time(self) -> float:
        return self.clock.reading

    def on_clock_moved(self, seconds: float) -> None:
        # Otherwise asyncio would spin once the clock is large.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self.clock.reading))

    def deadline(self) -> float | None:
        """Return when the next timer is due, or None if none ever is (``anyio.sleep_forever`` sets such a timer)."""
        when = self._scheduled[0]._when if self._scheduled else math.inf
        return None if math.isinf(when) else when

    def count_ready(self) -> int:
        """Return how many callbacks can run."""
        return len(self._ready) + len(self.steps.held)

    def has_callbacks_due(self, events: list[Any]) -> bool:
        """Return whether callbacks of sockets or timers are about to be scheduled.

        Args:
            events: What the selector returns in this turn.
        """
        own = self._ssock  # type: ignore[attr-defined]
        due = self._scheduled and self._scheduled[0]._when < self.time() + self._clock_resolution
        return due or any(key.fileobj is not own for key, _ in events)

    def note_due(self, events: list[Any]) -> None:
        """Notify a scheduler that observes the run of callbacks that are about to be scheduled, as above."""
        if self._observer is not None and self.has_callbacks_due(events):
            self._observer.note_due()

    def create_task(self, coro: Any, **options: Any) -> Any:
        if self.get_task_factory() is not None:
            return super().create_task(coro, **options)
        return Task(coro, loop=self, order=next(self._made), **options)

    def call_at(self, when: float, callback: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.clock.note_timer(when - self.clock.reading)
        timer = super().call_at(self._moment(when), callback, *args, **options)
        self.sleeps.note(timer)
        return timer

    def _moment(self, when: float) -> Moment:
        return Moment.of(when, next(self._timers_set))

    def _run_once(self) -> None:
        self.clock.begin_turn()
        self.steps.arrange()
        super()._run_once()  # type: ignore[misc]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        in_thread = executor is None or isinstance(executor, ThreadPoolExecutor)
        if in_thread and scheduler_here() is not None:  # it takes turns
            return super().run_in_executor(executor, func, *args)
        job = _Job()

        def work(*args: Any) -> Any:
            job.thread = threading.get_ident()
            return func(*args)

        future = super().run_in_executor(executor, work if in_thread else func, *args)
        self._jobs[job] = None
        future.add_done_callback(lambda _: self._jobs.pop(job))
        return future

    def create_future(self) -> asyncio.Future[Any]:
        future = Future(loop=self, order=next(self._made))
        caller = sys._getframe(1)
        package = str(caller.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _WITHOUT_THREADS and "site-packages" in caller.f_code.co_filename:
            self._library_futures.setdefault(package, weakref.WeakSet()).add(future)
        return future

    def _library_threads(self) -> Iterator[str]:
        """Yield the threads of libraries that were started in this run and that a task waits for.

        Such a library, as ``aiosqlite`` is one, makes a future for each request to its thread, which has it done.
        """
        waiting = {name for name, futures in self._library_futures.items() if any(not each.done() for each in futures)}
        if waiting:
            for thread in self.clock.threads_of_run():
                if package_of(thread) in waiting:
                    yield f"the thread {name_of(thread)} of {package_of(thread)}"

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.clock.on_loop_error(context):
            super().default_exception_handler(context)

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        with self.clock.only_threads():  # it has a deadline, to which the clock must not jump
            await super().shutdown_default_executor(*args, **kwargs)

    def waiting(self) -> list[str]:
        return wait_locations(asyncio_tasks().values())

    def running(self) -> list[tuple[str, bool]]:
        of_files = [each for key, _ in self._selector.events for each in key.data if each]  # type: ignore[attr-defined]
        handles = [*self._ready, *self.steps.held, *of_files]
        return [_describe_handle(handle) for handle in handles or self._scheduled[:1]]

    def jobs(self) -> list[tuple[int | None, str]]:
        jobs: list[tuple[int | None, str]] = [(job.thread, "a job in an executor") for job in self._jobs]
        if threading.active_count() == 1:
            return jobs
        for thread in threading.enumerate():
            if is_anyio_worker(thread) and thread.loop is self and thread.queue.unfinished_tasks:  # type: ignore[attr-defined]
                jobs.append((thread.ident, "a worker thread"))
            elif thread.name.startswith("asyncio-waitpid-"):  # how Python 3.11 waits for a process
                jobs.append((None, "a process"))
        return [*jobs, *((None, thread) for thread in self._library_threads())]

    def has_news(self) -> bool:
        return bool(self._selector.poll())  # type: ignore[attr-defined]

    def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        if threading.get_ident() == self._own_thread:
            return super().call_soon_threadsafe(callback, *args, **options)
        handle = super().call_soon_threadsafe(FromThread(callback), *args, **options)
        self._blocked.note_request((callback, args))
        self.clock.thread_scheduler.finish_returned()
        if self.is_closed():
            self._blocked.release()
        return handle

    def is_blocked(self, thread: int) -> bool:
        return self._blocked.is_blocked(thread)

    def sockets(self) -> list[str]:
        if len(self._selector.get_map()) == 1:  # type: ignore[attr-defined]
            return []  # as in nearly all flows: only that by which threads wake it
        own: socket.socket = self._ssock  # type: ignore[attr-defined]
        return describe_sockets([key for key in self._selector.get_map() if key != own.fileno()])  # type: ignore[attr-defined]


def _describe_handle(handle: asyncio.Handle) -> tuple[str, bool]:
    """Return where what the handle runs is, and whether that is in user code."""
    task = task_of(handle)
    if task is None:
        return describe_step(handle._callback)  # type: ignore[attr-defined]
    return describe_step(task.get_coro(), task.get_name())
