"""Work that cancellation must not cut off, and checkpoints that deliver a cancellation."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio import lowlevel

from railtracks._concurrency._event_loop import is_stray_cancellation, running_library

T = TypeVar("T")


async def in_child_task(func: Callable[[], Awaitable[T]]) -> T:
    """Await ``func()`` in a child task, and do not return before it has ended.

    On asyncio ``task.cancel()``, ``wait_for`` and Ctrl-C pass through shielded scopes into whatever the task awaits.
    They do not reach a child task directly: its task group turns them into a cancellation of its scope, and waits.

    Raises:
        BaseException: whatever ``func`` raises.

    Cancellation: reaches ``func`` through scopes. It is passed on when ``func`` has ended, whose result is lost then.
    """
    if running_library() == "trio":
        return await func()
    result: T
    error: BaseException | None = None
    # Looked up here: when a coroutine is closed by the garbage collector, no event loop may be running to ask.
    passed_on = (anyio.get_cancelled_exc_class(), KeyboardInterrupt, SystemExit, GeneratorExit)

    async def child() -> None:
        nonlocal result, error
        try:
            result = await func()
        except BaseException as exc:
            if isinstance(exc, passed_on) and not is_stray_cancellation(exc):
                raise
            error = exc  # raised below: the task group would wrap it, or take a stray cancellation for its own

    async with anyio.create_task_group() as group:
        group.start_soon(child)
    if error is not None:
        raise error
    return result


async def checkpoint_if_cancelled() -> None:
    """Raise the cancellation of a scope around the caller, if there is one.

    On asyncio anyio's function of this name loops until a cancellation is delivered. In a task that a thread started
    none may ever come, once the scopes in between were left; a scope of our own delivers it.
    """
    with anyio.CancelScope() as scope:
        if anyio.current_effective_deadline() == -math.inf:
            scope.cancel()
        await lowlevel.checkpoint_if_cancelled()


async def shielded(func: Callable[[], Awaitable[T]]) -> T:
    """Await ``func()`` to its end, even if the caller is cancelled.

    Raises:
        BaseException: whatever ``func`` raises.

    Cancellation: passed on when ``func`` has ended, whose result is lost then.
    """

    async def shield() -> T:
        with anyio.CancelScope(shield=True):
            result = await func()
        return result  # noqa: RET504 (to mypy a return inside would look as if the scope might swallow it)

    return await in_child_task(shield)
