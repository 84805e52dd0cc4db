"""Where nodes run: in the event loop's thread, in a worker thread, in the thread that calls, or in a worker."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from inspect import isawaitable
from typing import Any

from railtracks._config import unknown_place
from railtracks._context_variable import current
from railtracks._options import PLACES
from railtracks.execution._home import Home
from railtracks.execution._strategies import ExecutionStrategy
from railtracks.execution._work_thread import blocks_loop, calling_thread
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import holds
from railtracks.nodes._resolve import invoke_if_node


class InLoopStrategy:
    """Runs sync nodes in the thread of the event loop, which they block. They cannot be cancelled."""

    async def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        token = blocks_loop.set(node.name)
        try:
            result = invoke_if_node(node.func(*args, **kwargs))
        finally:
            blocks_loop.reset(token)
        return await result if holds(isawaitable, result) else result


class CallingThreadStrategy:
    """Runs sync nodes in the thread that calls: for ``rt.call_sync`` that which waits, else that of the event loop."""

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
        thread = calling_thread.get()
        if thread is None:
            return IN_LOOP.execute(node, args, kwargs)
        return self._execute_there(node, args, kwargs)

    async def _execute_there(
        self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        thread = calling_thread.get()
        assert thread is not None
        result = await thread.run(lambda: invoke_if_node(node.func(*args, **kwargs)))
        return await result if holds(isawaitable, result) else result


IN_LOOP = InLoopStrategy()
IN_CALLING_THREAD = CallingThreadStrategy()


def make_strategy(
    coordinator: Home,
    where: str,
    is_async: bool,
    in_task: ExecutionStrategy,
    in_thread: ExecutionStrategy,
) -> ExecutionStrategy:
    """Return the strategy for nodes that run at a place.

    Args:
        coordinator: Runs the calls of the session.
        where: The place.
        is_async: Whether the nodes are async.
        in_task: What runs async nodes in the task of their caller.
        in_thread: What runs sync nodes in worker threads.

    Raises:
        ConfigError: The session has no executor of that name.
    """
    if where in ("task", "caller") and is_async:
        return in_task
    if where == "task":
        return IN_LOOP
    if where == "caller":
        return IN_CALLING_THREAD
    if where == "thread" and not is_async:
        return in_thread
    executors = coordinator.config.executors or {}
    if where not in PLACES and where not in executors and coordinator.outbox is None:
        raise unknown_place(f"where={where!r} of a node", where, executors)
    if where == "thread":
        from railtracks.execution._remote._thread import OwnLoopStrategy  # here, as few programs need it

        return OwnLoopStrategy()
    if coordinator.outbox is not None:  # a worker: executors are where the session is
        return in_task if is_async else in_thread
    from railtracks.execution._remote._strategy import RunnerStrategy  # here, as above

    return RunnerStrategy(where, executors.get(where))


def is_sent_call(coordinator: Home) -> bool:
    """Return whether the current call is the one that was sent to this worker, and so has come to its place."""
    if coordinator.outbox is None:
        return False
    record = current.get().record
    return record is not None and record.parent is None
