"""Slots: how many holders there may be at once, where those that wait for holders of their own do not count.

A holder may be made by another one, which then waits for it, as a call does for the calls that it makes. If both had to
have a slot, nested calls of one limit would wait for each other for ever. So the holders form a tree, and what counts
are its leaves: a holder with another one below it that runs has lent its slot to that one. The first holder below a
leaf takes over its slot, without waiting; others below it need slots of their own. When a holder ends, its slot goes
back to the one above, if nothing else runs below that, and is free otherwise.

Invariants: ``used`` is the number of leaves, and never exceeds what a limit allowed when the last one was added. No one
waits below a leaf: it would be let in. So as long as some leaf goes on, all that wait get their turn.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._event_loop import set_event
from railtracks._concurrency._headroom import require_headroom
from railtracks._concurrency._turns import first_of
from railtracks._concurrency._wait_graph import CircleError, Wait, resolve


class Place:
    """The place of one holder in a pool, from when it asks for a slot until it has ended.

    Attributes:
        pool: The pool.
        holder: What it is the place of.
        name: Its name, for people.
        above: The place of the holder that has made it; None if there is none. It may have ended.
        below: How many holders that it has made run.
        has_ended: Whether it has ended.
        group: What else its slot depends on; a slot with a ``permit`` is lent within one group only.
        permit: What stands for its slot elsewhere, and is passed on with it; None for nothing, and while it is lent.
        noted: Its wait, as the graph of waits knows it, until it has a slot; None if it was not noted.
        circle: Why it does not wait any more, if waiting would never end; see :meth:`SlotPool.refuse`.
    """

    # Members of the class, and no slots: a place is made for each call, and most members keep their defaults.
    above: Place | None = None
    below: int = 0
    has_ended: bool = False
    group: object = None
    permit: Any = None
    noted: Wait | None = None
    circle: str | None = None
    waiting: OrderedDict[Place, None] | None = None  # those that were made by this one and have no slot yet
    event: anyio.Event  # set when it gets a slot, or is refused; these three are set while it waits
    token: EventLoopToken
    total: float

    def __init__(self, pool: SlotPool, holder: object, name: str) -> None:
        self.pool: SlotPool = pool
        self.holder: object = holder
        self.name: str = name


_NO_GUARD = nullcontext()


class SlotPool:
    """The slots of one limit. For use in the thread of one event loop.

    Attributes:
        used: How many slots are taken.
        holders: The places of those that run, by their holder.
        queue: The places of those that wait, in the order in which they came.
        is_reported: Whether it was reported that one waits very long; until none waits any more.
    """

    __slots__ = ("_guard", "_late", "holders", "is_reported", "queue", "used")

    def __init__(self) -> None:
        self._guard: AbstractContextManager[Any] = _NO_GUARD
        self._late: list[Place] = []  # they ended where the stack was too full to wake others
        self.used: int = 0
        self.holders: dict[object, Place] = {}
        self.queue: OrderedDict[Place, None] = OrderedDict()
        self.is_reported: bool = False

    def acquire_nowait(self, place: Place, total: float) -> bool:
        """Take a slot if one is free and no one waits, or if the holder above has one to lend. Return whether it did.

        Args:
            place: A new place.
            total: How many slots there are.
        """
        above = place.above if place.above is None else _running(place.above)
        if above is not None and not above.below:
            _lend(above, place)
        elif self.used < total and not self.queue:
            self.used += 1
            if above is not None:
                above.below += 1
        else:
            return False
        self.holders[place.holder] = place
        return True

    async def acquire(self, place: Place, total: float, patience: float, on_congestion: Callable[[], None]) -> None:
        """Wait for a slot, behind those that came before.

        Args:
            place: A new place.
            total: How many slots there are.
            patience: Seconds after which ``on_congestion`` is called, once until no one waits any more.
            on_congestion: Called with no arguments.

        Raises:
            CircleError: it was refused.

        Cancellation: the wait ends, and no slot is taken.
        """
        if self.acquire_nowait(place, total):
            self._end_wait(place)
            return
        if place.circle is not None:
            raise CircleError(place.circle)
        place.event, place.token, place.total = anyio.Event(), current_token(), total
        with self._guard:
            self.queue[place] = None
            above = _running(place.above)
            if above is not None:
                above.waiting = above.waiting or OrderedDict()
                above.waiting[place] = None
            is_below_leaf = above is not None and not above.below  # it has become one just now, in another thread
            woken = self._admit_below(above) if above is not None and is_below_leaf else []
            woken += self._admit()
        _wake(woken)
        try:
            with anyio.move_on_after(patience):
                await place.event.wait()
            if not place.event.is_set() and not self.is_reported:
                self.is_reported = True
                on_congestion()
            await place.event.wait()
        except BaseException:
            with self._guard:
                is_waiting = place in self.queue
                if is_waiting:
                    self._leave_queue(place)
                    place.has_ended = True
                    woken = self._admit()
            if is_waiting:
                _wake(woken)
            elif place.circle is None:  # it got its slot just before
                self.release(place)
            raise
        finally:
            self.is_reported = self.is_reported and bool(self.queue)
        if place.circle is not None:
            raise CircleError(place.circle)

    def refuse(self, place: Place, circle: str) -> None:
        """Have a place wait no more, or not begin to, as it would wait for ever. In any thread.

        Args:
            place: A place, which may have got a slot meanwhile; then nothing happens.
            circle: Says who waits for what.
        """
        with self._guard:
            is_queued = place in self.queue
            if is_queued:
                self._leave_queue(place)
                place.has_ended = True
            elif self.holders.get(place.holder) is place or place.has_ended:
                return
            place.circle = circle
            woken = self._admit() if is_queued else []
        if is_queued:
            woken.append(place)
        _wake(woken)

    def release(self, place: Place) -> None:
        """Give the slot of a place back.

        If the stack is almost full and others wait, this is done when another place is released, as the one above will
        be.
        """
        if self.queue or self._late or place.above is not None or place.below:
            woken = self._give_back(place)
            _wake(woken)
            if self.queue and not woken:  # a holder that waits may be the last one now
                resolve(self)
        else:  # the most frequent case, for speed alone
            del self.holders[place.holder]
            place.has_ended = True
            self.used -= 1

    def _give_back(self, place: Place) -> list[Place]:
        """Give slots back, and return those that have got one."""
        self._late.append(place)
        woken: list[Place] = []
        try:
            if self.queue:
                require_headroom()
        except RecursionError:
            return woken
        while self._late:
            self._free(self._release(self._late.pop(), woken))
        return woken

    def _free(self, permit: Any) -> None:
        """Handle that a permit belongs to no slot any more; None: there was none."""

    def _release(self, place: Place, woken: list[Place]) -> Any:
        self.holders.pop(place.holder, None)
        place.has_ended = True
        above = _running(place.above)
        if place.waiting:  # made by this one, and outlives it
            if above is not None:
                above.waiting = above.waiting or OrderedDict()
                above.waiting.update(place.waiting)
            place.waiting = None
        permit, place.permit = place.permit, None
        if above is not None:
            above.below += place.below - 1
        if place.below:  # its slot was lent to one that still runs
            return permit
        if above is not None and not above.below:
            if above.permit is None and above.group == place.group:
                above.permit, permit = permit, None
            woken += self._admit_below(above)
        else:
            self.used -= 1
            woken += self._admit()
        return permit

    def _admit(self) -> list[Place]:
        """Give free slots to those that wait, the first one first. Return them."""
        admitted = []
        while self.queue:
            place = first_of(self.queue)
            if place is None or self.used >= place.total:
                break
            self._leave_queue(place)
            self.used += 1
            above = _running(place.above)
            if above is not None:
                above.below += 1
            self.holders[place.holder] = place
            admitted.append(place)
        return admitted

    def _admit_below(self, above: Place) -> list[Place]:
        """Lend the slot of a leaf to the first of those that it has made and that wait. Return that, or nothing."""
        place = first_of(above.waiting or ())
        if place is None:
            return []
        self._leave_queue(place)
        _lend(above, place)
        self.holders[place.holder] = place
        return [place]

    def held_by(self) -> list[object]:
        """Return the holders that have a slot and have not lent it. In any thread."""
        return [place.holder for place in [*self.holders.values()] if not place.below]

    def _end_wait(self, place: Place) -> None:
        if place.noted is not None:
            place.noted.end()

    def _leave_queue(self, place: Place) -> None:
        self.queue.pop(place, None)
        self._end_wait(place)
        above = _running(place.above)
        if above is not None and above.waiting:
            above.waiting.pop(place, None)


class SharedSlotPool(SlotPool):
    """The slots of a limit that several event loops share. For use in any thread; each waiter is woken in its own loop.

    Args:
        free: Called with each permit that belongs to no slot any more. It must not block.
    """

    __slots__ = ("_on_free",)

    def __init__(self, free: Callable[[Any], object]) -> None:
        super().__init__()
        self._guard = threading.RLock()
        self._on_free = free

    def acquire_nowait(self, place: Place, total: float) -> bool:
        with self._guard:
            return super().acquire_nowait(place, total)

    def release(self, place: Place) -> None:
        with self._guard:
            woken = self._give_back(place)
        _wake(woken)
        if self.queue and not woken:
            resolve(self)

    def _free(self, permit: Any) -> None:
        if permit is not None:
            self._on_free(permit)


def _running(place: Place | None) -> Place | None:
    """Return a place, or the nearest one above it that has not ended."""
    while place is not None and place.has_ended:
        place = place.above
    return place


def _lend(above: Place, place: Place) -> None:
    above.below += 1
    if above.group == place.group:
        place.permit, above.permit = above.permit, None


def _wake(places: Iterable[Place]) -> None:
    """Wake those that have got a slot."""
    for place in places:
        set_event(place.event, place.token)
