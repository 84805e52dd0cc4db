"""An event loop in a thread of its own, for sessions in plain synchronous code."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from railtracks._concurrency._threads import start_event_loop
from railtracks._session._nursery import SessionNursery


class LoopThread:
    """Opens and closes the nursery of a session in one task of an event loop of its own.

    Args:
        backend: "asyncio" or "trio".
        nursery: Open when the constructor returns.
    """

    def __init__(self, backend: str, nursery: SessionNursery) -> None:
        with ExitStack() as stack:
            portal = stack.enter_context(start_event_loop(backend))
            stack.enter_context(portal.wrap_async_context_manager(_NurseryContext(nursery)))
            self._stack = stack.pop_all()

    def close(self, exc: BaseException | None) -> None:
        """Close the nursery, given what the session's body raised, and end the thread. Blocks until both are done.

        Raises:
            BaseException: whatever closing the nursery raises.
            KeyboardInterrupt: Ctrl-C came while this waited; what was left is cancelled.
        """
        self._stack.__exit__(None if exc is None else type(exc), exc, None if exc is None else exc.__traceback__)


class _NurseryContext:
    """A nursery as the context manager that a portal can hold open."""

    def __init__(self, nursery: SessionNursery) -> None:
        self._nursery = nursery

    async def __aenter__(self) -> None:
        await self._nursery.open()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        await self._nursery.close(exc)
        return False
