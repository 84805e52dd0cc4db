"""Work that takes real time, and threads that the clock does not know of."""

from __future__ import annotations

import contextlib
import threading
import time

BRIEFLY = 0.05
"""Real seconds."""


def work(seconds=BRIEFLY):
    """Take real time, as work in a thread does."""
    threading.Event().wait(seconds)
    return "worked"


@contextlib.contextmanager
def in_thread(func, *args):
    """Run ``func`` in a thread that the library does not know, until the block has ended."""
    thread = threading.Thread(target=func, args=args)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def takes_less_than(seconds):
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < seconds
