"""What has to be reset in a child process right after a fork, before any other code of the child runs."""

from __future__ import annotations

import os
from collections.abc import Callable


def after_fork(reset: Callable[[], None]) -> Callable[[], None]:
    """Have ``reset`` called in every forked child. Usable as a decorator.

    A child inherits the memory of its parent, but none of its threads and no POSIX lock. So a ``threading.Lock`` that
    another thread held stays locked for ever, and what stands for locks, threads and connections is the parent's.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=reset)
    return reset
