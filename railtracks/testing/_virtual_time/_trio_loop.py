"""trio under virtual time: its own ``MockClock``, which asks our clock before it jumps."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._blocked_threads import BlockedThreads, patch_trio_messages
from railtracks.testing._virtual_time._clock import MAX_TIMERS, VirtualClock
from railtracks.testing._virtual_time._scheduler import Callback, Scheduler, Step
from railtracks.testing._virtual_time._sockets import describe_sockets, is_readable
from railtracks.testing._virtual_time._stuck_errors import StuckError
from railtracks.testing._virtual_time._tasks import describe_step, keep_for_ever, trio_tasks, wait_locations
from railtracks.testing._virtual_time._trio_jobs import TrioJobs
from railtracks.testing._virtual_time._trio_sleeps import TrioSleeps


@contextlib.contextmanager
def seeded_trio(scheduler: Scheduler | None) -> Iterator[None]:
    """Have ``scheduler`` decide the order of trio's tasks inside the block, in this thread.

    Args:
        scheduler: The scheduler; None to change nothing.
    """
    if scheduler is None:
        yield
        return
    outer = getattr(_orders, "current", None)
    _begin_seeded_run()
    _orders.current = _Order(scheduler)
    try:
        yield
    finally:
        _orders.current = outer
        _end_seeded_run()


class _Order:
    """Stands for trio's random generator in one run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.batch: list[Any] = []
        """The tasks that are still to take a step in this turn."""

    def shuffle(self, batch: list[Any]) -> None:
        """Put the tasks of a turn, which are sorted by age, into the order in which trio takes them: the last first."""
        self.batch = batch  # trio takes them out of it
        of_threads = [task for task in batch if _is_for_threads(task)]
        if of_threads:
            batch[:] = [task for task in batch if task not in of_threads]
        if self._scheduler.observes:
            steps = [Step(task._counter, task.coro, task) for task in batch]
            self._scheduler.begin_turn([*(Callback("threads") for _ in of_threads), *steps])
        if len(batch) > 1:
            self._arrange(batch)
        for task in reversed(batch):
            self._scheduler.log.note(task._counter, task.coro, task)
        batch += of_threads

    def _arrange(self, batch: list[Any]) -> None:
        steps = [Step(task._counter, task.coro, task) for task in batch]
        taken = self._scheduler.arrange(steps)
        batch[:] = [step.handle for step in steps[:taken]]
        if self._scheduler.holds:
            batch.reverse()
            _runner().runq.extend(step.handle for step in steps[taken:])  # they can run in the next turn

    def count_tasks(self) -> int:
        """Return how many tasks can run."""
        return sum(not _is_for_threads(task) for task in (*_runner().runq, *self.batch))


def _is_for_threads(task: Any) -> bool:
    """Return whether it is the task of trio that takes what threads hand over.

    When it runs, and how often, is a matter of real time; so the seed must decide nothing for it.
    """
    return getattr(task.coro, "cr_code", None) is _code_for_threads()


@functools.cache
def _code_for_threads() -> CodeType:
    from trio._core._entry_queue import EntryQueue

    return EntryQueue.task.__code__


_orders = threading.local()
"""``current``: the ``_Order`` of the seeded run in this thread."""
_lock = threading.Lock()
_seeded_runs = 0
_before: tuple[bool, Any] = False, None  # what trio had before the first of them


