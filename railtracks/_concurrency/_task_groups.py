"""Exceptions at our own task groups: these wrap what passes through them, so only a plain cancellation may.

A node of a user's can end with a group that holds cancellations and errors at once (trio's nurseries make such). The
cancellations belong to a scope further out and have to reach it; the rest is kept, and raised when the group was left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


def first_leaf(exc: BaseException) -> BaseException:
    """The first exception in a group that is no group itself; any other exception as it is."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def split_cancellation(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """``exc`` as the cancellation that must go on, if there is one, and what else there is to keep, if anything."""
    if isinstance(exc, GeneratorExit):  # a coroutine that is thrown away; no event loop need be running
        return exc, None
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(exc, cancelled):
        return exc, None
    if isinstance(exc, BaseExceptionGroup):
        cancellations, rest = exc.split(cancelled)
        if cancellations is not None:
            return first_leaf(cancellations), rest
    return None, exc


def find_interrupt(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Ctrl-C, or SystemExit, in a group; None if there is none."""
    interrupts, _ = group.split((KeyboardInterrupt, SystemExit))
    return None if interrupts is None else first_leaf(interrupts)


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group out of which Ctrl-C comes plain: trio may deliver it to a task that waits in one."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as exc:
        interrupt = find_interrupt(exc)
        if interrupt is None:
            raise
        raise interrupt from None
