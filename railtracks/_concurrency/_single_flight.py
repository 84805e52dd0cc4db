"""Equal work that is done once: who comes while it is being done waits for its outcome, in whatever event loop.

Work that waits for equal work which in turn waits for it would wait for ever. So each piece knows for which others the
code inside it waits, and who would close a circle does the work itself. What is inside is known by a context variable,
which goes wherever code of a call goes: into its tasks, and into worker threads.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from contextvars import ContextVar
from typing import Any, final

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._event_loop import call_soon, running_library

_guard = threading.Lock()  # of all flights and their waiters, for a moment only
NOTHING: Any = object()
"""In place of an outcome that there is not."""


@final
class Flight:
    """A piece of work that is being done, or is about to be.

    Attributes:
        waiters: Those who wait for it, in the order in which they came.
        waits_for: The flights that code inside it waits for, and how many times.
    """

    __slots__ = ("waiters", "waits_for")

    def __init__(self) -> None:
        self.waiters: deque[_Waiter] = deque()
        self.waits_for: Counter[Flight] = Counter()


inside: ContextVar[tuple[Flight, ...]] = ContextVar("railtracks_flights", default=())
"""The flights that the running code is part of, the outermost first."""


class _Waiter:
    """Who waits: in which event loop, and what came of it."""

    __slots__ = ("_event", "_token", "leads", "outcome")

    def __init__(self) -> None:
        self._token: EventLoopToken = current_token()
        self._event = anyio.Event()
        self.leads = False
        self.outcome: Any = NOTHING

    async def wait(self) -> None:
        await self._event.wait()

    def wake(self, here: EventLoopToken | None) -> None:
        """Have it go on. ``here``: the event loop that runs in this thread, if one does."""
        if here == self._token:
            self._event.set()
        else:
            call_soon(self._token, self._event.set)


class SingleFlight:
    """The flights of one kind of work, by a key that equal work has in common."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}
        _all.add(self)

    def join(self, key: Hashable) -> tuple[Flight | None, _Waiter | None]:
        """Lead the work, or wait for who does.

        Returns:
            A flight alone: the caller leads it, and has to call ``leave``. A flight and a waiter: the caller has to
            ``wait`` for it. Neither: the caller does the work by itself, as waiting would never end.
        """
        enclosing = inside.get()
        with _guard:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight()
                return flight, None
            if enclosing and _leads_to(flight, enclosing):
                return None, None
            waiter = _Waiter()
            flight.waiters.append(waiter)
            for each in enclosing:
                each.waits_for[flight] += 1
            return flight, waiter

    async def wait(self, key: Hashable, flight: Flight, waiter: _Waiter) -> Any:
        """Wait for the outcome of a flight, and return it; ``NOTHING`` if it failed and the caller is the next to lead.

        Cancellation: the wait ends, and who came next leads if it was this one's turn.
        """
        try:
            await waiter.wait()
        except BaseException:
            with _guard:
                if waiter in flight.waiters:
                    flight.waiters.remove(waiter)
            if waiter.leads:
                self.leave(key, flight)
            raise
        finally:
            with _guard:
                for each in inside.get():
                    each.waits_for[flight] -= 1
                    if not each.waits_for[flight]:
                        del each.waits_for[flight]
        return waiter.outcome

    def leave(self, key: Hashable, flight: Flight, outcome: Any = NOTHING) -> None:
        """End a flight that the caller leads.

        Args:
            key: Its key.
            flight: The flight.
            outcome: What those who wait get. Without one the first of them leads, and the others go on waiting.
        """
        here = current_token() if running_library() else None  # the garbage collector may close a coroutine anywhere
        with _guard:
            if outcome is NOTHING and flight.waiters:
                following = flight.waiters.popleft()
                following.leads = True
                woken = [following]
            else:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                woken = [*flight.waiters]
                flight.waiters.clear()
        for waiter in woken:
            if not waiter.leads:
                waiter.outcome = outcome
            waiter.wake(here)

    def reset(self) -> None:
        """Forget all flights, as is right in a forked child: who leads them is in its parent."""
        self._flights.clear()


_all: weakref.WeakSet[SingleFlight] = weakref.WeakSet()


def _leads_to(flight: Flight, wanted: Iterable[Flight]) -> bool:
    """Return whether a flight is, or waits for, one of ``wanted``, also through others."""
    targets, seen, left = {*wanted}, {flight}, [flight]
    while left:
        each = left.pop()
        if each in targets:
            return True
        new = [other for other in each.waits_for if other not in seen]
        seen.update(new)
        left += new
    return False


@after_fork
def _reset() -> None:
    global _guard
    _guard = threading.Lock()
    for flights in _all:
        flights.reset()
