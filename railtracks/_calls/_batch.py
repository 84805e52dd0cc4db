"""``call_batch``: several calls at once."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

import anyio

from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._session._session import Session
from railtracks.execution import Frame, find_interrupt, split_cancellation
from railtracks.execution._entering import enter
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._resolve import as_node

T = TypeVar("T")

_Call = tuple[FunctionNode[..., Any], tuple[Any, ...], Mapping[str, Any]]
_NO_KWARGS: Mapping[str, Any] = {}


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
        return_exceptions: True: an exception takes the place of the result of the call that raised it. False: the
            first exception cancels the other calls and is raised as the same object.
        limit: The greatest number of calls that run at once; None for no limit.

    Returns:
        The results, in the order of the arguments.

    Raises:
        Exception: as ``call``, and what the iterables raise.

    Cancellation: all calls are cancelled.
    """
    if not iterables:
        raise TypeError(
            "rt.call_batch() needs an iterable for each argument of the node; write `rt.call_batch(node, items)`"
        )
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"rt.call_batch: limit must be an integer of at least 1, or None for no limit, not {limit!r}")
    node = as_node(node, "rt.call_batch")
    calls = ((node, args, _NO_KWARGS) for args in zip(*iterables, strict=False))
    if current.get() is None:
        async with Session():
            return await _Batch(calls, return_exceptions, limit).run()
    return await _Batch(calls, return_exceptions, limit).run()


async def gather_calls(calls: Sequence[_Call]) -> list[Any]:
    """Make several calls concurrently, inside a session.

    Returns:
        Their results, in their order; an exception takes the place of the result of a call that raised one.

    Cancellation: all calls are cancelled.
    """
    batch = _Batch(iter(calls), return_exceptions=True, limit=None)
    return [await batch.run_single(*calls[0])] if len(calls) == 1 else await batch.run()


class _Batch:
    """Workers that take their calls from one iterator.

    A worker that begins a call while no other worker is about to begin starts some more. So there are as many workers
    as there are calls that wait, plus a few: calls that never wait do not cost a task each, and calls that do wait
    have all begun within a few turns of the event loop.
    """

    MAX_BURST = 64
    """The greatest number of workers that are started at once; the number doubles each time."""

    def __init__(self, calls: Iterator[_Call], return_exceptions: bool, limit: int | None) -> None:
        self._calls = calls
        self._return_exceptions = return_exceptions
        self._free_slots: float = math.inf if limit is None else limit  # workers that may still be started
        self._burst = 1
        self._pending_workers = 0  # workers that were started and have not begun
        self._frame: Frame = current.get()
        self._coordinator = self._frame.coordinator
        inside = self._frame.run is not None and self._frame.task is self._coordinator.loop.current_task()
        self._run = self._frame.run if inside else None  # None: each call enters its task with a scope of its own
        self._results: list[Any] = []
        self._error: BaseException | None = None
        self._cancellation: BaseException | None = None  # the first one that reached a worker
        self._has_all = False  # the iterator has ended
        self._unfilled = 0  # places whose calls have not ended

    async def run(self) -> list[Any]:
        """Make all calls and return their results."""
        try:
            async with anyio.create_task_group() as self._group:
                self._start_workers()
        except BaseExceptionGroup as group:
            interrupt = find_interrupt(group)  # trio may deliver Ctrl-C to the task group
            if interrupt is None:
                raise
            raise interrupt from None
        finally:
            if self._pending_workers:  # asyncio cancelled them before their first step, all of the latest burst
                for worker in self._started:
                    worker.coro.close()  # or Python would warn that it was never awaited
        await self._coordinator.wait_committed()  # once for all of them: no result has been seen outside yet
        if self._error is not None:
            raise self._error
        if self._unfilled or not self._has_all:
            # A cancellation that the task group has lost: on asyncio anyio may count the native cancellation of a
            # worker as its own (tests/test_anyio_faults.py). Code that was cancelled must not go on with half a batch.
            await checkpoint_if_cancelled()
            raise self._cancellation or anyio.get_cancelled_exc_class()()
        return self._results

    async def run_single(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make one call, in the caller's task: starting another task would take longer than most calls."""
        result = await self._call_one(node, args, kwargs)
        await self._coordinator.wait_committed()
        return result

    def _start_workers(self) -> None:
        count = int(min(self._burst, self._free_slots))
        self._started = [self._group.start_soon(self._work) for _ in range(count)]
        self._free_slots -= count
        self._pending_workers += count
        self._burst = min(2 * self._burst, self.MAX_BURST)

    async def _work(self) -> None:
        self._pending_workers -= 1
        results = self._results
        try:
            for node, args, kwargs in self._calls:
                if not self._pending_workers and self._free_slots:
                    self._start_workers()
                index = len(results)
                results.append(None)
                self._unfilled += 1
                results[index] = await self._call_one(node, args, kwargs)
                self._unfilled -= 1
            self._has_all = True
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            if self._cancellation is None:
                self._cancellation = cancellation
            if error is not None:
                if self._error is None or not is_kind(error, Exception):  # Ctrl-C wins over what it caused
                    self._error = error
                self._group.cancel_scope.cancel()
            if cancellation is not None:
                raise cancellation from None

    async def _call_one(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
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
            if not is_stray_cancellation(exc):
                raise
            # This task was not cancelled: the node awaited something of its own that was. If the exception left the
            # task, the group would take it for its own cancellation.
            if not self._return_exceptions:
                self._error = exc if self._error is None else self._error
                self._group.cancel_scope.cancel()
            return exc
