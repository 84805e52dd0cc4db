"""Which threads are workers of a pool, and which could wake an event loop."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Container

from railtracks._test_probe import innermost_frames
from railtracks.testing._virtual_time import _real_clock

_NUMBER = re.compile(r"^Thread-\d+\b")
THREAD_END = 0.2
"""Real seconds that a thread has to end after a run, or a test, before it counts as left behind."""
_POLL_INTERVAL = 0.0002
"""Real seconds between two checks of threads that are about to end."""
_OWN = ("railtracks-sync", "railtracks-watch", "railtracks-commit", "railtracks-postgres")
"""The names of the library's own threads, which stay for more work."""
_WORKERS = ("concurrent.futures.thread", "trio._core._thread_cache")
"""The modules of what workers of pools run."""
_INFRASTRUCTURE = ("execnet", "xdist", "pytest_timeout", "pydevd", "_pydevd", "debugpy", "coverage")
"""Packages whose threads belong to the test runner, and do nothing for a test."""


def _target_module(thread: threading.Thread) -> str:
    target = getattr(thread, "_target", None)
    return str(getattr(target, "__module__", None) or "")


def name_of(thread: threading.Thread) -> str:
    """Return the name of a thread, without the number that depends on how many there were in the process before."""
    return _NUMBER.sub("Thread", thread.name)


def package_of(thread: threading.Thread) -> str:
    """Return the package of the code that a thread runs."""
    return (_target_module(thread) or type(thread).__module__).partition(".")[0]


def is_anyio_worker(thread: threading.Thread) -> bool:
    """Return whether it is a worker of anyio's own, on asyncio."""
    return type(thread).__module__ == "anyio._backends._asyncio"


def is_trio_worker(thread: threading.Thread) -> bool:
    """Return whether it is a worker of trio."""
    return _target_module(thread) == _WORKERS[1]


def is_pooled(thread: threading.Thread) -> bool:
    """Return whether it stays for more work: a worker of anyio, trio or an executor, or a thread of the library."""
    return (
        is_anyio_worker(thread)
        or is_trio_worker(thread)
        or _target_module(thread) == _WORKERS[0]
        or thread.name in _OWN
    )


def is_busy(thread: threading.Thread) -> bool:
    """Return whether a worker of a pool does work now; a thread of the library never counts."""
    if is_anyio_worker(thread):
        return bool(thread.queue.unfinished_tasks)  # type: ignore[attr-defined]
    frame = None if thread.name in _OWN else innermost_frames().get(thread.ident or 0)
    return frame is not None and frame.f_globals.get("__name__") not in _WORKERS  # where it waits for work


def wait_until_idle(threads: Container[int]) -> None:
    """Wait until these threads have ended, or have nothing to do; for a moment only."""
    deadline = _real_clock.monotonic() + THREAD_END
    while _real_clock.monotonic() < deadline:
        if not any(thread.ident in threads and is_busy(thread) for thread in threading.enumerate()):
            return
        _real_clock.block(_POLL_INTERVAL)


def pooled_threads() -> list[threading.Thread]:
    """Return the workers of pools."""
    return [thread for thread in threading.enumerate() if is_pooled(thread)]


def foreign_threads() -> list[threading.Thread]:
    """Return the threads, except the calling one, that may do something for a test on their own."""
    here = threading.current_thread()
    return [
        thread
        for thread in threading.enumerate()
        if thread is not here and not is_pooled(thread) and not _is_infrastructure(thread) and not _is_over(thread)
    ]


def _is_over(thread: threading.Thread) -> bool:
    """Return whether it was a thread of a run, and has done what it was started for: it is about to end."""
    work = getattr(thread, "_railtracks_work", None)
    return work is not None and work.is_over


def _is_infrastructure(thread: threading.Thread) -> bool:
    return package_of(thread) in _INFRASTRUCTURE or isinstance(thread, threading._DummyThread)


def threads_left(before: set[threading.Thread]) -> list[str]:
    """Return the names of the threads that are new and do not end now, except workers of pools.

    Args:
        before: The threads that existed before.
    """
    deadline = _real_clock.monotonic() + THREAD_END
    left = []
    for thread in set(threading.enumerate()) - before:
        if not is_pooled(thread):
            with contextlib.suppress(RuntimeError):  # other code is just starting this thread
                thread.join(max(0.0, deadline - _real_clock.monotonic()))
            if thread.is_alive():
                left.append(f"the thread {name_of(thread)}")
    return sorted(left)
