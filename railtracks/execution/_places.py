"""Where nodes run: in the event loop's thread, in a worker thread, in the thread that calls, or in a worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from railtracks._config import unknown_place
from railtracks._context_variable import current
from railtracks._options import PLACES
from railtracks.execution._home import Home
from railtracks.execution._node_policies import place_of
from railtracks.execution._strategies import ExecutionStrategy
from railtracks.execution._work_thread import blocks_loop, calling_thread
from railtracks.nodes import FunctionNode
from railtracks.nodes._callables import is_awaited
from railtracks.nodes._resolve import invoke_if_node


class InLoopStrategy:
    """Runs sync nodes in the thread of the event loop, which they block. They cannot be cancelled."""

    async def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        token = blocks_loop.set(node.name)
        try:
            result = invoke_if_node(node.body(*args, **kwargs))
        finally:
            blocks_loop.reset(token)
        return await result if is_awaited(result) else result


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
        result = await thread.run(lambda: invoke_if_node(node.body(*args, **kwargs)))
        return await result if is_awaited(result) else result


IN_LOOP = InLoopStrategy()
IN_CALLING_THREAD = CallingThreadStrategy()


class Places:
    """What runs the nodes of a session for which a place is declared.

    Args:
        in_task: What runs async nodes in the task of their caller.
        in_thread: What runs sync nodes in worker threads.
        wrap: Puts the strategy of a test harness around another one; None without a harness.
    """

    def __init__(
        self,
        in_task: ExecutionStrategy,
        in_thread: ExecutionStrategy,
        wrap: Callable[[Any], Any] | None,
    ) -> None:
        self._in_task = in_task
        self._in_thread = in_thread
        self._wrap = wrap
        self._strategies: dict[tuple[str, bool], ExecutionStrategy] = {}  # by place, and whether nodes are async

    def strategy_of(self, node: FunctionNode[..., Any], where: str, session: Home) -> ExecutionStrategy:
        """Return what runs the current call.

        Args:
            node: The node that it calls.
            where: The place that the node, or the session, declares. One that only the session declares is for sync
                nodes: the async ones, which await them, stay together.
            session: The session. It is not kept, so that its records are freed with the last reference to it.

        Raises:
            ConfigError: The session has no executor of that name.
        """
        is_async = node.is_async
        if is_async and (_is_sent_call(session) or place_of(node, None) is None):
            return self._in_task
        strategy = self._strategies.get((where, is_async))
        if strategy is None:
            strategy = _make_strategy(session, where, is_async, self._in_task, self._in_thread)
            if self._wrap is not None and strategy is not self._in_task and strategy is not self._in_thread:
                strategy = self._wrap(strategy)
            self._strategies[where, is_async] = strategy
        return strategy


def _make_strategy(
    session: Home, where: str, is_async: bool, in_task: ExecutionStrategy, in_thread: ExecutionStrategy
) -> ExecutionStrategy:
    if where in ("task", "caller") and is_async:
        return in_task
    if where == "task":
        return IN_LOOP
    if where == "caller":
        return IN_CALLING_THREAD
    if where == "thread" and not is_async:
        return in_thread
    executors = session.config.executors or {}
    if where not in PLACES and where not in executors and session.outbox is None:
        raise unknown_place(f"where={where!r} of a node", where, executors)
    if where == "thread":
        from railtracks.execution._remote._thread import OwnLoopStrategy  # here, as few programs need it

        return OwnLoopStrategy()
    if session.outbox is not None:  # a worker: executors are where the session is
        return in_task if is_async else in_thread
    from railtracks.execution._remote._strategy import RunnerStrategy  # here, as above

    return RunnerStrategy(where, executors.get(where))


def _is_sent_call(session: Home) -> bool:
    """Return whether the current call is the one that was sent to this worker, and so has come to its place."""
    if session.outbox is None:
        return False
    record = current.get().record
    return record is not None and record.parent is None
