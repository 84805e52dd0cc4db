"""What stands for blocking functions of threads while a virtual world is there.

In the threads of a run they wait in virtual time, and work that is given to other threads takes turns with the rest of
the run. Elsewhere they do what they always do.
"""

from __future__ import annotations

import _thread
import functools
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

from anyio._backends._asyncio import AsyncIOBackend

from railtracks.testing._virtual_time._pauses import OwnThread, RunEnded
from railtracks.testing._virtual_time._stand_ins import process_start
from railtracks.testing._virtual_time._thread_kinds import is_pooled
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing._virtual_time._world import REAL_PACKAGES, World, world_of_thread

_starting = threading.local()
"""``now``: whether this thread waits for another one that it starts, which is about to begin."""

_pools = threading.Lock()
"""Held while the unfinished work of an executor is read or written: several runs, and their threads, may share it."""
_POOLS = REAL_PACKAGES | {"concurrent"}
"""Packages whose threads do work for others: it takes turns, and not the threads."""


class ThreadWork:
    """A piece of work that takes turns with the rest of its run."""

    def __init__(self, scheduler: SeededThreadScheduler) -> None:
        self._scheduler = scheduler
        self.has_ended = False
        self.is_over = False

    def run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do the work in this thread, when it is its turn."""
        self._scheduler.wait_turn(self)
        if self.is_over:
            raise RuntimeError("the waiter has left")  # no code sees it
        try:
            return func(*args, **kwargs)
        finally:
            self.has_ended = True

    def finish(self) -> None:
        """Note that it has ended, and that what waits for it has been notified."""
        self.is_over = True
        self._scheduler.on_finished(self)

    def finish_if_not_begun(self) -> None:
        """Take it away if it has not begun, because its waiter has left."""
        if self._scheduler.discard(self):
            self.is_over = True


class WholeThread(ThreadWork, OwnThread):
    """All that a thread does which the user or a library has started."""

    def __init__(self, scheduler: SeededThreadScheduler, thread: threading.Thread) -> None:
        super().__init__(scheduler)
        self.thread = thread


class PoolWork(ThreadWork):
    """A piece of work in an executor, whose threads may all be busy."""

    def __init__(self, scheduler: SeededThreadScheduler, executor: ThreadPoolExecutor) -> None:
        super().__init__(scheduler)
        self.executor = executor
        with _pools:
            self._unfinished: dict[PoolWork, None] = vars(executor).setdefault("_railtracks_work", {})
            self._unfinished[self] = None

    @property
    def can_begin(self) -> bool:
        """Whether a thread is there for it: its executor takes the work of all runs in the order in which it came."""
        return self in self._with_threads()

    @property
    def is_kept_by_others(self) -> bool:
        """Whether work of other runs has all threads of its executor."""
        return all(work._scheduler is not self._scheduler for work in self._with_threads())

    def _with_threads(self) -> list[PoolWork]:
        """Return the work for which its executor has threads."""
        with _pools:
            return list(itertools.islice(self._unfinished, self.executor._max_workers))

    def finish(self) -> None:
        with _pools:
            self._unfinished.pop(self, None)
        super().finish()


def scheduler_here() -> SeededThreadScheduler | None:
    """Return the scheduler of the run that this thread belongs to, if its threads take turns."""
    world = world_of_thread()
    return None if world is None or world.waits is None else world.waits.scheduler


def queue_work() -> ThreadWork | None:
    """Queue a piece of work that a thread is about to begin; None if it takes turns in another way, or not at all."""
    scheduler = scheduler_here()
    if scheduler is None or scheduler.take_admitted():
        return None
    work = ThreadWork(scheduler)
    scheduler.on_queued(work)
    return work


def waiting_world() -> World | None:
    """Return the world whose threads wait in virtual time, if this is one of them."""
    world = world_of_thread()
    if world is None or world.waits is None or getattr(_starting, "now", False) or not world.waits.are_virtual:
        return None
    return world


def _module_of_caller() -> str:
    """Return the module of the code that has called the function which calls this."""
    return str(sys._getframe(2).f_globals.get("__name__", ""))


def _starts_own_thread(module: str, scheduler: SeededThreadScheduler) -> bool:
    """Return whether what a module starts is a thread of the run, and not one that does work for others."""
    if module == "asyncio.base_events":  # it waits for the end of the executor of an event loop in a thread of the run
        return scheduler.work_of_thread() is not None
    return module == "anyio.from_thread" or module.partition(".")[0] not in _POOLS


def _condition_wait(real: Any) -> Any:
    @functools.wraps(real)
    def wait(self: Any, timeout: float | None = None) -> Any:
        world = waiting_world()
        if world is None or not self._is_owned() or (timeout is not None and timeout <= 0):
            return real(self, timeout)
        assert world.waits is not None
        waiter = _thread.allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        saved = self._release_save()
        notified = False
        try:
            notified = world.waits.wait(lambda: not waiter.locked(), timeout)
            return notified
        finally:
            self._acquire_restore(saved)
            if not notified and waiter in self._waiters:
                self._waiters.remove(waiter)

    return wait


def _thread_start(real: Any) -> Any:
    @functools.wraps(real)
    def start(self: threading.Thread) -> None:
        scheduler = scheduler_here()
        work = None
        if (
            scheduler is not None
            and not hasattr(self, "_railtracks_work")
            and _starts_own_thread(_module_of_caller(), scheduler)
        ):
            work = _adopt(self, scheduler)
        outer, _starting.now = getattr(_starting, "now", False), True
        try:
            real(self)
        except BaseException:
            if work is not None:  # it was started before the run, or no thread can be started
                work.finish()
                del self.run, self._railtracks_work  # type: ignore[attr-defined]
            raise
        finally:
            _starting.now = outer

    return start


def _adopt(thread: threading.Thread, scheduler: SeededThreadScheduler) -> ThreadWork:
    """Have a thread that was not started yet take turns."""
    work, run = WholeThread(scheduler, thread), thread.run

    def run_in_turns() -> None:
        try:
            work.run(run)
        except RunEnded:  # nobody is to notice how the harness ends it
            return
        finally:
            del thread.run
            work.finish()

    scheduler.on_queued(work)
    thread.run = run_in_turns  # type: ignore[method-assign]
    thread._railtracks_work = work  # type: ignore[attr-defined]
    return work


def _thread_join(real: Any) -> Any:
    @functools.wraps(real)
    def join(self: threading.Thread, timeout: float | None = None) -> None:
        module = _module_of_caller()
        is_own = module.startswith("railtracks.") and module != __name__  # where work is done for users
        world = None if is_own else waiting_world()
        if world is None or self.ident is None or self is threading.current_thread():
            real(self, timeout)
            return
        assert world.waits is not None
        # Asked once, as a thread that is about to end does not know any more what it has run.
        has_ended = functools.partial(_has_ended, self, world.waits.scheduler, is_pooled(self))
        if world.waits.wait(has_ended, timeout):
            real(self, timeout)  # it is about to end

    return join


def _has_ended(thread: threading.Thread, scheduler: SeededThreadScheduler, is_of_pool: bool) -> bool:
    work: ThreadWork | None = getattr(thread, "_railtracks_work", None)
    if work is not None:
        return work.is_over
    if is_of_pool:
        return not any(
            thread in work.executor._threads for work in scheduler.unfinished() if isinstance(work, PoolWork)
        )
    return not thread.is_alive() or thread not in threading.enumerate()  # or it is about to end


def _executor_submit(real: Any) -> Any:
    @functools.wraps(real)
    def submit(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        scheduler = scheduler_here()
        if scheduler is None:
            return real(self, fn, *args, **kwargs)
        work = PoolWork(scheduler, self)
        scheduler.on_queued(work)
        try:
            future = real(self, work.run, fn, *args, **kwargs)
        except BaseException:
            work.finish()
            raise
        invoke = future._invoke_callbacks

        def invoke_and_finish() -> None:
            try:
                invoke()
            finally:
                work.finish()

        future._invoke_callbacks = invoke_and_finish  # those who wait are notified first, so that no time passes
        if future.done():
            work.finish()
        return future

    return submit


def _anyio_run_sync(real: Any) -> Any:
    @functools.wraps(real.__func__)
    async def run_sync_in_worker_thread(
        cls: Any, func: Any, args: Any, abandon_on_cancel: bool = False, limiter: Any = None
    ) -> Any:
        scheduler = scheduler_here()
        if scheduler is None or type(func).__module__.startswith("railtracks."):  # which takes turns already
            return await real.__func__(cls, func, args, abandon_on_cancel, limiter)
        work = ThreadWork(scheduler)
        queueing = _QueueingLimiter(limiter or cls.current_default_thread_limiter(), work, scheduler)
        try:
            return await real.__func__(cls, functools.partial(work.run, func), args, abandon_on_cancel, queueing)
        finally:
            work.finish_if_not_begun()

    return classmethod(run_sync_in_worker_thread)


class _QueueingLimiter:
    """Queues a piece of work for its turn when a limiter has let it through."""

    def __init__(self, limiter: Any, work: ThreadWork, scheduler: SeededThreadScheduler) -> None:
        self._limiter, self._work, self._scheduler = limiter, work, scheduler

    async def __aenter__(self) -> None:
        await self._limiter.__aenter__()
        self._scheduler.on_queued(self._work)  # nothing can come between this and the start of the thread

    async def __aexit__(self, *exc_info: object) -> None:
        await self._limiter.__aexit__(*exc_info)


METHODS: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (threading.Condition, "wait", _condition_wait),
    (threading.Thread, "start", _thread_start),
    (threading.Thread, "join", _thread_join),
    (ThreadPoolExecutor, "submit", _executor_submit),
    (subprocess.Popen, "__init__", process_start),
    (BaseProcess, "start", process_start),
    (AsyncIOBackend, "run_sync_in_worker_thread", _anyio_run_sync),
]
"""The class, the name, and what makes the method that stands for the real one, of each method to replace."""
