"""Calls whose arguments come from async iterables."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import anyio

from railtracks._calls._workers import NO_KWARGS, Call, Items
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._task_groups import split_cancellation
from railtracks._context_variable import current
from railtracks.nodes import FunctionNode

CLOSE_DEADLINE = 10.0
"""Seconds that an async generator may take to close, once no more of it is wanted."""


class AsyncCalls:
    """The calls of a node for each tuple of a zip of iterables, async ones among them.

    One task reads them all, and closes them: a generator may hold cancel scopes, and change context variables. It reads
    an item when a worker waits for one.

    Args:
        node: The node.
        iterables: What to read, in this order; the shortest ends it.

    Attributes:
        has_all: Whether the end of one of them was reached.

    Raises:
        TypeError: one of them cannot be iterated.
    """

    def __init__(self, node: FunctionNode[..., Any], iterables: tuple[Items, ...]) -> None:
        self._node = node
        self._iterators: list[Iterator[Any] | AsyncIterator[Any]] = [
            iter(each) if isinstance(each, Iterable) else aiter(each) for each in iterables
        ]
        self._read: deque[tuple[Any, ...]] = deque()  # more than one only if a worker was cancelled
        self._waiting = 0  # workers that wait for a call
        self._changed = Condition()
        self._error: BaseException | None = None
        self._has_ended = False
        self.has_all: bool = False

    async def next(self) -> Call | None:
        """Return the next call; None if there are no more.

        Raises:
            BaseException: what the iterables raise, once.

        Cancellation: nothing is lost.
        """
        self._waiting += 1
        self._changed.notify_all()
        try:
            await self._changed.wait_while(lambda: not self._read and not self._has_ended)
        finally:
            self._waiting -= 1
        if self._read:
            return self._node, self._read.popleft(), NO_KWARGS
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    async def read(self) -> None:
        """Read the iterables, as long as something is wanted of them. Raises nothing but a cancellation."""
        try:
            while not self.has_all:
                await self._changed.wait_while(lambda: self._waiting <= len(self._read))
                args = await self._next_tuple()
                if args is None:
                    self.has_all = True
                else:
                    self._read.append(args)
                self._changed.notify_all()
        except BaseException as exc:
            cancellation, self._error = split_cancellation(exc)
            if cancellation is not None:
                raise cancellation from None
        finally:
            await self._close()
            self._has_ended = True
            self._changed.notify_all()

    async def _next_tuple(self) -> tuple[Any, ...] | None:
        args = []
        for each in self._iterators:
            try:
                args.append(next(each) if isinstance(each, Iterator) else await anext(each))
            except (StopIteration, StopAsyncIteration):
                return None
        return tuple(args)

    async def _close(self) -> None:
        """Close the async generators. What they do then may take a while, also if the batch is cancelled."""
        for each in self._iterators:
            close = getattr(each, "aclose", None)
            if close is None:
                continue
            try:
                with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_DEADLINE) as scope:
                    await close()
            except Exception as exc:
                self._error = self._error or exc
            if scope.cancelled_caught:
                current.get().coordinator.log.log(
                    logging.WARNING, "%r did not close within %g s, and was cancelled", each, CLOSE_DEADLINE
                )
