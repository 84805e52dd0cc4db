"""``call_batch``: several calls at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

import anyio

from railtracks._calls._batch_progress import BatchProgress, check_label, count_calls
from railtracks._calls._lost_context import warn_of_lost_context
from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._progress._batch_count import BatchCount
from railtracks._session._session import implicit_session
from railtracks.exceptions import SessionError
from railtracks.execution import Coordinator, Frame, find_interrupt, split_cancellation
from railtracks.execution._entering import check_event_loop, enter, raise_lost_cancellation
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._node import RunnableFlow
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
    progress: str | None = None,
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., Node[T]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: RunnableFlow[..., T],
    /,
    *iterables: Iterable[Any],
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
) -> list[T]: ...
@overload
async def call_batch(
    node: RunnableFlow[..., T],
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
) -> list[T | BaseException]: ...
async def call_batch(
    node: Any,
    /,
    *iterables: Iterable[Any],
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
) -> list[Any]:
    """Call ``node`` once for each tuple of ``zip(*iterables)``, concurrently.

    Args:
        node: As for ``call``.
        *iterables: One for each argument; the shortest ends the batch. They are read as the calls begin.
        return_exceptions: True: an exception takes the place of the result of the call that raised it. False: the
            first exception cancels the other calls and is raised as the same object.
        limit: The greatest number of calls that run at once; None for no limit.
        progress: What the batch does, such as "parsing", to show how many calls have ended: in one line of standard
            error if that is a terminal, or else by log records, every ten seconds and at the end.

    Returns:
        The results, in the order of the arguments.

    Raises:
        TypeError: there is no iterable, or one of the arguments cannot be iterated.
        ValueError: ``limit`` is not None or an integer of at least 1, or ``progress`` is not a text of one line.
        SessionError: it was called in another event loop than its session's.
        Exception: as ``call``, and what the iterables raise.

    Cancellation: all calls are cancelled.
    """
    if not iterables:
        raise TypeError(
            "rt.call_batch() needs an iterable for each argument of the node; write `rt.call_batch(node, items)`"
        )
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"rt.call_batch: limit must be an integer of at least 1, or None for no limit, not {limit!r}")
    check_label(progress)
    node = as_node(node, "rt.call_batch")
    calls = ((node, args, _NO_KWARGS) for args in zip(*iterables, strict=False))
    if current.get() is None:
        warn_of_lost_context(f"rt.call_batch({node.name}, ...)", stack_level=1, in_loop=True)
        async with implicit_session():
            return await _run(node.name, calls, return_exceptions, limit, progress, iterables)
    return await _run(node.name, calls, return_exceptions, limit, progress, iterables)


async def _run(
    name: str,
    calls: Iterator[_Call],
    return_exceptions: bool,
    limit: int | None,
    label: str | None,
    iterables: tuple[Iterable[Any], ...],
) -> list[Any]:
    """Make the calls of a batch, in the session of the running code, and show how far they are."""
    batch = _Batch(name, calls, return_exceptions, limit)
    coordinator: Coordinator = current.get().coordinator
    view = coordinator.view
    if label is None and view is None:
        return await batch.run()
    total = count_calls(iterables)
    if label is None:
        batch.count = count = BatchCount(name, total, limit)
    else:
        batch.count = count = BatchProgress(label, total, limit, coordinator.log, coordinator.clock, view is not None)
    if view is not None:
        view.add(count)
    try:
        return await batch.run()
    finally:
        if view is not None:
            view.discard(count)
        count.end()


async def gather_calls(calls: Sequence[_Call]) -> list[Any]:
    """Make several calls concurrently, inside a session.

    Returns:
        Their results, in their order; an exception takes the place of the result of a call that raised one.

    Cancellation: all calls are cancelled.
    """
    name = calls[0][0].name if calls else ""
    batch = _Batch(name, iter(calls), return_exceptions=True, limit=None)
    return [await batch.run_single(*calls[0])] if len(calls) == 1 else await batch.run()


class _Batch:
    """Workers that take their calls from one iterator. ``name`` is that of the node, for people.

    A worker that begins a call while no other worker is about to begin one starts some more. So there are as many
    workers as there are calls that wait, plus a few: calls that never wait do not cost a task each, and calls that do
    wait have all begun within a few turns of the event loop.
    """

    MAX_BURST = 64
    """The greatest number of workers that are started at once; the number doubles each time."""

    def __init__(self, name: str, calls: Iterator[_Call], return_exceptions: bool, limit: int | None) -> None:
        self._name = name
        self._calls = calls
        self._return_exceptions = return_exceptions
        self._free_slots: float = math.inf if limit is None else limit  # workers that may still be started
        self._burst = 1
        self._pending_workers = 0  # workers that were started and have not begun
        self.count: BatchCount | None = None  # set by who wants to show it
        self._paused_workers = 0  # workers that let the event loop make a turn before their next call
        self._frame: Frame = current.get()
        self._coordinator = self._frame.coordinator
        check_event_loop(name, self._coordinator)
        task = self._coordinator.loop.task_here
        inside = self._frame.run is not None and self._frame.task is task
        if inside:
            self._coordinator.raise_lost_cancellation(name, self._frame, task)
        else:
            raise_lost_cancellation(self._coordinator, task, self._frame.run is None)
        # Without a task no call can begin, and each says why.
        has_branch = not inside and self._frame.run is not None and task is not None
        branch = self._coordinator.branches.of_task(task, self._frame.record) if has_branch else ()
        self._branch = *branch, -self._coordinator.branches.new()
        self._run = self._frame.run if inside else None  # None: each call enters its task with a scope of its own
        self._results: list[Any] = []
        self._error: BaseException | None = None
        self._cancellation: BaseException | None = None  # the first one that reached a worker
        self._has_all = False  # the iterator has ended
        self._unrecorded: list[tuple[str, BaseException]] = []  # those that may be on record, with the node's name
        self._unfilled = 0  # places whose calls have not ended
        # With a limit a call begins because another has ended, so the end of that is on disk by then. Without one no
        # call depends on another: each goes to disk as soon as it has ended, and all before their results are seen.
        self._waits_for_disk = limit is not None
        recorder = self._coordinator.recorder
        self._must_commit = limit is None and recorder is not None and recorder.is_synchronous
        self._has_uncommitted = False
        self._is_committing = False
        self._pending_committer: Any = None  # the task that commits, until it begins

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
            if self._pending_committer is not None:
                self._pending_committer.coro.close()
        await self._coordinator.wait_committed()
        if self._error is not None:
            raise self._error
        if self._unfilled or not self._has_all:
            # A cancellation that the task group has lost: on asyncio anyio may count the native cancellation of a
            # worker as its own (tests/test_anyio_faults.py). Code that was cancelled must not go on with half a batch.
            await checkpoint_if_cancelled()
            raise self._cancellation or anyio.get_cancelled_exc_class()()
        if self._unrecorded:
            self._log_unrecorded()
        return self._results

    async def run_single(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make one call, in the caller's task: starting another task would take longer than most calls."""
        result = await self._call_one(node, args, kwargs, pauses=True)
        await self._coordinator.wait_committed()
        if self._unrecorded:
            self._log_unrecorded()
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
            while True:
                if self._coordinator.must_pause:  # before the call is known: they are created in the order of the items
                    self._paused_workers += 1
                    try:
                        await self._coordinator.pause(self._name, self._frame)
                    finally:
                        self._paused_workers -= 1
                call = next(self._calls, None)
                if call is None:
                    break
                # One that has paused goes on in the next turn. Were more started in its place, there would be more of
                # them in each turn, and the turns would take ever longer.
                if not self._pending_workers and not self._paused_workers and self._free_slots:
                    self._start_workers()
                index = len(results)
                results.append(None)
                self._unfilled += 1
                results[index] = await self._call_one(*call, pauses=False)
                self._unfilled -= 1
                if self._must_commit:
                    self._commit_soon()
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

    def _commit_soon(self) -> None:
        """Have what has ended put on disk, without waiting for it."""
        self._has_uncommitted = True
        if not self._is_committing:
            self._is_committing = True
            self._pending_committer = self._group.start_soon(self._commit)

    async def _commit(self) -> None:
        self._pending_committer = None
        try:
            while self._has_uncommitted:
                self._has_uncommitted = False
                await self._coordinator.wait_committed()
        except Exception as exc:  # the session ends, as nothing can be recorded; a task group would wrap it
            self._error = exc if self._error is None else self._error
            self._group.cancel_scope.cancel()
        self._is_committing = False

    async def _call_one(
        self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], pauses: bool
    ) -> Any:
        branch = *self._branch, self._coordinator.branches.new()  # a call that fails says nothing about the others
        try:
            if self._run is None:
                result = await enter(node, args, kwargs, self._frame, self._waits_for_disk, branch, pauses)
            else:
                task = self._coordinator.loop.current_task()
                result = await self._coordinator.run(
                    node, args, kwargs, self._frame, self._run, task, self._waits_for_disk, branch, pauses
                )
        except Exception as exc:
            self._show_end(has_failed=True)
            if not self._return_exceptions:
                raise
            if is_kind(exc, SessionError):
                self._unrecorded.append((node.name, exc))
            return exc
        except anyio.get_cancelled_exc_class() as exc:
            if not is_stray_cancellation(exc):
                raise
            # This task was not cancelled: the node awaited something of its own that was. If the exception left the
            # task, the group would take it for its own cancellation.
            self._show_end(has_failed=True)
            if not self._return_exceptions:
                self._error = exc if self._error is None else self._error
                self._group.cancel_scope.cancel()
            else:
                self._unrecorded.append((node.name, exc))
            return exc
        self._show_end(has_failed=False)
        return result

    def _show_end(self, has_failed: bool) -> None:
        if self.count is not None:
            self.count.advance(has_failed)

    def _log_unrecorded(self) -> None:
        """Warn of exceptions returned in place of results, unless they are failures on record: those are logged.

        They may be refusals of calls, or the end of their session, or cancellations of what nodes awaited.
        """
        recorded = {id(each.exception) for each in self._coordinator.state.entries if each is not None}
        for name, exc in self._unrecorded:
            if id(exc) not in recorded:
                self._coordinator.log.log(
                    logging.WARNING, "rt.call_batch returns %r in place of a result of %s", exc, name,
                    run_id=self._frame.run_id, node_id=self._frame.node_id,
                )  # fmt: skip
