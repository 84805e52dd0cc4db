"""Which threads are workers of a pool, and which could wake an event loop."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

THREAD_END = 0.2
"""Real seconds that a thread has to end after a run, or a test, before it counts as left behind."""
_INFRASTRUCTURE = ("execnet", "xdist", "pytest_timeout", "pydevd", "_pydevd", "debugpy", "coverage")
"""Packages whose threads belong to the test runner, and do nothing for a test."""


def _target_module(thread: threading.Thread) -> str:
    target = getattr(thread, "_target", None)
    return str(getattr(target, "__module__", None) or "")


def is_anyio_worker(thread: threading.Thread) -> bool:
    """Return whether it is a worker of anyio's own, on asyncio."""
    return type(thread).__module__ == "anyio._backends._asyncio"


def is_trio_worker(thread: threading.Thread) -> bool:
    """Return whether it is a worker of trio."""
    return _target_module(thread) == "trio._core._thread_cache"


def is_pooled(thread: threading.Thread) -> bool:
    """Return whether it stays for more work: a worker of anyio, trio or an executor, or the journal's thread."""
    return (
        is_anyio_worker(thread)
        or is_trio_worker(thread)
        or _target_module(thread) == "concurrent.futures.thread"
        or thread.name == "railtracks-sync"
    )


def is_busy_trio_worker(thread: threading.Thread, frames: dict[int, Any]) -> bool:
    """Return whether it is a worker of trio that has a job.

    A worker joins the list of idle ones before it hands over its result, so its current frame counts as well.

    Args:
        thread: The thread.
        frames: ``sys._current_frames()``.
    """
    from trio._core._thread_cache import THREAD_CACHE

    if not is_trio_worker(thread):
        return False
    worker: Any = thread._target.__self__  # type: ignore[attr-defined]
    frame = frames.get(thread.ident or 0)
    waits_for_job = frame is None or frame.f_code is type(worker)._work.__code__
    return worker not in THREAD_CACHE._idle_workers or not waits_for_job


def foreign_threads() -> list[threading.Thread]:
    """Return the threads, except the calling one, that may do something for a test on their own."""
    here = threading.current_thread()
    return [
        thread
        for thread in threading.enumerate()
        if thread is not here and not is_pooled(thread) and not _is_infrastructure(thread)
    ]


def _is_infrastructure(thread: threading.Thread) -> bool:
    module = _target_module(thread) or type(thread).__module__
    return module.partition(".")[0] in _INFRASTRUCTURE or isinstance(thread, threading._DummyThread)


def threads_left(before: set[threading.Thread]) -> list[str]:
    """Return the names of the threads that are new and do not end now, except workers of pools.

    Args:
        before: The threads that existed before.
    """
    deadline = time.monotonic() + THREAD_END
    left = []
    for thread in set(threading.enumerate()) - before:
        if not is_pooled(thread):
            with contextlib.suppress(RuntimeError):  # other code is just starting this thread
                thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                left.append(f"the thread {thread.name}")
    return sorted(left)
