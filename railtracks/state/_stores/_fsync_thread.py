"""One thread per process that puts appended entries on disk, as long as there are any."""

from __future__ import annotations

import threading
from collections.abc import Callable

from railtracks._concurrency._after_fork import after_fork

INTERVAL = 0.05
"""Seconds between two rounds. Entries that are appended within them go to disk together."""


class FsyncThread:
    """Calls scheduled functions in a thread of its own, each once, ``INTERVAL`` seconds after it was scheduled.

    The thread starts when there is work. It ends when there was none for ``IDLE`` seconds, or when the last client has
    released it. It is a daemon thread: a session that has something to lose when the process exits waits for its own
    end.
    """

    IDLE = 1.0
    """Seconds without work after which the thread ends."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget clients, work and thread, as is right in a forked child."""
        self._changed = threading.Condition()
        self._scheduled: dict[Callable[[], None], None] = {}
        self._clients = 0
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Add a client."""
        with self._changed:
            self._clients += 1
            self._changed.notify_all()

    def release(self) -> None:
        """Remove a client. After the last one, end the thread and wait for it, unless a new client comes meanwhile."""
        with self._changed:
            self._clients -= 1
            self._changed.notify_all()
            thread = self._thread
            self._changed.wait_for(lambda: self._clients or self._thread is not thread or thread is None)
            ended = thread is not None and self._thread is not thread
        if ended and thread is not None:
            thread.join()  # it has nothing left to do

    def schedule(self, work: Callable[[], None]) -> None:
        """Have ``work`` called soon. It must not raise."""
        with self._changed:
            self._scheduled[work] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="railtracks-sync", daemon=True)
                self._thread.start()
            elif len(self._scheduled) == 1:
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._clients:
                    self._changed.wait_for(lambda: self._scheduled or not self._clients, self.IDLE)
                if not self._scheduled or not self._clients:
                    self._scheduled.clear()
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._changed.wait_for(lambda: not self._clients, INTERVAL)
                scheduled, self._scheduled = self._scheduled, {}
            for work in scheduled:
                work()


fsync_thread = FsyncThread()
after_fork(fsync_thread.reset)
