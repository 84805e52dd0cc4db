"""``call``, its form for synchronous code, and the identifier of the session that it is in."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, overload

from railtracks._calls._from_thread import WAIT_FOR_THREAD, run_in_session
from railtracks._concurrency._termination import run_event_loop
from railtracks._config import resolve_config
from railtracks._context_variable import current
from railtracks._session._session import Session
from railtracks.exceptions import SessionEndedError, SessionError
from railtracks.execution import Frame, running_library
from railtracks.execution._entering import enter
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._resolve import as_node

P = ParamSpec("P")
T = TypeVar("T")


@overload
async def call(node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
async def call(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run ``node`` with the arguments, record the call, and return its result.

    In a node the call is nested below that node's call. Without a session, one with the configured defaults is opened
    for this call.

    Args:
        node: The result of ``rt.function_node``, a subclass of ``rt.nodes.Node``, a factory of such nodes, or a plain
            function. Async nodes run in the caller's task, sync ones in a worker thread.
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
        async with Session():
            return await call(node, *args, **kwargs)
    coordinator = frame.coordinator
    try:
        task = coordinator.loop.current_task()
    except RuntimeError:  # this thread runs no task of the session's backend
        task = None
    if frame.task is task and frame.run is not None:
        return await coordinator.run(node, args, kwargs, frame, frame.run, task)
    return await enter(node, args, kwargs, frame)


@overload
def call_sync(node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def call_sync(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run ``call`` from synchronous code: in a plain ``with rt.Session()``, in a sync node, or without a session.

    It blocks until the call has ended. Ctrl-C during that time is raised here; the session cancels the call when it is
    left.

    Raises:
        SessionError: an event loop is running in this thread; the text shows the ``await`` to write.
        SessionEndedError: the session has ended, or this thread works for a call that was cancelled.
        Exception: as ``call``.
    """
    target = as_node(node, "rt.call_sync")
    if library := running_library():
        raise SessionError(
            f"rt.call_sync({target.name}, ...) was called inside a running {library} event loop, which it would block; "
            f"write `await rt.call({target.name}, ...)`"
        )
    bound = functools.partial(call, target, *args, **kwargs)
    frame: Frame | None = current.get()
    if frame is None:
        return run_event_loop(bound, resolve_config({}).backend)
    name = f"rt.call_sync({target.name}, ...)"
    if frame.coordinator.lifecycle.is_closed:
        raise SessionEndedError(
            f"{name} came after its session had ended; {WAIT_FOR_THREAD}"
        ) from frame.coordinator.failure
    return run_in_session(frame, bound, name)


def session_id() -> str | None:
    """Return the identifier of the session that the running code is in; None outside a session."""
    frame: Frame | None = current.get()
    return None if frame is None else frame.coordinator.session_id
