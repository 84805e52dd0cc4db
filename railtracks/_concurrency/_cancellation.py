"""Running something to its end, whatever becomes of the caller; and letting a cancellation through."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from anyio import lowlevel

from railtracks._concurrency._event_loop import running_library

T = TypeVar("T")


async def in_child_task(func: Callable[[], Awaitable[T]]) -> T:
    """Await ``func()``, and do not return before it has ended.

    On asyncio ``task.cancel()``, ``wait_for`` and Ctrl-C go straight through shielded scopes, into what is awaited. A
    child task they do not reach as such: its group passes them on as a cancellation of its scope, and waits.

    Raises: what ``func`` raises.
    Cancellation: reaches ``func`` through scopes; passed on when it has ended, and its result is lost then.
    """
    if running_library() == "trio":
        return await func()
    outcome: list[tuple[Any, BaseException | None]] = []
    through = (anyio.get_cancelled_exc_class(), KeyboardInterrupt, SystemExit, GeneratorExit)

    async def child() -> None:
        try:
            outcome.append((await func(), None))
        except BaseException as exc:
            if isinstance(exc, through):
                raise
            outcome.append((None, exc))  # past the task group, which would wrap it

    async with anyio.create_task_group() as group:
        group.start_soon(child)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


async def checkpoint_if_cancelled() -> None:
    """Let a cancellation of a scope around the caller through here, if there is one.

    As anyio's ``checkpoint_if_cancelled``. On asyncio that one waits, in a loop, for a cancellation to be delivered; to
    a task that a thread started none may come any more, once the scopes in between were left. A scope of our own
    delivers it.
    """
    with anyio.CancelScope() as scope:
        if anyio.current_effective_deadline() == -math.inf:
            scope.cancel()
        await lowlevel.checkpoint_if_cancelled()


async def shielded(func: Callable[[], Awaitable[T]]) -> T:
    """Await ``func()`` to its end, whatever becomes of the caller.

    Raises: what ``func`` raises.
    Cancellation: passed on when ``func`` has ended, and its result is lost then.
    """

    async def shield() -> T:
        with anyio.CancelScope(shield=True):
            result = await func()
        return result  # noqa: RET504 (a return inside would look to mypy as if the scope might swallow it)

    return await in_child_task(shield)
