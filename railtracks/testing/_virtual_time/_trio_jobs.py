"""Which worker threads of trio work for which run: all runs of a process share them, one after another."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from railtracks.testing._virtual_time._thread_patches import queue_work

_lock = threading.Lock()
_runs: dict[Any, TrioJobs] = {}  # by token
_original: Any = None


class TrioJobs:
    """The jobs that one run of trio has given to worker threads, and that have not delivered their results."""

    def __init__(self) -> None:
        self._jobs: dict[_Job, None] = {}

    @property
    def threads(self) -> list[int | None]:
        """The thread of each job; None of one that has not begun."""
        return [job.thread for job in list(self._jobs)]

    @contextlib.contextmanager
    def noted(self, token: Any) -> Iterator[None]:
        """Note the jobs of the run of ``token`` inside the block."""
        global _original
        from trio._core._thread_cache import ThreadCache

        with _lock:
            if not _runs:
                _original = ThreadCache.start_thread_soon
                ThreadCache.start_thread_soon = _start  # type: ignore[assignment,method-assign]
            _runs[token] = self
        try:
            yield
        finally:
            with _lock:
                del _runs[token]
                if not _runs:
                    ThreadCache.start_thread_soon = _original  # type: ignore[method-assign]

    def start(self, cache: Any, func: Callable[[], Any], deliver: Callable[[Any], object], name: str | None) -> None:
        """Have a worker thread run ``func`` and deliver what comes out, as trio does."""
        job, work = _Job(), queue_work()

        def run() -> Any:
            job.thread = threading.get_ident()
            return func() if work is None else work.run(func)

        def deliver_and_end(result: Any) -> None:
            try:
                deliver(result)
            finally:
                del self._jobs[job]
                if work is not None:
                    work.finish()

        self._jobs[job] = None
        try:
            _original(cache, run, deliver_and_end, name)
        except BaseException:  # no thread can be started
            del self._jobs[job]
            if work is not None:
                work.finish()
            raise


class _Job:
    thread: int | None = None
    """The thread that runs it; None before it has begun."""


def _start(cache: Any, fn: Callable[[], Any], deliver: Callable[[Any], object], name: str | None = None) -> None:
    import trio

    run = None
    if trio.lowlevel.in_trio_run():
        run = _runs.get(trio.lowlevel.current_trio_token())
    if run is None:
        _original(cache, fn, deliver, name)
    else:
        run.start(cache, fn, deliver, name)
