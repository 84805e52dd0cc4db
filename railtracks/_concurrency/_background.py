"""Blocking work that must be done, whether or not its waiter stays: in daemon threads that wait for more of it.

A worker thread of anyio does not fit: on asyncio it ends with its event loop, and each wait for one needs a task group
to survive cancellation. What is submitted here is done even if its event loop ends first, and can be waited for again
after the wait was cancelled or interrupted.

Ctrl-C may come at any bytecode of the main thread. So what that thread uses here are locks and queues written in C,
which a signal cannot leave half acquired, as it can a ``threading.Condition``.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue

from railtracks._concurrency._after_fork import after_fork
from railtracks._test_hooks import runtime_hooks

MAX_THREADS = 16
"""The number of threads that work at the same time."""
IDLE = 10.0
"""Seconds without work after which a thread ends."""
EXIT_WAIT = 10.0
"""Seconds that the end of the process waits for work that is not done."""


class Work:
    """Blocking work that is done once, and that any number of waiters can wait for, again and again.

    Args:
        func: The work. It is called with a copy of the context variables of the code that makes this object.

    Attributes:
        is_submitted: Whether it was handed to a thread, or done without one.
        is_done: Whether the work has ended.
        error: What ``func`` raised, if it raised something.
    """

    __slots__ = (
        "_begun", "_callbacks", "_context", "_func", "_guard", "_scheduler", "error", "is_done", "is_submitted",
    )  # fmt: skip

    def __init__(self, func: Callable[[], object]) -> None:
        self._func: Callable[[], object] | None = func
        self._context = copy_context()
        self._guard = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._begun = False
        self._scheduler = runtime_hooks.get().thread_scheduler
        self.is_submitted = False
        self.is_done = False
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work, unless it has begun. Raises nothing."""
        with self._guard:
            if self._begun:
                return
            self._begun = True
        func, self._func = self._func, None
        assert func is not None
        if self._scheduler is not None:
            self._scheduler.wait_turn(self)
        try:
            self._context.run(func)
        except BaseException as exc:  # not even SystemExit may end the thread: the waiter would wait for ever
            self.error = exc
        finally:
            self._finish()

    def on_queued(self) -> None:
        """Let a test harness know that the work will be done soon."""
        if self._scheduler is not None:
            self._scheduler.on_queued(self)

    def _finish(self) -> None:
        with self._guard:
            self.is_done = True
            callbacks, self._callbacks = self._callbacks, []
        _pending.discard(self)
        for callback in callbacks:
            callback()
        if self._scheduler is not None:  # last, as the clock of a test may jump from here on
            self._scheduler.on_finished(self)

    def when_done(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the work has ended: in its thread, or at once. It must not block or raise."""
        with self._guard:
            if not self.is_done:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout: float = -1) -> bool:
        """Block until the work has ended. Return whether it has.

        Args:
            timeout: Seconds to wait at most; -1: as long as it takes.

        Raises:
            KeyboardInterrupt: Ctrl-C came while this waited. The work goes on, and can be waited for again.
        """
        gate = threading.Lock()
        gate.acquire()
        self.when_done(gate.release)
        return gate.acquire(timeout=timeout)

    def abandon(self) -> None:
        """Count the work as done, in a forked child: the thread that does it is the parent's."""
        self._guard = threading.Lock()
        self._begun = self.is_done = True
        self._func, self._callbacks = None, []


class BackgroundThreads:
    """Daemon threads for :class:`Work`. They start when they are needed, and end when they were idle for long."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget threads and work, as is right in a forked child."""
        self._guard = threading.RLock()  # the garbage collector may end a session here, which submits something
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._threads = 0
        self._idle = 0

    def submit(self, work: Work) -> None:
        """Have the work done soon. Idempotent, so it can be called again if Ctrl-C interrupted it.

        If no thread can be started, because there are too many or the interpreter is shutting down, the work is done
        here and now.
        """
        if sys.is_finalizing():  # threads do not run any more
            work.run()
            return
        if not work.is_submitted:
            _pending.add(work)
            work.on_queued()
            self._queue.put(work)
            work.is_submitted = True  # last: twice in the queue does no harm
        if not self._ensure_threads():
            work.run()  # the thread that comes to it later, if ever, finds that it has begun

    def _ensure_threads(self) -> bool:
        """Start a thread if there is more work than idle threads. Return whether there is a thread at all."""
        with self._guard:
            if self._queue.qsize() > self._idle and self._threads < MAX_THREADS:
                try:
                    threading.Thread(target=self._run, args=(self._queue,), name="railtracks-sync", daemon=True).start()
                except (RuntimeError, MemoryError):  # "can't start new thread"
                    return self._threads > 0
                self._threads += 1
            return True

    def _run(self, queue: SimpleQueue[Work]) -> None:
        while True:
            with self._guard:
                self._idle += 1
            try:
                work: Work | None = queue.get(timeout=IDLE)
            except Empty:
                work = None
            with self._guard:
                self._idle -= 1
                if work is None and queue.empty():
                    self._threads -= 1
                    return
            if work is not None:
                self._ensure_threads()  # another item may have come when this thread seemed to be idle
                work.run()
                del work  # it holds what was saved


background = BackgroundThreads()
"""The threads of this process."""
_pending: set[Work] = set()


@atexit.register
def wait_for_pending() -> None:
    """Wait for what is not done at the end of the process: daemon threads stop there, wherever they are. Idempotent."""
    deadline = time.monotonic() + EXIT_WAIT
    for work in list(_pending):
        work.wait(max(0.0, deadline - time.monotonic()))


@after_fork
def _reset() -> None:
    for work in _pending:
        work.abandon()
    _pending.clear()
    background.reset()
