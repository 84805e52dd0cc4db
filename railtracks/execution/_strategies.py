"""Strategies run one invocation of a node: where, and on what."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._thread_limit import PATIENCE, ThreadLimit
from railtracks._concurrency._threads import run_in_thread
from railtracks._context_variable import current
from railtracks.execution._node_errors import Unwound
from railtracks.execution._noted_waits import noted_wait
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import is_awaited
from railtracks.nodes._resolve import invoke_if_node

MAX_NAMED = 10
"""Nodes that a warning names at most."""


class ExecutionStrategy(Protocol):
    """How a node's function is run."""

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
        """Begin one invocation; awaiting what is returned gives its result or raises its exception.

        Cancellation is delivered to the work where that is possible; the strategy says where it is not.
        """


class InTaskStrategy:
    """Runs async nodes: awaits them in the caller's own task. No task is created, so nothing can outlive the call."""

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
        awaitable: Awaitable[Any] = node.body(*args, **kwargs)
        return awaitable


class _ThreadState(threading.local):
    strategy: ThreadStrategy | None = None
    """The strategy that runs the current worker thread, if one does."""


_thread_state = _ThreadState()


@after_fork
def _reset() -> None:
    _thread_state.strategy = None


class ThreadStrategy:
    """Runs sync nodes: each in a worker thread, with the caller's context variables, up to ``max_threads`` at once.

    A thread cannot be killed. A cancelled call abandons it, or waits for it, as the node's ``abandon_on_cancel`` says.
    The limit is the session's own, so that one session does not block another. Abandoned threads do not count.

    Args:
        max_threads: The greatest number of threads that work at once.
        on_abandon: Awaited, in the task of the call, when its thread is abandoned; returns whether to wait for its end.
    """

    def __init__(self, max_threads: int, on_abandon: Callable[[], Awaitable[bool]]) -> None:
        self._max_threads = max_threads
        self._on_abandon = on_abandon
        self._limit: ThreadLimit | None = None  # made in the event loop that uses it

    def unbind(self) -> None:
        """Forget the event loop: the session goes on in another one."""
        self._limit = None

    @property
    def limit(self) -> ThreadLimit:
        """The limit, in the event loop that runs here."""
        if self._limit is None:
            self._limit = ThreadLimit(self._max_threads, _warn_of_congestion, partial(noted_wait, "a worker thread"))
        return self._limit

    @property
    def awaited(self) -> Mapping[str, int]:
        """How many calls wait for a worker thread, by the name of their node."""
        limit = self._limit
        return {} if limit is None else limit.awaited.copy()

    def is_host_of_this_thread(self) -> bool:
        """Return whether the current thread is a worker thread in which this strategy runs a node."""
        return _thread_state.strategy is self

    async def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        try:
            result = await run_in_thread(
                partial(self._run, node, args, kwargs),
                abandon_on_cancel=node.abandon_on_cancel,
                limit=self.limit,
                name=node.name,
                on_abandon=self._on_abandon,
            )
        except Unwound:
            await checkpoint_if_cancelled()
            raise
        except Exception as exc:
            from concurrent.futures import CancelledError  # loaded by now, if it was raised; not worth loading before

            if is_kind(exc, CancelledError):
                # On asyncio a thread gets this error when the call that it made on the event loop was cancelled. It is
                # this call's own cancellation then, unless the node cancelled a future of its own.
                await checkpoint_if_cancelled()
            raise
        return await result if is_awaited(result) else result

    def _run(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        _thread_state.strategy = self
        try:
            return invoke_if_node(node.body(*args, **kwargs))
        finally:
            _thread_state.strategy = None


def _warn_of_congestion(name: str, holders: Sequence[str]) -> None:
    """Warn that the current call waits for a worker thread, or for its thread to go on."""
    frame = current.get()
    counts = Counter(holders)
    named = [each if count == 1 else f"{each} ({count})" for each, count in counts.most_common(MAX_NAMED)]
    if len(counts) > MAX_NAMED:
        named.append("...")
    frame.coordinator.log.log(
        logging.WARNING,
        "%s has waited %g s for a worker thread: the session has max_threads=%d, and they are held by %s",
        name, PATIENCE, frame.coordinator.config.max_threads, ", ".join(named),
        run_id=frame.run_id, node_id=frame.node_id,
    )  # fmt: skip
