"""The nursery of a call in a session that has none: one that was entered with a plain ``with`` in async code.

There each top-level call opens a nursery, in which the pumps of the session's subscribers run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._task_groups import split_cancellation, task_group
from railtracks.execution._services import SessionServices
from railtracks.pubsub import PumpHost, RTPublisher


class _Pumped(Protocol):
    """A session, as far as this module needs it."""

    publisher: RTPublisher
    services: SessionServices


async def run_with_pumps(session: _Pumped, frame: object, func: Callable[[], Awaitable[Any]]) -> Any:
    """Run ``func`` beside the pumps of the session's subscribers, in a task group of its own.

    Args:
        session: The coordinator of the session.
        frame: The value of the context variable in callbacks of subscribers.
        func: What to run.

    Raises: what ``func`` raises, as the same object.
    Cancellation: of ``func``; passed on when what was accepted is delivered.
    """
    result: Any = None
    error: BaseException | None = None
    async with task_group() as nursery:
        host = PumpHost(nursery, frame)
        session.publisher.attach(host)

        async def leave() -> None:
            await session.publisher.detach(host)
            await session.services.close_resources()

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