class _OrderOfThread:
    """Stands for trio's random generator while there are seeded runs: each thread has its own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(_orders, "current", None) or _before[1], name)


def _begin_seeded_run() -> None:
    global _seeded_runs, _before
    from trio._core import _run as trio_run

    with _lock:
        if not _seeded_runs:
            _before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r
            # As trio's own plugin for Hypothesis does. Runs in other threads get a random order in another way then.
            trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
            trio_run._r = _OrderOfThread()  # type: ignore[assignment]
        _seeded_runs += 1


def _end_seeded_run() -> None:
    global _seeded_runs
    from trio._core import _run as trio_run

    with _lock:
        _seeded_runs -= 1
        if not _seeded_runs:
            trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r = _before  # type: ignore[misc]


def trio_options(clock: VirtualClock, scheduler: Scheduler | None = None) -> dict[str, Any]:
    """Return options for ``trio.run``: a ``MockClock`` that asks ``clock`` before it jumps, and moves with it."""
    import trio.testing

    mock = trio.testing.MockClock(autojump_threshold=0.0 if clock.jumps else math.inf)
    clock.event_loop = event_loop = _Trio(clock, scheduler)
    mock._autojump = event_loop.autojump  # type: ignore[method-assign]
    mock.current_time = event_loop.current_time  # type: ignore[method-assign]
    return {"clock": mock, "instruments": [event_loop]}


class _Trio:
    """The ``EventLoop`` of a clock, for trio; also an instrument of trio, and the methods of its ``MockClock``."""

    def __init__(self, clock: VirtualClock, scheduler: Scheduler | None) -> None:
        self._clock = clock
        self._observer = scheduler if scheduler is not None and scheduler.observes else None
        self._sleeps = TrioSleeps(clock, scheduler)
        self._blocked = BlockedThreads()
        self._jobs = TrioJobs()
        self._context = _run_context()
        self._runner: Any = None  # of trio; known once the run has begun
        self._patches = contextlib.ExitStack()
        self._scheduled: list[Any] = []  # the tasks that were scheduled since the last turn
        self._turn: list[Any] = []  # the tasks that were scheduled for this turn
        self._noted: set[tuple[float, int]] = set()  # the timers that waited at the last jump
        self._wait = 0.0  # real seconds until it looks again what has happened

    # ---- an instrument of trio

    def before_run(self) -> None:
        import trio

        self._runner = _runner()
        token = trio.lowlevel.current_trio_token()
        self._patches.enter_context(patch_trio_messages(token, self._blocked))
        self._patches.enter_context(self._jobs.noted(token))

    def after_io_wait(self, timeout: float) -> None:
        self._clock.begin_turn()
        if self._observer is not None and _runner().deadlines.next_deadline() <= self._clock.reading:
            self._observer.note_due()

    def after_run(self) -> None:
        self._patches.close()
        self._runner = None  # or it would be kept with the clock

    def task_scheduled(self, task: object) -> None:
        self._wait = 0.0
        self._clock.note_activity()
        self._scheduled.append(task)

    # ---- methods of trio's MockClock

    def current_time(self) -> float:
        if self._scheduled and not hasattr(self._context, "task"):  # the event loop asks, once in each turn
            self._turn, self._scheduled = self._scheduled, []
            try:
                self._clock.note_turn(len(self._turn))
            except StuckError:
                self._abandon_run()
                raise
        return self._clock.reading

    def autojump(self) -> None:
        self._sleeps.delay(self._runner.deadlines)
        deadline = self.deadline()
        if deadline is not None and deadline <= self._clock.reading:
            return
        self._note_timers()
        try:
            may_jump = self._clock.may_jump(deadline)
        except StuckError:
            self._abandon_run()
            raise
        if may_jump:
            assert deadline is not None
            self._clock.jump_to(deadline)
        else:
            _real_clock.block(self._wait)  # the event loop asks again and again, and threads have to run as well
            self._wait = min(max(1e-5, 2 * self._wait), 1e-3)

    def _abandon_run(self) -> None:
        """Handle that the clock ends the run now: nothing of it runs again."""
        keep_for_ever(self._runner.tasks)
        self._runner.entry_queue.done = True
        self._blocked.release()

    # ---- the event loop of a clock

    def on_clock_moved(self, seconds: float) -> None:
        pass  # trio asks for the time in each turn

    def call_soon(self, func: Callable[[], None], /) -> object:
        func()
        return None

    def count_ready(self) -> int:
        order = getattr(_orders, "current", None)
        return len(self._runner.runq) if order is None else int(order.count_tasks())

    def deadline(self) -> float | None:
        deadline = float(self._runner.deadlines.next_deadline())
        return None if math.isinf(deadline) else deadline

    def _note_timers(self) -> None:
        """Note the timers that were set since the last jump; if very many wait, those of the first ones."""
        now = self._clock.reading
        noted = {(when, which) for when, which, _ in self._runner.deadlines._heap[:MAX_TIMERS]}
        for when, _ in noted - self._noted:
            self._clock.note_timer(when - now)
        self._noted = noted

    def jobs(self) -> list[tuple[int | None, str]]:
        return [(thread, "a worker thread") for thread in self._jobs.threads]

    def is_blocked(self, thread: int) -> bool:
        return self._blocked.is_blocked(thread)

    def has_news(self) -> bool:
        entries = self._runner.entry_queue
        if entries.queue or entries.idempotent_queue:
            return True
        read = [file for file, waiters in self._registered() if getattr(waiters, "read_task", None) is not None]
        return bool(read and is_readable(read))  # on kqueue it is empty: that does not say which tasks read

    def _registered(self) -> list[tuple[int, Any]]:
        """Return the files that tasks wait for; known with epoll and kqueue, not on Windows."""
        registered = getattr(self._runner.io_manager, "_registered", {})
        return [(key if isinstance(key, int) else key[0], waiters) for key, waiters in registered.items()]

    def sockets(self) -> list[str]:
        own = self._runner.entry_queue.wakeup.wakeup_sock.fileno()
        return describe_sockets(sorted({file for file, _ in self._registered()} - {own}))

    def waiting(self) -> list[str]:
        return wait_locations(trio_tasks().values())

    def running(self) -> list[tuple[str, bool]]:
        entries = self._runner.entry_queue
        functions = [function for function, *_ in (*entries.queue, *list(entries.idempotent_queue))]
        return [*map(describe_step, functions), *(describe_step(task.coro, task.name) for task in self._turn)]


def _run_context() -> Any:
    """Return where trio keeps the run, and the task, of each thread."""
    from trio._core._run import GLOBAL_RUN_CONTEXT

    return GLOBAL_RUN_CONTEXT


def _runner() -> Any:
    return _run_context().runner
