"""Exceptions at our own task groups, which wrap what passes through them: only a plain cancellation may do so.

A user's node can end with an exception group that holds both cancellations and errors; trio's nurseries make such
groups. The cancellations belong to an outer scope and have to reach it. The errors are kept, and raised when the task
group has been left.
"""

from __future__ import annotations

import anyio

from railtracks._concurrency._kinds import is_kind, leaves_of
from railtracks._concurrency._origins import is_raised_by_code


def split_cancellation(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Split ``exc`` into the cancellation that must be passed on and the rest; either may be None."""
    if is_kind(exc, GeneratorExit):
        # Usually the coroutine is being closed, perhaps without a running event loop.
        return (None, exc) if is_raised_by_code(exc) else (exc, None)
    cancelled = anyio.get_cancelled_exc_class()
    if is_kind(exc, cancelled):
        return exc, None
    if is_kind(exc, BaseExceptionGroup):
        cancellations, rest = exc.split(cancelled)
        if cancellations is not None:
            return next(leaves_of(cancellations)), rest
    return None, exc


def find_interrupt(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the KeyboardInterrupt or SystemExit in a group; None if there is neither."""
    interrupts, _ = group.split((KeyboardInterrupt, SystemExit))
    return None if interrupts is None else next(leaves_of(interrupts))
