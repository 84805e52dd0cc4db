"""One thread per process that has appended records put on disk, while there are any."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

INTERVAL = 0.05
"""Seconds between two rounds: records that are appended within them go to disk together."""


class Syncer:
    """Calls what it is given in a thread of its own, each once, ``INTERVAL`` seconds after it was asked to.

    The thread starts when there is something to do and ends when nothing was for a while, or when the last
    client has gone. It is a daemon: whoever has something to lose at exit waits for the end of its session.
    """

    IDLE = 1.0
    """Seconds after which a thread that has nothing to do ends."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: dict[Callable[[], None], None] = {}
        self._clients = 0
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        """A client comes."""
        with self._changed:
            self._clients += 1
            self._changed.notify_all()

    def leave(self) -> None:
        """A client goes. After the last one the thread ends, and this waits for that, unless another comes."""
        with self._changed:
            self._clients -= 1
            self._changed.notify_all()
            thread = self._thread
            self._changed.wait_for(lambda: self._clients or self._thread is not thread or thread is None)
            ended = thread is not None and self._thread is not thread
        if ended and thread is not None:
            thread.join()  # it has nothing left to do

    def ask(self, work: Callable[[], None]) -> None:
        """Have ``work`` called soon. It must not raise."""
        with self._changed:
            self._asked[work] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="railtracks-sync", daemon=True)
                self._thread.start()
            elif len(self._asked) == 1:
                self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._clients:
                    self._changed.wait_for(lambda: self._asked or not self._clients, self.IDLE)
                if not self._asked or not self._clients:
                    self._asked.clear()
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._changed.wait_for(lambda: not self._clients, INTERVAL)
                asked, self._asked = self._asked, {}
            for work in asked:
                work()


syncer = Syncer()


def _forget_the_parents_thread() -> None:
    syncer.__init__()  # type: ignore[misc]  # a forked child has no threads but the one that forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_thread)
