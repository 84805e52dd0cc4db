"""One thread per process that puts appended entries on disk, as long as there are any."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from railtracks._concurrency._after_fork import after_fork

INTERVAL = 0.05
"""Seconds between two rounds. Entries that are appended within them go to disk together."""


class FsyncThread:
    """Calls scheduled functions in a thread of its own, each once, ``INTERVAL`` seconds after it was scheduled.

    The thread starts when there is work, and ends when there was none for ``IDLE`` seconds, so that short sessions one
    after another do not start one each. It is a daemon thread: a session that has something to lose when the process
    exits waits for its own end. Its methods are called by the main thread, at any bytecode of which Ctrl-C may come, so
    they use only what is written in C.
    """

    IDLE = 10.0
    """Seconds without work after which the thread ends."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget work and thread, as is right in a forked child."""
        self._guard = threading.RLock()  # the garbage collector may end a session here, and that cancels
        self._scheduled: dict[Callable[[], None], None] = {}
        self._rounds: SimpleQueue[None] = SimpleQueue()  # has an item if a round is to come and has not begun to wait
        self._is_round_due = False
        self._thread: threading.Thread | None = None

    def schedule(self, work: Callable[[], None]) -> None:
        """Have ``work`` called soon. It must not raise. If no thread can be started, it is called here and now."""
        with self._guard:
            self._scheduled[work] = None
            if not self._is_round_due:
                self._is_round_due = True
                self._rounds.put(None)
            has_thread = self._thread is not None or self._start()
        if not has_thread:
            self.cancel(work)
            work()

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, args=(self._rounds,), name="railtracks-sync", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # "can't start new thread"
            self._thread = None
            return False
        return True

    def cancel(self, work: Callable[[], None]) -> None:
        """Do not call ``work``, unless it is being called already."""
        with self._guard:
            self._scheduled.pop(work, None)

    def _run(self, rounds: SimpleQueue[None]) -> None:
        while True:
            try:
                rounds.get(timeout=self.IDLE)
            except Empty:
                with self._guard:
                    self._thread = None  # first: what the garbage collector schedules meanwhile starts another thread
                    if rounds.empty() or self._thread is not None:
                        return
                    self._thread = threading.current_thread()
                continue
            time.sleep(INTERVAL)
            with self._guard:
                self._is_round_due = False
                scheduled, self._scheduled = self._scheduled, {}
            for work in scheduled:
                work()


fsync_thread = FsyncThread()
after_fork(fsync_thread.reset)
