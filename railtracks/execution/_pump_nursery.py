"""Nurseries for calls: the session's own, and that of a call in a session that has none.

A session that was entered with a plain ``with`` in async code has no nursery. There each top-level call opens one, in
which the pumps of the session's subscribers run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._task_groups import split_cancellation, task_group
from railtracks.pubsub import PumpHost, RTPublisher


class TaskSpawner(Protocol):
    """The nursery of a session, as far as its calls need it."""

    body_finished: bool
    """Whether the session's body has ended: its tasks may still run, but their streams have no consumer."""

    def spawn(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await ``func()`` in a task of the session. The session raises what it raises, at the session's end."""


class _Pumped(Protocol):
    """A session, as far as this module needs it."""

    publisher: RTPublisher

    async def close_resources(self) -> None: ...


async def run_with_pumps(session: _Pumped, frame: object, func: Callable[[], Awaitable[Any]]) -> Any:
    """Run ``func`` beside the pumps of the session's subscribers, in a task group of its own.

    Args:
        session: The coordinator of the session.
        frame: The value of the context variable in callbacks of subscribers.
        func: What to run.

    Raises:
        BaseException: whatever ``func`` raises, as the same object.

    Cancellation: of ``func``; passed on when what was accepted is delivered.
    """
    result: Any = None
    error: BaseException | None = None
    async with task_group() as nursery:
        host = PumpHost(nursery, frame)
        session.publisher.attach(host)

        async def leave() -> None:
            await session.publisher.detach(host)
            await session.close_resources()

        try:
            result = await func()
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            if cancellation is not None:
                raise cancellation from None
        finally:
            await shielded(leave)
    if error is not None:
        raise error
    return result
