"""One thread per process that looks after open sessions: it calls each watched function at intervals."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from railtracks._concurrency._after_fork import after_fork

INTERVAL = 1.0
"""Seconds between two calls of a function that names no interval."""
SHORTEST = 0.01
"""Seconds between two checks of what is due, at least, unless something is due earlier than was known."""
IDLE = 10.0
"""Seconds without a function to call after which the thread ends."""


class WatchThread:
    """Calls functions at intervals, in a thread of its own.

    What is watched for less than its interval costs two operations on a dict. The thread starts with the first
    function, and is a daemon. It sleeps until something is due. A fork leaves it to the parent.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget functions and thread, as is right in a forked child."""
        self._guard = threading.RLock()  # a finalizer may leave a session while it is held
        self._due: dict[Callable[[], object], tuple[float, float]] = {}  # when each is called next, and its interval
        self._thread: threading.Thread | None = None
        self._wakes_at = -math.inf  # when the thread checks next
        self._is_earlier = threading.Event()  # set if something is due before that

    def watch(self, func: Callable[[], object], interval: float | None = None) -> None:
        """Have ``func`` called at intervals, the first time after one of them. It must not raise.

        If no thread can be started, it is never called.

        Args:
            func: What to call.
            interval: About how many seconds are between two calls; None for a second.
        """
        seconds = INTERVAL if interval is None else interval
        with self._guard:
            self._due[func] = when, _ = time.monotonic() + seconds, seconds
            if when < self._wakes_at:
                # First: what is watched already is not earlier than this, so a finalizer that leaves a session in the
                # middle of `set` does not come to it again.
                self._wakes_at = when
                self._is_earlier.set()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="railtracks-watch", daemon=True)
                try:
                    thread.start()
                except (RuntimeError, MemoryError):  # "can't start new thread"
                    return
                self._thread = thread

    def unwatch(self, func: Callable[[], object]) -> None:
        """Do not call ``func`` any more, unless it is being called already. Idempotent."""
        with self._guard:
            self._due.pop(func, None)

    def _run(self) -> None:
        try:
            self._call_due()
        except SystemExit:  # of a handler of the application's log; the next `watch` starts another thread
            self._thread = None
            raise

    def _call_due(self) -> None:
        idle_until = time.monotonic() + IDLE
        while True:
            with self._guard:
                self._is_earlier.clear()
                now = time.monotonic()
                due = [func for func, (when, _) in self._due.items() if when <= now]
                for func in due:
                    self._due[func] = now + self._due[func][1], self._due[func][1]
                if self._due:
                    idle_until = now + IDLE
                elif now >= idle_until:
                    self._thread = None  # before the lock is released
                    return
                self._wakes_at = min([idle_until, *(when for when, _ in self._due.values())])
            for func in due:
                if func in self._due:
                    func()
            self._is_earlier.wait(max(self._wakes_at - time.monotonic(), SHORTEST))


watch_thread = WatchThread()
after_fork(watch_thread.reset)
