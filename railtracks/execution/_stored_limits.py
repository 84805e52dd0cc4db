"""Limits that processes share through the store of their sessions.

No process is woken by another one, so a call that waits asks again and again: often at first, less often later. All of
it is done by threads, as it waits for files or for a server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import anyio
from anyio.lowlevel import current_token

from railtracks._concurrency._background import Work, background
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._concurrency._turns import Turns
from railtracks._policies import Limit
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import StateError
from railtracks.state._stores._limits import LimitStore
from railtracks.state._stores._protocols import Lock

SHORTEST, LONGEST = 0.005, 0.5
"""Seconds between two questions whether a slot is free. The time grows by half each time."""
T = TypeVar("T")


class StoredLimit:
    """The part of an ``rt.Limit`` that several processes share.

    Args:
        limit: The limit.
        store: Keeps it.

    Attributes:
        group: What its slots belong to.
    """

    __slots__ = ("_limit", "_store", "group")

    def __init__(self, limit: Limit, store: LimitStore) -> None:
        self._limit = limit
        self._store = store
        self.group: str = store.limit_group

    async def _take_slot(self) -> Lock | None:
        """Take a slot; None if none is free. Cancellation: none is taken."""
        assert self._limit.concurrency is not None
        take = partial(self._store.take_slot, self._limit.name, self._limit.concurrency)
        return await self._in_thread(take, _release)

    async def take_slot(
        self, turns: Turns, on_wait: Callable[[], object], patience: float, on_congestion: Callable[[], None]
    ) -> Lock:
        """Take a slot, in the order in which this process asks for one.

        Args:
            turns: The queue of those in this process who ask.
            on_wait: Called before each wait for others. If it raises, the wait ends as if it was cancelled.
            patience: Seconds after which ``on_congestion`` is called, once until no one in the process waits any more.
            on_congestion: Called with no arguments.

        Cancellation: the wait ends, and none is taken.
        """
        turn, has_come = turns.join()
        try:
            if not has_come:
                on_wait()
                await turn.event.wait()
            delay, until = SHORTEST, anyio.current_time() + patience
            while (lock := await self._take_slot()) is None:
                on_wait()
                if anyio.current_time() > until and not turns.is_reported:
                    turns.is_reported = True
                    on_congestion()
                await anyio.sleep(delay)
                delay = min(LONGEST, 1.5 * delay)
            return lock
        finally:
            turns.leave(turn)

    async def take_rate(self) -> float:
        """Begin now and return 0, or return how many seconds later that may be possible. Cancellation: no begin."""
        per_period = self._limit.per_period
        assert per_period is not None
        take = partial(self._store.take_rate, self._limit.name, *per_period, runtime_hooks.get().wall)
        return await self._in_thread(take, self._give_back_rate)

    def _give_back_rate(self, delay: float) -> None:
        if delay <= 0:
            self._store.give_back_rate(self._limit.name)

    async def _in_thread(self, func: Callable[[], T], undo: Callable[[T], object]) -> T:
        """Return what ``func`` returns in a thread. Cancellation: ``undo`` is called with it, in a thread, too."""
        results: list[T] = []
        changed, token = Condition(), current_token()
        work = Work(lambda: results.append(func()))
        work.when_done(partial(call_soon, token, changed.notify_all))
        background.submit(work)
        try:
            await changed.wait_while(lambda: not work.is_done)
        except BaseException:
            work.when_done(lambda: _submit_all(partial(undo, result) for result in results))
            raise
        if work.error is not None:
            raise StateError(
                f"the limit {self._limit.name!r} cannot be kept in {self.group}: {work.error}; see that it can be "
                f"written to, or use another store"
            ) from work.error
        return results[0]


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()


def _submit_all(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        background.submit(Work(function))
