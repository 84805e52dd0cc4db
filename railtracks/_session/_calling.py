"""Calls that are made by way of a session, wherever the code is that makes them; the base of ``Session``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, Self, TypeVar, overload

from railtracks._concurrency._event_loop import running_library
from railtracks._context_variable import current
from railtracks._session._handle import CallHandle
from railtracks._session._life import SessionLife
from railtracks.exceptions import SessionError
from railtracks.execution import Frame
from railtracks.execution._entering import call_here
from railtracks.execution._from_thread import call_from_thread, run_quickly
from railtracks.execution._lifecycle import Operation, Phase
from railtracks.execution._loop_access import require_no_loop
from railtracks.nodes import Node
from railtracks.nodes._node import RunnableFlow
from railtracks.nodes._resolve import as_node

P = ParamSpec("P")
T = TypeVar("T")


class SessionCalls(SessionLife):
    """The methods of a session that make calls."""

    __slots__ = ()

    def start_soon(self, node: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> CallHandle:
        """Start a top-level call of ``node`` beside the body; the session waits for it at its end.

        The first error of these calls is raised when the session is left, unless the body raised one itself. A sync
        node may use it, too; its thread is blocked until the event loop has started the call.
        Cancellation: the call is cancelled with the session.

        Returns:
            A handle: ``cancel()``, ``await wait()``, ``status``.

        Raises:
            SessionError: the session is not open yet; or it was entered with a plain ``with``, in async code, or by
                synchronous code and the caller is not a node of it.
            SessionEndedError: the session has ended, or is being left; or this thread works for a call that was
                cancelled.
            NodeCreationError: ``node`` is not a node.
        """
        target = as_node(node, "start_soon")
        self._lifecycle.require(Operation.START_SOON, f"start_soon({target.name})")
        frame, nursery = current.get(), self._nursery
        is_here = frame is not None and frame.coordinator is self._coordinator
        is_in_call = is_here and frame.record is not None
        if nursery is None or (self._loop_thread is not None and not is_in_call):
            instead = (
                f"enter it so, or write `await rt.call({target.name}, ...)`"
                if running_library()
                else f"in synchronous code use rt.call_sync({target.name}, ...)"
            )
            raise SessionError(
                f"start_soon({target.name}) needs a session that was entered with `async with rt.Session() as s:`; "
                f"{instead}"
            )

        def start() -> CallHandle:
            self._lifecycle.require(Operation.START_SOON, f"start_soon({target.name})")  # it may have ended meanwhile
            return nursery.start_soon(target, args, kwargs)

        return run_quickly(frame if is_here else nursery.frame, start, f"start_soon({target.name})")

    # ---- calls in this session, wherever the code is that makes them

    @overload
    async def call(self, node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def call(self, node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def call(self, node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def call(self, node: RunnableFlow[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def call(self, node: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run ``node`` in this session, whether or not the running code is in it, and return its result.

        In a node of this session it is ``rt.call``; anywhere else it makes a top-level call. It must run in the event
        loop of the session. It raises and is cancelled as ``rt.call``.
        """
        target = as_node(node, "session.call")
        with self._current():
            return await call_here(target, args, kwargs)

    @overload
    def call_sync(self, node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def call_sync(self, node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def call_sync(self, node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def call_sync(self, node: RunnableFlow[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def call_sync(self, node: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Do as ``call``, in a thread without an event loop, such as one of a pool. Blocks until the call has ended.

        The event loop of the session must be free: it must not wait for this thread in code that blocks it.

        Raises:
            SessionError: an event loop is running in this thread; write ``await session.call(...)``. Or the session is
                not open yet, or was entered with a plain ``with`` in async code.
            Exception: as ``rt.call_sync``.
        """
        target = as_node(node, "session.call_sync")
        name = f"session.call_sync({target.name}, ...)"
        require_no_loop(
            self._coordinator, name, f"session.call({target.name}, ...)", f"session.call_sync, {target.name}, ..."
        )
        if self._lifecycle.phase < Phase.OPEN:  # a call that comes too late may be nested, and is cancelled then
            self._lifecycle.require(Operation.CALL, f"the call of {target.name}")
        with self._current():
            return call_from_thread(target, args, kwargs, name)

    @contextmanager
    def activate(self) -> Iterator[Self]:
        """Make this session the one that ``rt.call``, ``rt.context`` and the others use, until the block ends.

        For code that does not run where the session was entered: an endpoint of a web application whose lifespan has
        opened it, or a thread of a pool. It does not wait for anything when it ends.

        Raises:
            SessionError: the session is not open yet.
            SessionEndedError: it has ended.
        """
        self._lifecycle.require(Operation.ACTIVATE, "session.activate()")
        with self._current():
            yield self

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make this session current, unless it is."""
        frame = current.get()
        if frame is not None and frame.coordinator is self._coordinator:
            yield
            return
        token = current.set(Frame(self._coordinator))
        try:
            yield
        finally:
            with suppress(ValueError):  # it is left in another context, as by a generator; that ends with its context
                current.reset(token)
