"""Calls: ``call``, ``call_batch``, ``call_sync``, and ``broadcast``."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, overload

import anyio

from railtracks._concurrency._cancellation import pass_cancellation_on
from railtracks._concurrency._threads import run_in_loop
from railtracks._config import merge
from railtracks._context_variable import current
from railtracks._session._session import Session
from railtracks.exceptions import ContextError, SessionEndedError, SessionError
from railtracks.execution import Frame, divide, running_library, task_group
from railtracks.execution._broadcasts import publish_broadcast
from railtracks.execution._entering import enter
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._function import as_node

P = ParamSpec("P")
T = TypeVar("T")

_Call = tuple[FunctionNode[..., Any], tuple[Any, ...], Mapping[str, Any]]
_NO_KWARGS: Mapping[str, Any] = {}


@overload
async def call(node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
async def call(node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
async def call(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run ``node`` with the arguments, record it, and return what it returns.

    Args:
        node: What ``rt.function_node`` returned, a subclass of ``rt.nodes.Node``, a factory of such nodes, or a plain
            function. Async ones run in the caller's task, sync ones in a worker thread.

    Within a node the call is nested below it. Without a session it opens one with the configured defaults around
    itself.

    Raises:
        NodeCreationError: ``node`` is none; the text shows what to write.
        GlobalTimeOutError: a top-level call took longer than the session's ``timeout``.
        SessionEndedError: the call came too late, or the end of its session cancelled it.
        Exception: whatever the node raises, as the same object; with ``end_on_error`` a top-level call raises the first
            error of the session.

    Cancellation: the node is cancelled, and so is everything below it; the record says so.
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
    except RuntimeError:  # no task in the event loop that the session knows
        task = None
    if frame.task is task and frame.run is not None:
        return await coordinator.run(node, args, kwargs, frame, frame.run, task)
    return await enter(node, args, kwargs, frame)


@overload
async def call_batch(
    node: Callable[..., Node[T]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: int | None = None,
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: int | None = None,
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., Node[T]], /, *iterables: Iterable[Any], return_exceptions: bool = True, limit: int | None = None
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: int | None = None,
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: Callable[..., T], /, *iterables: Iterable[Any], return_exceptions: Literal[False], limit: int | None = None
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., T], /, *iterables: Iterable[Any], return_exceptions: bool = True, limit: int | None = None
) -> list[T | BaseException]: ...
async def call_batch(
    node: Any, /, *iterables: Iterable[Any], return_exceptions: bool = True, limit: int | None = None
) -> list[Any]:
    """Call ``node`` once for each tuple of ``zip(*iterables)``, concurrently.

    Args:
        node: As for ``call``.
        *iterables: One for each argument; the shortest ends the batch. They are read as the calls begin.
        return_exceptions: True: an exception stands in its place in the result. False: the first one cancels the
            rest and is raised, as itself.
        limit: How many calls run at once, at the most; None for all.

    Returns:
        The results, in the order of the arguments.

    Raises: as ``call``, and what the iterables raise.
    Cancellation: all calls are cancelled.
    """
    if not iterables:
        raise TypeError(
            "rt.call_batch() needs an iterable for each argument of the node; write `rt.call_batch(node, items)`"
        )
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"rt.call_batch: limit is {limit!r}; give a whole number of at least 1, or None for no limit")
    node = as_node(node, "rt.call_batch")
    calls = ((node, args, _NO_KWARGS) for args in zip(*iterables, strict=False))
    if current.get() is None:
        async with Session():
            return await _Batch(calls, return_exceptions, limit).run()
    return await _Batch(calls, return_exceptions, limit).run()


async def call_each(calls: Sequence[_Call]) -> list[Any]:
    """Make several calls concurrently, from within a session.

    Returns:
        What they return, in their order; an exception in the place of a call that raised one.

    Cancellation: all calls are cancelled.
    """
    batch = _Batch(iter(calls), return_exceptions=True, limit=None)
    return [await batch.one_here(*calls[0])] if len(calls) == 1 else await batch.run()


class _Batch:
    """Several calls at once: workers that pull from one iterator.

    A worker that begins a call while no other is about to begin starts some more, so there are as many as calls
    that wait, plus a few: calls that never wait cost no task each, and those that do all begin within a few turns
    of the event loop.
    """

    MAX_BURST = 64
    """Workers that are started at once, at the most; the number doubles each time."""

    def __init__(self, calls: Iterator[_Call], return_exceptions: bool, limit: int | None) -> None:
        self._calls = calls
        self._return_exceptions = return_exceptions
        self._room: float = math.inf if limit is None else limit  # workers that may still be started
        self._burst = 1
        self._about_to_begin = 0  # workers that were started and have not begun
        self._frame: Frame = current.get()
        self._coordinator = self._frame.coordinator
        inside = self._frame.run is not None and self._frame.task is self._coordinator.loop.current_task()
        self._run = self._frame.run if inside else None  # None: each call enters by itself
        self._results: list[Any] = []
        self._error: BaseException | None = None

    async def run(self) -> list[Any]:
        async with task_group() as self._group:
            self._start_workers()
        await self._coordinator.wait_committed()  # once for all: nobody has seen a result yet
        if self._error is not None:
            raise self._error
        return self._results

    async def one_here(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A batch of one, in the caller's task: another would take longer to make than most calls take."""
        result = await self._one(node, args, kwargs)
        await self._coordinator.wait_committed()
        return result

    def _start_workers(self) -> None:
        count = int(min(self._burst, self._room))
        for _ in range(count):
            self._group.start_soon(self._work)
        self._room -= count
        self._about_to_begin += count
        self._burst = min(2 * self._burst, self.MAX_BURST)

    async def _work(self) -> None:
        self._about_to_begin -= 1
        results = self._results
        try:
            for one in self._calls:
                if not self._about_to_begin and self._room:
                    self._start_workers()
                index = len(results)
                results.append(None)
                results[index] = await self._one(*one)
        except BaseException as exc:
            cancellation, error = divide(exc)
            if error is not None:
                if self._error is None or not isinstance(error, Exception):  # Ctrl-C comes before what it caused
                    self._error = error
                self._group.cancel_scope.cancel()
            if cancellation is not None:
                raise cancellation from None

    async def _one(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        try:
            if self._run is None:
                return await enter(node, args, kwargs, self._frame, commits=False)
            task = self._coordinator.loop.current_task()
            return await self._coordinator.run(node, args, kwargs, self._frame, self._run, task, commits=False)
        except Exception as exc:
            if not self._return_exceptions:
                raise
            return exc
        except anyio.get_cancelled_exc_class() as exc:
            await pass_cancellation_on()
            # Nobody cancelled this: the node awaited something of its own that was cancelled. Let out of this task
            # it would look like a cancellation of the whole group.
            if not self._return_exceptions:
                self._error = self._error or exc
                self._group.cancel_scope.cancel()
            return exc


@overload
def call_sync(node: Callable[P, Node[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
@overload
def call_sync(node: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def call_sync(node: Any, /, *args: Any, **kwargs: Any) -> Any:
    """``call`` for synchronous code: in a plain ``with rt.Session()``, in a sync node, or without any session. Blocks.

    Raises:
        SessionError: an event loop is running in this thread; the text shows the ``await`` to write.
        Exception: as ``call``.

    Ctrl-C while waiting is raised here; the session cancels the call when it is left.
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
        return anyio.run(bound, backend=merge({}).backend)
    coordinator = frame.coordinator
    if coordinator.closed or (frame.record is not None and frame.record.abandoned):
        raise SessionEndedError(
            f"rt.call_sync({target.name}, ...) came from a thread whose call was cancelled, "
            f"or after its session had ended"
        ) from coordinator.failure
    try:
        token = None if coordinator.threads.is_host_of_this_thread() else coordinator.loop.require_token()
        return run_in_loop(bound, token)
    except anyio.RunFinishedError as exc:
        raise SessionEndedError(
            f"rt.call_sync({target.name}, ...) came after the session's event loop had ended"
        ) from exc


async def broadcast(item: Any) -> None:
    """Give ``item`` to the session's ``broadcast_callback`` and to all who subscribed to ``rt.state.Broadcast``.

    Waits only while a subscriber that wants to be waited for is behind; not for the delivery.

    Raises:
        ContextError: there is no session.
        SessionEndedError: the session is over.
    Cancellation: while it waits; the item is not broadcast then.
    """
    frame: Frame | None = current.get()
    if frame is None:
        raise ContextError(
            "rt.broadcast() was called outside a session; call it in a node, or inside `async with rt.Session():`"
        )
    await publish_broadcast(frame.coordinator, item, frame)


def session_id() -> str | None:
    """The identifier of the session that the running code is in; None outside."""
    frame: Frame | None = current.get()
    return None if frame is None else frame.coordinator.session_id
