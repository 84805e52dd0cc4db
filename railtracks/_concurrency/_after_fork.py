"""What has to be reset in a child process right after a fork, before any other code of the child runs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from railtracks._concurrency._kinds import is_kind

_forks = 0


def after_fork(reset: Callable[[], None]) -> Callable[[], None]:
    """Have ``reset`` called in every forked child. Usable as a decorator.

    A child inherits the memory of its parent, but none of its threads and no POSIX lock. So a ``threading.Lock`` that
    another thread held stays locked for ever, and what stands for locks, threads and connections is the parent's.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=reset)
    return reset


@after_fork
def _count_fork() -> None:
    global _forks
    _forks += 1


def fork_count() -> int:
    """Return how many forks led to this process. What was made at another count belongs to a parent process."""
    return _forks


def end_forked_child(exc: BaseException | None) -> NoReturn:
    """End a forked child at the end of a worker thread's function, or of a session in async code.

    There is nothing to return to: the event loop that waits for either is in the parent. The status is the one that
    Python would exit with. Exit handlers are not run, as in the children of ``multiprocessing``.

    Args:
        exc: What was raised in the child; None if nothing was.
    """
    status: object = exc.code if is_kind(exc, SystemExit) else int(exc is not None)
    if exc is not None and not is_kind(exc, SystemExit):
        traceback.print_exception(exc)
    elif status is not None and not isinstance(status, int):
        sys.stderr.write(f"{status}\n")  # as Python does with sys.exit("a text")
        status = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):  # a broken pipe, or closed
                status = status or 120  # as Python does
    os._exit(status if isinstance(status, int) else 0)
