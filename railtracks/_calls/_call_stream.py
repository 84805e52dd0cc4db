"""``call_stream``: many calls at once, whose results are consumed while others run.

The calls run in tasks of the session, beside the consumer, and not in a task group around its loop: a task group would
cancel the consumer when a call fails, and wrap what the loop raises.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from inspect import isgenerator
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, final, overload

import anyio

from railtracks._calls._batch import KeepRecords, Shown, calls_of, check_keep, check_limit
from railtracks._calls._batch_progress import check_label
from railtracks._calls._stream_workers import StreamOptions, StreamWorkers
from railtracks._calls._workers import Call, CallSource, Items
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._task_stream import TaskStream
from railtracks._context_variable import current
from railtracks.exceptions import ContextError, SessionEndedError, SessionError
from railtracks.execution import Frame, split_cancellation
from railtracks.execution._entering import check_can_call
from railtracks.execution._lifecycle import Operation
from railtracks.execution._streams import OpenStreams
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._node import RunnableFlow
from railtracks.nodes._resolve import as_node
from railtracks.pubsub import callback_of

if TYPE_CHECKING:
    from railtracks.execution._batch_keeper import BatchKeeper  # loaded by few programs

T = TypeVar("T")
DEFAULT_LIMIT = 100


@overload
def call_stream(
    node: Callable[..., Node[T]],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T]: ...
@overload
def call_stream(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T]: ...
@overload
def call_stream(
    node: Callable[..., Node[T]],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: bool,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T | BaseException]: ...
@overload
def call_stream(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: bool,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T | BaseException]: ...
@overload
def call_stream(
    node: Callable[..., T],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T]: ...
@overload
def call_stream(
    node: Callable[..., T],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: bool,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T | BaseException]: ...
@overload
def call_stream(
    node: RunnableFlow[..., T],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: Literal[False] = False,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T]: ...
@overload
def call_stream(
    node: RunnableFlow[..., T],
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: bool,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[T | BaseException]: ...
def call_stream(
    node: Any,
    /,
    *iterables: Items,
    limit: int | None = None,
    ordered: bool = True,
    return_exceptions: bool = False,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> CallStream[Any]:
    """Call ``node`` once for each tuple of ``zip(*iterables)``, concurrently, and iterate over the results.

    ::

        async with rt.call_stream(fetch, addresses, limit=20) as results:
            async for result in results:
                ...

    The memory that it takes depends on ``limit``, and not on the number of items, which may never end. Records of the
    calls do take memory, unless ``keep_records`` says that they are dropped. ``limit`` bounds the calls that run
    together with the results that wait for the consumer. So a consumer that is slow slows down the calls, and with
    ``ordered`` a call that is slow holds up those that are ``limit`` places behind it. An item is read when its call
    begins.

    The calls begin when the first result is asked for. Leaving the loop drops the stream, and that cancels the calls
    which run. If something else refers to the stream, such as a variable, write ``async with``; that also waits until
    the calls have ended and generators among the iterables are closed. In any case the calls are cancelled when
    the call that opened the stream ends. Results that were not consumed are on record all the same.

    Args:
        node: As for ``call``.
        *iterables: As for ``call_batch``: one for each argument, also async ones; the shortest ends the stream.
        limit: The greatest number of calls that run, or whose results wait; None for 100.
        ordered: True: the results come in the order of the items. False: each comes as soon as its call has ended.
        return_exceptions: False: the first exception cancels the other calls, and is raised, as the same object, after
            the results that were ready. True: an exception takes the place of the result of the call that raised it.
            Unlike that of ``call_batch`` the default is False: a loop handles one result after the other, and would
            take an exception among them for a result.
        progress: As for ``call_batch``.
        keep_records: As for ``call_batch``: "all", "failures" or "summary". In a run that is resumed, there is no
            result of items that had completed in a stream that does not keep all records, also if it had not been
            consumed: do in the node what must not be lost. A stream that was left is gone on with. In the body of a
            session such a stream is one top-level call, which only the ``budget`` ends.

    Raises:
        TypeError: There is no iterable, or one of the arguments cannot be iterated. This and the next two are raised at
            once, everything else when a result is asked for.
        ValueError: ``limit`` is not None or an integer of at least 1, ``progress`` is not a text of one line, or
            ``keep_records`` is not one of these.
        NodeCreationError: ``node`` cannot be called; the text shows what to write.
        ContextError: There is no session.
        SessionError: The session was entered with a plain ``with`` in async code and has no nursery; or the current
            event loop is not the session's; or the stream is opened where the session would not wait for its consumer:
            in a subscriber's callback, or outside of calls once the session's body has ended.
        SessionEndedError: The session ended the calls.
        StateError: The items of a stream that is resumed are not those that had completed.
        Exception: As ``call``, and what the iterables raise, after the results that were ready.

    Cancellation: Cancelling the consumer ends its loop, and so cancels the calls. One that ends only the wait for a
    result, such as a timeout around it, loses no result.
    """
    if not iterables:
        raise TypeError(
            "rt.call_stream() needs an iterable for each argument of the node; write `rt.call_stream(node, items)`"
        )
    check_limit(limit, "rt.call_stream")
    check_label(progress, "rt.call_stream")
    node = as_node(node, "rt.call_stream")
    check_keep(keep_records, "rt.call_stream")
    calls = calls_of(node, iterables, "rt.call_stream")
    options = StreamOptions(limit or DEFAULT_LIMIT, ordered, return_exceptions, progress, keep_records)
    return CallStream(_Producer(node, calls, options, iterables))


@final
class CallStream(TaskStream[T]):
    """The results of many calls, for one task to consume; made by ``rt.call_stream``."""

    _producer: _Producer

    if not TYPE_CHECKING:  # type checkers say so by themselves

        def __await__(self) -> NoReturn:
            raise TypeError(
                "rt.call_stream(...) cannot be awaited, as its results come one after the other; write "
                "`async for result in rt.call_stream(...):`, or `await rt.call_batch(...)` for a list"
            )

    async def __anext__(self) -> T:
        producer = self._producer
        workers = producer.workers
        if workers is not None and workers.ready and not producer.is_exhausted:
            # As `next` does, without the cost of another call.
            return workers.take()  # type: ignore[no-any-return]
        return await super().__anext__()


class _Producer:
    """The calls. It does not refer to the ``CallStream``, so that dropping that while they run cancels them."""

    def __init__(
        self,
        node: FunctionNode[..., Any],
        calls: Iterator[Call] | CallSource,
        options: StreamOptions,
        iterables: tuple[Items, ...],
    ) -> None:
        self._node, self._calls, self._options, self._iterables = node, calls, options, iterables
        self._scope: anyio.CancelScope | None = None  # set once the calls have begun
        self._error: BaseException | None = None  # raised once the results before it were consumed
        self._is_complete = False  # all calls have ended
        self._changed = Condition()  # notified when there are results, or will be none
        self.workers: StreamWorkers | None = None  # set once they are there
        self.is_exhausted = False  # nothing more can be consumed, or is wanted
        self.has_ended = False

    @property
    def _name(self) -> str:
        return f"rt.call_stream({self._node.name}, ...)"

    def start(self) -> None:
        """Begin the calls, nested in the current one.

        Raises: See ``call_stream``.
        """
        name = self._name
        frame: Frame | None = current.get()
        if frame is None:
            raise ContextError(
                f"{name} needs a session for its calls; write `async with rt.Session():` around the loop"
            )
        coordinator = frame.coordinator
        check_can_call(self._node, frame)
        coordinator.lifecycle.require(Operation.STREAM, name)
        nursery = coordinator.nursery
        if nursery is None:
            raise SessionError(
                f"{name} needs a session with a nursery; enter it with `async with rt.Session():`, or use rt.call_batch"
            )
        is_callback = callback_of.get() is coordinator.publisher
        if frame.record is None and (coordinator.lifecycle.has_body_ended or is_callback):
            where = "in a subscriber's callback" if is_callback else "after the session's body had ended"
            raise SessionError(
                f"{name} was started {where}, where the session does not wait for its consumer; use it in a node"
            )
        self.ended = anyio.Event()
        if frame.run is not None:
            frame.run.has_streamed = True
        self._scope = anyio.CancelScope()
        cancel = self._scope.cancel
        run: Callable[[], Awaitable[None]]
        if self._options.keep_records == "all":
            self.workers = StreamWorkers(self._node.name, self._calls, self._options, self._changed)
            run = partial(self._run_nested, frame)
        else:
            run = partial(self._run_as_batch, self._branch_of(frame))
        streams = coordinator.streams = coordinator.streams or OpenStreams()
        streams.add(cancel, frame.run, frame.record)
        nursery.spawn(partial(self._run, run), partial(self._end, streams, cancel))

    @staticmethod
    def _branch_of(frame: Frame) -> tuple[int, ...]:
        """Return the task that the consumer runs in; see ``enter``."""
        coordinator = frame.coordinator
        task = coordinator.loop.task_here
        is_own = coordinator.is_body(task) if frame.run is None else frame.task is task
        return () if is_own or task is None else coordinator.branches.of_task(task, frame.record)

    async def _run_nested(self, frame: Frame) -> None:
        """Make the calls in a scope below the top-level call that they belong to, if there is one."""
        assert self.workers is not None
        if frame.run is None:
            await self._run_workers(self.workers)
            return
        coordinator = frame.coordinator
        scope = coordinator.scopes.add(frame.run, frame.record, coordinator.loop.current_task())
        try:
            with scope.cancel_scope:
                await self._run_workers(self.workers)
        finally:
            coordinator.scopes.remove(frame.run, scope)

    async def _run_as_batch(self, branch: tuple[int, ...]) -> None:
        """Make the calls in a call that stands for all of them."""
        from railtracks._calls._kept_batch import call_as_batch  # here, as few programs need it

        async def run(keeper: BatchKeeper) -> None:
            self.workers = StreamWorkers(self._node.name, self._calls, self._options, self._changed, keeper)
            await self._run_workers(self.workers)

        keep_records = self._options.keep_records
        assert keep_records != "all"
        await call_as_batch(self._node, keep_records, self._options.return_exceptions, run, branch)

    async def _run_workers(self, workers: StreamWorkers) -> None:
        options = self._options
        try:
            with Shown(workers, self._node.name, options.limit, options.label, self._iterables):
                await workers.run()
        except BaseException:
            if (error := self._close_generators()) is not None:
                current.get().coordinator.log.log(
                    logging.WARNING, "a generator of %s raised %r when it was closed", self._name, error, exc_info=error
                )
            raise
        if (error := self._close_generators()) is not None:
            raise error

    def _close_generators(self) -> Exception | None:
        """Close the generators among the iterables, of which no more is wanted. Return the first error of one.

        Who opened the stream may still refer to them, and the garbage collector close them much later, anywhere.
        """
        error: Exception | None = None
        for each in self._iterables:
            if isgenerator(each) and not each.gi_running:  # one that cancels its own stream runs
                try:
                    each.close()
                except Exception as exc:
                    error = error or exc
        return error

    async def _run(self, run: Callable[[], Awaitable[None]]) -> None:
        assert self._scope is not None
        try:
            with self._scope:
                await run()
                self._is_complete = True
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            if cancellation is not None and not is_stray_cancellation(cancellation):
                self._error = error
                raise cancellation from None
            error = error or cancellation
            if is_kind(error, (KeyboardInterrupt, SystemExit)):  # which the session handles
                raise error from None
            self._error = error

    def _end(self, streams: OpenStreams, cancel: Callable[[], object]) -> None:
        """Note that the task has ended. It may have been cancelled before its first step."""
        self.has_ended = True
        self.ended.set()
        self._changed.notify_all()
        streams.discard(cancel)

    @property
    def _is_ready(self) -> bool:
        return self.workers is not None and bool(self.workers.ready)

    async def next(self) -> Any:
        """Return the next result, or raise the error of the stream, once, or StopAsyncIteration."""
        if not self.is_exhausted:
            await self._changed.wait_while(lambda: not (self._is_ready or self.has_ended or self.is_exhausted))
            if self.workers is not None and self._is_ready and not self.is_exhausted:
                return self.workers.take()
            await self.ended.wait()
        error, self._error = self._error, None
        is_complete, self.is_exhausted = self.is_exhausted or self._is_complete, True
        if is_kind(error, (StopAsyncIteration, StopIteration)):  # it would look like the end of the stream
            raise RuntimeError(f"a call of {self._node.name} raised {type(error).__name__}") from error
        if error is not None:
            raise error
        if not is_complete:
            raise SessionEndedError(
                f"the calls of {self._node.name} were cancelled by their session, and their stream ended"
            )
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Cancel the calls: no more results will be consumed."""
        self.is_exhausted = True
        self._changed.notify_all()
        if self._scope is not None:
            self._scope.cancel()
