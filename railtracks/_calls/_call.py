"""``call``, its form for synchronous code, and the identifier of the session that it is in."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, overload

from railtracks._calls._lost_context import warn_of_lost_context
from railtracks._concurrency._task_stream import TaskStream
from railtracks._concurrency._termination import run_event_loop
from railtracks._config import resolve_config
from railtracks._context_variable import current
from railtracks._session._session import implicit_session
from railtracks.exceptions import SessionError
from railtracks.execution import Frame
from railtracks.execution._entering import enter
from railtracks.execution._from_thread import call_from_thread
from railtracks.execution._loop_access import require_no_loop
from railtracks.execution._work_thread import blocks_loop
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._node import RunnableFlow
from railtracks.nodes._resolve import as_node

P = ParamSpec("P")
T = TypeVar("T")


@overload
async def call(node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: RunnableFlow[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
async def call(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run ``node`` with the arguments, record the call, and return its result.

    In a node the call is nested below that node's call. Without a session, one with the configured defaults is opened
    for this call.

    Args:
        node: The result of ``rt.function_node``, a subclass of ``rt.nodes.Node``, a factory of such nodes, or a plain
            function. Async nodes run in the caller's task, sync ones in a worker thread. Or a flow, which has a session
            of its own then, and a run that goes on with the one that calls it.
        *args: The positional arguments of the node.
        **kwargs: The keyword arguments of the node.

    Raises:
        NodeCreationError: ``node`` cannot be called; the text shows what to write.
        GlobalTimeOutError: a top-level call took longer than the session's ``timeout``.
        SessionEndedError: the call came too late, or the end of its session cancelled it.
        Exception: whatever the node raises, as the same object. With ``end_on_error`` a top-level call raises the first
            error of the session.

    Cancellation: the node and everything below it are cancelled, and recorded as cancelled.
    """
    frame: Frame | None = current.get()
    if type(node) is not FunctionNode:
        node = as_node(node)
    if frame is None:
        warn_of_lost_context(f"rt.call({node.name}, ...)", stack_level=1, in_loop=True)
        return await _call_in_session(node, args, kwargs)
    coordinator = frame.coordinator
    try:  # as `loop.task_here`, without the cost of another call
        task = coordinator.loop.current_task()
    except RuntimeError:
        task = None
    if frame.task is task and frame.run is not None:
        return await coordinator.run(node, args, kwargs, frame, frame.run, task)
    return await enter(node, args, kwargs, frame)


async def _call_in_session(node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make a call in a session that is opened for it."""
    async with implicit_session():
        return await call(node, *args, **kwargs)


@overload
def call_sync(node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: RunnableFlow[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def call_sync(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run ``call`` from synchronous code: in a plain ``with rt.Session()``, in a sync node, or without a session.

    It blocks until the call has ended. Ctrl-C during that time is raised here; the session cancels the call when it is
    left.

    Raises:
        SessionError: an event loop is running in this thread; the text shows the ``await`` to write. Or ``node`` is
            ``rt.call_stream`` or ``rt.astream``, over whose results only async code can iterate.
        SessionEndedError: the session has ended, or this thread works for a call that was cancelled.
        Exception: as ``call``.

    Warns:
        RuntimeWarning: the call gets a session of its own, while one is open that this thread does not know, as it has
            no context variables.
    """
    target = as_node(node, "rt.call_sync")
    name = f"rt.call_sync({target.name}, ...)"
    frame: Frame | None = current.get()
    coordinator = None if frame is None else frame.coordinator
    if (blocking := blocks_loop.get()) is not None:
        raise SessionError(
            f"{name} was called in {blocking}, a sync node that runs in the thread of the event loop, which it would "
            f"block; make {blocking} async and write `await rt.call({target.name}, ...)`, or run it with "
            f"where='thread'"
        )
    require_no_loop(coordinator, name, f"rt.call({target.name}, ...)", f"rt.call_sync, {target.name}, ...")
    if frame is None:
        warn_of_lost_context(name, stack_level=1)
        make_call = functools.partial(_call_in_session, target, args, kwargs)
        result = run_event_loop(make_call, resolve_config({}).backend)
    else:
        result = call_from_thread(target, args, kwargs, name)
    # What a function of the application returns is its own matter.
    if issubclass(type(result), TaskStream) and str(getattr(target.func, "__module__", "")).startswith("railtracks."):
        raise SessionError(
            f"rt.call_sync(rt.{target.name}, ...) returned a stream, whose calls begin in an `async for`, and so did "
            f"nothing; iterate over it in an async node, or use rt.call_sync(rt.call_batch, ...)"
        )
    return result


def session_id() -> str | None:
    """Return the identifier of the session that the running code is in; None outside a session."""
    frame: Frame | None = current.get()
    return None if frame is None else frame.coordinator.session_id
