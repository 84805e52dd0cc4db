"""``call_batch``: several calls at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from railtracks._calls._batch_progress import BatchProgress, check_label, count_calls
from railtracks._calls._lost_context import warn_of_lost_context
from railtracks._calls._workers import NO_KWARGS, Call, CallSource, CallWorkers, Items
from railtracks._context_variable import current
from railtracks._progress._batch_count import BatchCount
from railtracks._session._session import implicit_session
from railtracks.execution import Coordinator
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._node import RunnableFlow
from railtracks.nodes._resolve import as_node
from railtracks.state._records import not_kept

if TYPE_CHECKING:
    from railtracks.execution._batch_keeper import BatchKeeper  # loaded by few programs

T = TypeVar("T")
KeepRecords = Literal["all", "failures", "summary"]
_KEPT = ("all", "failures", "summary")


@overload
async def call_batch(
    node: Callable[..., Node[T]],
    /,
    *iterables: Items,
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Items,
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., Node[T]],
    /,
    *iterables: Items,
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: Callable[..., Awaitable[T]],
    /,
    *iterables: Items,
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: Callable[..., T],
    /,
    *iterables: Items,
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T]: ...
@overload
async def call_batch(
    node: Callable[..., T],
    /,
    *iterables: Items,
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T | BaseException]: ...
@overload
async def call_batch(
    node: RunnableFlow[..., T],
    /,
    *iterables: Items,
    return_exceptions: Literal[False],
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T]: ...
@overload
async def call_batch(
    node: RunnableFlow[..., T],
    /,
    *iterables: Items,
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[T | BaseException]: ...
async def call_batch(
    node: Any,
    /,
    *iterables: Items,
    return_exceptions: bool = True,
    limit: int | None = None,
    progress: str | None = None,
    keep_records: KeepRecords = "all",
) -> list[Any]:
    """Call ``node`` once for each tuple of ``zip(*iterables)``, concurrently, and return all results.

    For very many items, or items that never end, use ``call_stream``.

    Args:
        node: As for ``call``.
        *iterables: One for each argument, also async ones; the shortest ends the batch. They are read as the calls
            begin, the async ones in a task of their own, in which they are closed in the end if they are generators.
        return_exceptions: True: an exception takes the place of the result of the call that raised it. False: the
            first exception cancels the other calls and is raised as the same object.
        limit: The greatest number of calls that run at once; None for no limit.
        progress: What the batch does, such as "parsing", to show how many calls have ended: in one line of standard
            error if that is a terminal, or else by log records, every ten seconds and at the end.
        keep_records: Which calls stay on record. "all"; "failures": those that did not complete, with all below them;
            "summary": none, but for counts, times and the first ten failures. Unless it is "all", a call of its own
            stands for the batch; calls stay on record, too, if one of an item has changed the context; and nothing
            in an item can wait for messages. When the run is resumed, items that had completed are not done again,
            as far as they are the same and in the same order.

    Returns:
        The results, in the order of the arguments. In a run that is resumed ``rt.state.not_kept`` stands in place of
        those that are not on record.

    Raises:
        TypeError: there is no iterable, or one of the arguments cannot be iterated.
        ValueError: ``limit`` is not None or an integer of at least 1, ``progress`` is not a text of one line, or
            ``keep_records`` is not one of these.
        StateError: the items of a batch that is resumed are not those that had completed.
        SessionError: it was called in another event loop than its session's.
        Exception: as ``call``, and what the iterables raise.

    Cancellation: all calls are cancelled.
    """
    if not iterables:
        raise TypeError(
            "rt.call_batch() needs an iterable for each argument of the node; write `rt.call_batch(node, items)`"
        )
    check_limit(limit, "rt.call_batch")
    check_label(progress)
    check_keep(keep_records, "rt.call_batch")
    node = as_node(node, "rt.call_batch")
    calls = calls_of(node, iterables, "rt.call_batch")
    run = partial(_run, node, calls, return_exceptions, limit, progress, iterables, keep_records)
    if current.get() is None:
        warn_of_lost_context(f"rt.call_batch({node.name}, ...)", stack_level=1, in_loop=True)
        async with implicit_session():
            return await run()
    return await run()


async def _run(
    node: FunctionNode[..., Any],
    calls: Iterator[Call] | CallSource,
    return_exceptions: bool,
    limit: int | None,
    label: str | None,
    iterables: tuple[Items, ...],
    keep_records: KeepRecords,
) -> list[Any]:
    """Make the calls of a batch, in the session of the running code, and show how far they are."""
    results: list[Any] = []

    async def run(keeper: BatchKeeper | None = None) -> None:
        nonlocal results
        batch = CallWorkers(node.name, calls, return_exceptions, limit, keeper)
        with Shown(batch, node.name, limit, label, iterables):
            results = await batch.run()

    if keep_records == "all":
        await run()
        return results
    from railtracks._calls._kept_batch import call_as_batch  # here, as few programs need it

    count = await call_as_batch(node, keep_records, return_exceptions, run)
    return results if count is None else [not_kept] * count


def check_keep(keep_records: object, caller: str) -> None:
    """Check the argument ``keep_records`` of ``caller``.

    Raises:
        ValueError: it is not one of those that there are.
    """
    if keep_records not in _KEPT:
        raise ValueError(f"{caller}: keep_records must be 'all', 'failures' or 'summary', not {keep_records!r}")


def check_limit(limit: object, caller: str) -> None:
    """Check the argument ``limit`` of ``caller``.

    Raises:
        ValueError: it is not None or an integer of at least 1.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValueError(f"{caller}: limit must be an integer of at least 1, or None for no limit, not {limit!r}")


