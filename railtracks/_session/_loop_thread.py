"""An event loop in a thread of its own, for sessions in plain synchronous code."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from railtracks._concurrency._threads import start_event_loop
from railtracks._session._nursery import Lifetime


class LoopThread:
    """Opens and closes a session's lifetime in one task of an event loop of its own.

    Args:
        backend: "asyncio" or "trio".
        lifetime: Opened when this returns.
    """

    def __init__(self, backend: str, lifetime: Lifetime) -> None:
        with ExitStack() as stack:
            portal = stack.enter_context(start_event_loop(backend))
            stack.enter_context(portal.wrap_async_context_manager(_Housed(lifetime)))
            self._stack = stack.pop_all()

    def close(self, exc: BaseException | None) -> None:
        """Close the lifetime, telling it of ``exc``, and end the thread. Blocks until both are done.

        Raises: what closing the lifetime raises. A KeyboardInterrupt while waiting cancels what is left, and passes.
        """
        self._stack.__exit__(None if exc is None else type(exc), exc, None if exc is None else exc.__traceback__)


class _Housed:
    """A lifetime as the context manager that a portal can hold open."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime

    async def __aenter__(self) -> None:
        await self._lifetime.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        await self._lifetime.close(exc)
        return False
