"""Strategies run one invocation of a node: where, and on what."""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Protocol

import anyio

from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._threads import run_in_thread
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import holds
from railtracks.nodes._resolve import invoke_if_node


class ExecutionStrategy(Protocol):
    """How a node's function is run."""

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
        """Begin one invocation; awaiting what is returned gives its result or raises its exception.

        Cancellation is delivered to the work where that is possible; the strategy says where it is not.
        """


class InTaskStrategy:
    """Runs async nodes: awaits them in the caller's own task. No task is created, so nothing can outlive the call."""

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
        awaitable: Awaitable[Any] = node.func(*args, **kwargs)
        return awaitable


class _ThreadState(threading.local):
    strategy: ThreadStrategy | None = None
    """The strategy that runs the current worker thread, if one does."""


_thread_state = _ThreadState()


class ThreadStrategy:
    """Runs sync nodes: each in a worker thread, with the caller's context variables, up to ``MAX_THREADS`` at once.

    A thread cannot be killed. A cancelled call abandons it, or waits for it, as the node's ``abandon_on_cancel`` says.
    The limit is the session's own, so that abandoned threads of one session do not block another.

    Args:
        on_abandon: Awaited, in the task of the call, when its thread is abandoned.
    """

    MAX_THREADS = 40
    """Threads at once: as many as the limiters of anyio and trio allow."""

    def __init__(self, on_abandon: Callable[[], Awaitable[None]]) -> None:
        self._on_abandon = on_abandon
        self._limiter: anyio.CapacityLimiter | None = None  # made in the event loop that uses it

    def unbind(self) -> None:
        """Forget the event loop: the session goes on in another one."""
        self._limiter = None

    def is_host_of_this_thread(self) -> bool:
        """Return whether the current thread is a worker thread in which this strategy runs a node."""
        return _thread_state.strategy is self

    async def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self.MAX_THREADS)
        try:
            result = await run_in_thread(
                functools.partial(self._run, node, args, kwargs),
                abandon_on_cancel=node.abandon_on_cancel,
                limiter=self._limiter,
                on_abandon=self._on_abandon,
            )
        except Exception as exc:
            from concurrent.futures import CancelledError  # loaded by now, if it was raised; not worth loading before

            if isinstance(exc, CancelledError):
                # On asyncio a thread gets this error when the call that it made on the event loop was cancelled. It is
                # this call's own cancellation then, unless the node cancelled a future of its own.
                await checkpoint_if_cancelled()
            raise
        return await result if holds(isawaitable, result) else result

    def _run(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        _thread_state.strategy = self
        try:
            return invoke_if_node(node.func(*args, **kwargs))
        finally:
            _thread_state.strategy = None