def calls_of(node: FunctionNode[..., Any], iterables: tuple[Items, ...], caller: str) -> Iterator[Call] | CallSource:
    """Return the calls of a node for each tuple of ``zip(*iterables)``, which is read as they are taken.

    Raises:
        TypeError: one of the arguments of ``caller`` cannot be iterated.
    """
    for place, each in enumerate(iterables, 1):
        if not any(hasattr(each, name) for name in ("__iter__", "__aiter__", "__getitem__")):
            raise TypeError(
                f"{caller}({node.name}, ...): argument {place} after the node is of type {type(each).__name__}, and "
                f"cannot be iterated; write itertools.repeat(value) for a value that all calls get, and range(count) "
                f"for a number of calls"
            )
    if any(not hasattr(each, "__iter__") and hasattr(each, "__aiter__") for each in iterables):
        from railtracks._calls._async_items import AsyncCalls  # here, as few programs need it

        return AsyncCalls(node, iterables)
    return ((node, args, NO_KWARGS) for args in zip(*iterables, strict=False))


class Shown:
    """Show how far a batch is, meanwhile, if its session is shown or it has a label.

    This is not a generator, because ``contextlib`` would set the traceback of an exception, which may be frozen.
    """

    def __init__(
        self, batch: CallWorkers, name: str, limit: int | None, label: str | None, iterables: tuple[Items, ...]
    ) -> None:
        coordinator: Coordinator = current.get().coordinator
        self._view = view = coordinator.view
        self._count: BatchCount | None = None
        if label is None and view is None:
            return
        total = count_calls(iterables)
        if label is None:
            self._count = BatchCount(name, total, limit)
        else:
            self._count = BatchProgress(label, total, limit, coordinator.log, coordinator.clock, view is not None)
        batch.count = self._count
        if view is not None:
            view.add(self._count)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._count is not None:
            if self._view is not None:
                self._view.discard(self._count)
            self._count.end()


async def gather_calls(calls: Sequence[Call]) -> list[Any]:
    """Make several calls concurrently, inside a session.

    Returns:
        Their results, in their order; an exception takes the place of the result of a call that raised one.

    Cancellation: all calls are cancelled.
    """
    name = calls[0][0].name if calls else ""
    batch = CallWorkers(name, iter(calls), return_exceptions=True, limit=None)
    return [await batch.run_single(*calls[0])] if len(calls) == 1 else await batch.run()
