"""asyncio under virtual time: a small event loop of our own."""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from railtracks.testing._virtual_time._blocked_threads import BlockedThreads
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._sockets import describe_sockets
from railtracks.testing._virtual_time._tasks import asyncio_tasks, order_of, wait_locations
from railtracks.testing._virtual_time._thread_kinds import is_anyio_worker

REAL_WAIT = 0.005
"""Real seconds between two checks of what holds the clock."""


class _JumpingSelector:
    """Polls the real selector, and where that would block, asks the clock whether to jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None) -> Any:
        events = self._real.select(0)
        clock = self._loop.clock
        if events or timeout == 0:
            clock.note_activity()
            return events
        deadline = self._loop.deadline()
        if clock.may_jump(deadline):
            if deadline is not None:
                clock.jump(deadline - clock.now)
            return events
        return self._real.select(0 if self._loop.has_ready else REAL_WAIT)


class _Task(asyncio.Task[Any]):
    """A task that knows how many tasks were made before it.

    That number is its hash, so that the order of sets of tasks, such as ``asyncio.wait`` returns, does not depend on
    addresses.
    """

    def __init__(self, *args: Any, order: int, **options: Any) -> None:
        self._railtracks_order = order  # first, because the next line puts the task into a set
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._railtracks_order


class _Job:
    """A piece of work in an executor."""

    thread: int | None = None
    """The thread that runs it; None before it has begun."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop on a virtual clock.

    Args:
        clock: Its clock.
        random: Decides the order of the tasks that can run, as in trio. With None they run in the order in which they
            became ready.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]  # a heap of timers; no cancelled one is at its top when the selector is polled

    def __init__(self, clock: VirtualClock, random: Random | None = None) -> None:
        self.clock = clock
        self._random = random
        self._count = 0
        self._jobs: dict[_Job, None] = {}
        self._own_thread = threading.get_ident()
        self._blocked = BlockedThreads()
        super().__init__(_JumpingSelector(self))  # type: ignore[arg-type]
        clock.event_loop = self

    def time(self) -> float:
        return self.clock.now

    def on_clock_moved(self, seconds: float) -> None:
        # Otherwise asyncio would spin once the clock is large.
        self._clock_resolution = max(1e-9, 2 * math.ulp(self.clock.now))

    def deadline(self) -> float | None:
        """Return when the next timer is due, or None if none ever is (``anyio.sleep_forever`` sets such a timer)."""
        when = self._scheduled[0]._when if self._scheduled else math.inf
        return None if math.isinf(when) else when

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def create_task(self, coro: Any, **options: Any) -> Any:
        if self.get_task_factory() is not None:
            return super().create_task(coro, **options)
        self._count += 1
        return _Task(coro, loop=self, order=self._count, **options)

    def _run_once(self) -> None:
        if self._random is not None and len(self._ready) > 1:
            self._shuffle(self._random)
        super()._run_once()  # type: ignore[misc]

    def _shuffle(self, random: Random) -> None:
        """Permute the steps of tasks among their positions in the queue; callbacks keep theirs, as their order matters.

        The steps are sorted first, because asyncio and anyio cancel tasks in the order of a set: that of addresses.
        """
        ready = tuple(self._ready)  # a thread may append something meanwhile, which stays last
        steps = [(position, task) for position, handle in enumerate(ready) if (task := _task_of(handle)) is not None]
        if len(steps) < 2:
            return
        handles = [ready[position] for position, _ in sorted(steps, key=lambda step: (order_of(step[1]), step[0]))]
        random.shuffle(handles)
        for (position, _), handle in zip(steps, handles, strict=True):
            self._ready[position] = handle

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        job = _Job()

        def work(*args: Any) -> Any:
            job.thread = threading.get_ident()
            return func(*args)

        in_thread = executor is None or isinstance(executor, ThreadPoolExecutor)
        future = super().run_in_executor(executor, work if in_thread else func, *args)
        self._jobs[job] = None
        future.add_done_callback(lambda _: self._jobs.pop(job))
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        with self.clock.hold():  # it has a deadline, to which the clock must not jump
            await super().shutdown_default_executor(*args, **kwargs)

    def waiting(self) -> list[str]:
        return wait_locations(asyncio_tasks().values())

    def jobs(self) -> list[tuple[int | None, str]]:
        jobs: list[tuple[int | None, str]] = [(job.thread, "a job in an executor") for job in self._jobs]
        for thread in threading.enumerate():
            if is_anyio_worker(thread) and thread.loop is self and thread.queue.unfinished_tasks:  # type: ignore[attr-defined]
                jobs.append((thread.ident, "a worker thread"))
            elif thread.name.startswith("asyncio-waitpid-"):  # how Python 3.11 waits for a process
                jobs.append((None, "a process"))
        return jobs

    def has_news(self) -> bool:
        return bool(self._selector.select(0))  # type: ignore[attr-defined]

    def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        handle = super().call_soon_threadsafe(callback, *args, **options)
        if threading.get_ident() != self._own_thread:
            self._blocked.note_request((callback, args))
        return handle

    def is_blocked(self, thread: int) -> bool:
        return self._blocked.is_blocked(thread)

    def sockets(self) -> list[str]:
        own: socket.socket = self._ssock  # type: ignore[attr-defined]
        return describe_sockets([key for key in self._selector.get_map() if key != own.fileno()])  # type: ignore[attr-defined]


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """Return the task whose next step ``handle`` is, or None if it is another callback."""
    callback = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return None
    name = getattr(callback, "__name__", "TaskStepMethWrapper")
    return task if name in ("TaskStepMethWrapper", "task_wakeup", "__step", "__wakeup") else None
