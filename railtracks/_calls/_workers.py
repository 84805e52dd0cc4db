"""Workers that make many calls at once, for ``call_batch`` and ``call_stream``."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._context_variable import current
from railtracks._progress._batch_count import BatchCount
from railtracks.exceptions import SessionError
from railtracks.execution import Frame, find_interrupt, split_cancellation
from railtracks.execution._entering import check_event_loop, enter, raise_lost_cancellation
from railtracks.nodes import FunctionNode
from railtracks.state._records import not_kept

if TYPE_CHECKING:
    from railtracks.execution._batch_keeper import BatchKeeper  # loaded by few programs

Call = tuple[FunctionNode[..., Any], tuple[Any, ...], Mapping[str, Any]]
Items = Iterable[Any] | AsyncIterable[Any]
"""What the arguments of the calls come from."""
NO_KWARGS: Mapping[str, Any] = {}


class CallSource(Protocol):
    """Calls that have to be waited for, in a task of their own that reads them."""

    @property
    def has_all(self) -> bool:
        """Whether all have been read."""

    async def read(self) -> None:
        """Read them, as they are wanted."""

    async def next(self) -> Call | None:
        """Return the next one; None at the end."""


MAX_UNRECORDED = 20
"""The number of exceptions of which it is remembered that they may not be on record."""


class CallWorkers:
    """Workers that take their calls from one iterator. ``name`` is that of the node, for people.

    With a ``keeper`` they run in the call that stands for the batch, of which few records are kept.

    A worker that begins a call while no other worker is about to begin one starts some more. So there are as many
    workers as there are calls that wait, plus a few: calls that never wait do not cost a task each, and calls that do
    wait have all begun within a few turns of the event loop.
    """

    CALLER = "rt.call_batch"
    """What the workers work for."""
    MAX_BURST = 64
    """The greatest number of workers that are started at once; the number doubles each time."""
    ENOUGH = 32
    """The number of calls that have waited and ended between two starts of workers, from which no more are needed."""

    def __init__(
        self,
        name: str,
        calls: Iterator[Call] | CallSource,
        return_exceptions: bool,
        limit: int | None,
        keeper: BatchKeeper | None = None,
    ) -> None:
        self._name = name
        self._keeper = keeper
        self._position = 0  # of the next item
        self._source: CallSource | None = None if isinstance(calls, Iterator) else calls
        self._calls: Iterator[Call] = cast("Iterator[Call]", calls)  # used if there is no `_source`
        self._return_exceptions = return_exceptions
        self._room: float = math.inf  # calls that may still begin
        self._free_slots: float = math.inf if limit is None else limit  # workers that may still be started
        self._burst = 1
        self._pending_workers = 0  # workers that were started and have not begun
        self.count: BatchCount | None = None  # set by who wants to show it
        self._paused_workers = 0  # workers that let the event loop make a turn before their next call
        self._latest: object = None  # the worker that was the last to begin a call
        self._returned = 0  # calls that have waited and ended since workers were started
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
        self._failed: anyio.CancelScope | None = None  # that of all calls, if one of them has failed
        self._cancellation: BaseException | None = None  # the first one that reached a worker
        self._has_all = False  # the iterator has ended
        self._unrecorded: list[tuple[str, BaseException]] = []  # those that may be on record, with the node's name
        self._unrecorded_count = 0
        self._begun = 0  # calls that have begun
        self._ended = 0  # calls whose outcome is known
        # With a limit a call begins because another has ended, so the end of that is on disk by then. Without one no
        # call depends on another: each goes to disk as soon as it has ended, and all before their results are seen.
        self._waits_for_disk = limit is not None
        recorder = self._coordinator.recorder
        self._must_commit = limit is None and recorder is not None and recorder.is_synchronous
        self._has_uncommitted = False
        self._is_committing = False
        self._pending_committer: Any = None  # the task that commits, until it begins

    async def run(self) -> list[Any]:
        """Make all calls, and return their results, in the order of the calls."""
        try:
            async with anyio.create_task_group() as self._group:
                if self._source is not None:
                    self._group.start_soon(self._source.read)
                self._start_workers()
        except BaseExceptionGroup as group:
            interrupt = find_interrupt(group)  # trio may deliver Ctrl-C to the task group
            if interrupt is None:
                raise
            raise interrupt from None
        finally:
            if self._failed is not None:
                self._coordinator.scopes.failed_batches.discard(self._failed)
            if self._pending_workers:  # asyncio cancelled them before their first step, all of the latest burst
                for worker in self._started:
                    worker.coro.close()  # or Python would warn that it was never awaited
            if self._pending_committer is not None:
                self._pending_committer.coro.close()
        await self._coordinator.wait_committed()
        if self._error is not None:
            raise self._error
        if self._ended < self._begun or not self._has_all:
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

    def _put(self, index: int, result: Any) -> None:
        """Take the outcome of a call that has ended. ``index``: its place among the calls."""
        results = self._results
        while len(results) <= index:  # others that have begun before it
            results.append(None)
        results[index] = result

    def _skip(self) -> None:
        """Take note of an item that has completed in an earlier attempt."""
        self._put(self._begun, not_kept)
        self._begun += 1
        self._ended += 1
        self._show_end(has_failed=False)

    async def _wait_for_room(self) -> bool:
        """Wait until another call may begin. Return whether to go on; if not, other workers do.

        Only for classes that bound ``_room``: in a batch there always is some.
        """
        raise NotImplementedError

    async def _next_of(self, source: CallSource) -> Call | None:
        """Return the next call of a source that may have to be waited for; None at its end."""
        self._paused_workers += 1  # no other worker is needed before this one has its call
        try:
            return await source.next()
        finally:
            self._paused_workers -= 1

    def _start_workers(self) -> None:
        count = int(min(self._burst, self._free_slots))
        self._started = [self._group.start_soon(self._work) for _ in range(count)]
        self._free_slots -= count
        self._pending_workers += count
        # If many calls have waited and ended since, the workers suffice, and a task costs more than a call. One is
        # started all the same: the calls that run may all wait for one that has not begun.
        self._burst = min(2 * self._burst, self.MAX_BURST) if self._returned < self.ENOUGH else 1
        self._returned = 0

    async def _work(self) -> int:
        """Make calls until none is left. Return how many; the test harness reads ``taken`` meanwhile as well."""
        taken = 0
        self._pending_workers -= 1
        put, keeper = self._put, self._keeper
        frame: Frame | None = self._frame
        slot = self._frame if keeper is None else keeper.slot()
        coordinator, run, worker = self._coordinator, self._run, object()
        task = None if run is None else coordinator.loop.current_task()
        try:
            while True:
                # If another worker has begun a call since, this one has waited, and the event loop has made a turn.
                has_waited = self._latest is not worker
                self._latest = worker
                if has_waited and taken:
                    self._returned += 1
                # Before the call is known: they are created in the order of the items.
                if coordinator.must_wait if has_waited else coordinator.must_pause:
                    self._paused_workers += 1
                    try:
                        await coordinator.pause(self._name, self._frame)
                    finally:
                        self._paused_workers -= 1
                if not self._room:
                    if await self._wait_for_room():
                        continue
                    return taken
                self._room -= 1
                call = next(self._calls, None) if self._source is None else await self._next_of(self._source)
                if call is None:
                    break
                taken += 1
                if keeper is not None:
                    position, self._position = self._position, self._position + 1
                    frame = keeper.begin(slot, position, call[1])
                    if frame is None:
                        self._room += 1
                        self._skip()
                        continue
                # One that has paused goes on in the next turn. Were more started in its place, there would be more of
                # them in each turn, and the turns would take ever longer.
                if not self._pending_workers and not self._paused_workers and self._free_slots and self._room:
                    self._start_workers()
                index = self._begun
                self._begun = index + 1
                if run is not None and keeper is None:  # as `_call_one`, without the cost of another call
                    branch = *self._branch, coordinator.branches.new()
                    try:
                        result = await coordinator.run(
                            *call, self._frame, run, task, self._waits_for_disk, branch, pauses=False
                        )
                    except BaseException as exc:
                        if not self._takes_place_of_result(exc, call[0]):
                            raise
                        result = exc
                    else:
                        if self.count is not None:
                            self.count.advance(has_failed=False)
                elif keeper is None:
                    result = await self._call_one(*call, pauses=False, task=task)
                else:
                    result = await self._call_item(keeper, slot, frame, call, task)
                put(index, result)
                result = None  # or an exception and the frame of this function would refer to each other
                self._ended += 1
                if self._must_commit:
                    self._commit_soon()
            self._has_all = self._source is None or self._source.has_all
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            if self._cancellation is None:
                self._cancellation = cancellation
            if error is not None:
                if self._error is None or not is_kind(error, Exception):  # Ctrl-C wins over what it caused
                    self._error = error
                self._cancel_others(error)
            if cancellation is not None:
                raise cancellation from None
        return taken

    def _cancel_others(self, error: BaseException) -> None:
        """Cancel the calls that run, because one has failed, or Ctrl-C has come."""
        scope = self._group.cancel_scope
        if not scope.cancel_called and not is_kind(error, KeyboardInterrupt):
            self._failed = scope
            self._coordinator.scopes.failed_batches.add(scope)
        scope.cancel()

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
        self,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        pauses: bool,
        frame: Frame | None = None,
        task: object = None,
    ) -> Any:
        frame = frame or self._frame
        commits = self._waits_for_disk and (self._keeper is None or frame is self._frame)
        branch = *self._branch, self._coordinator.branches.new()  # a call that fails says nothing about the others
        try:
            if self._run is None:
                result = await enter(node, args, kwargs, frame, self._waits_for_disk, branch, pauses)
            else:
                task = task or self._coordinator.loop.current_task()
                result = await self._coordinator.run(
                    node, args, kwargs, frame, self._run, task, commits, branch, pauses
                )
        except BaseException as exc:
            if not self._takes_place_of_result(exc, node):
                raise
            return exc
        if self.count is not None:
            self.count.advance(has_failed=False)
        return result

    def _takes_place_of_result(self, exc: BaseException, node: FunctionNode[..., Any]) -> bool:
        """Return whether an exception of a call of ``node`` takes the place of its result. Otherwise it is raised."""
        if is_kind(exc, Exception):
            self._show_end(has_failed=True)
            if not self._return_exceptions:
                return False
            if is_kind(exc, SessionError):
                self._note_unrecorded(node.name, exc)
            return True
        if not is_stray_cancellation(exc) or not is_kind(exc, anyio.get_cancelled_exc_class()):
            return False
        # This task was not cancelled: the node awaited something of its own that was. If the exception left the task,
        # the group would take it for its own cancellation.
        self._show_end(has_failed=True)
        if not self._return_exceptions:
            self._error = exc if self._error is None else self._error
            self._cancel_others(exc)
        else:
            self._note_unrecorded(node.name, exc)
        return True

    async def _call_item(self, keeper: BatchKeeper, slot: Frame, frame: Frame | None, call: Call, task: object) -> Any:
        """Make the call of an item. Its node may be called several times, if it is tried again."""
        try:
            result = await self._call_one(*call, pauses=False, frame=frame, task=task)
        finally:
            if frame is slot:
                keeper.end(slot)
        if frame is not slot:
            keeper.note_kept(has_failed=self._return_exceptions and is_kind(result, BaseException))
        elif self._waits_for_disk:
            await self._coordinator.wait_committed()
        return result

    def _show_end(self, has_failed: bool) -> None:
        if self.count is not None:
            self.count.advance(has_failed)

    def _note_unrecorded(self, name: str, exc: BaseException) -> None:
        self._unrecorded_count += 1
        if len(self._unrecorded) < MAX_UNRECORDED:
            self._unrecorded.append((name, exc))

    def _log_unrecorded(self) -> None:
        """Warn of exceptions returned in place of results, unless they are failures on record: those are logged.

        They may be refusals of calls, or the end of their session, or cancellations of what nodes awaited.
        """
        recorded = {id(each.exception) for each in self._coordinator.state.entries if each is not None}
        ids = {"run_id": self._frame.run_id, "node_id": self._frame.node_id}
        log = self._coordinator.log
        for name, exc in self._unrecorded:
            if id(exc) not in recorded:
                log.log(logging.WARNING, "%s returns %r in place of a result of %s", self.CALLER, exc, name, **ids)
        others = self._unrecorded_count - len(self._unrecorded)
        if others:
            log.log(logging.WARNING, "%s returns %d more exceptions of this kind", self.CALLER, others, **ids)
