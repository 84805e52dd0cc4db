"""Equal work that is done once: who comes while it is being done waits for its outcome, in whatever event loop.

Work that waits for equal work which in turn waits for it would wait for ever. So who waits is noted in the graph of
waits (``_wait_graph.py``), and who would close a circle does the work itself; so does who is in a circle that another
wait closes. What is inside a flight is known by a context variable, which goes wherever code of a call goes: into its
tasks, and into worker threads.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, final

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency import _wait_graph
from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._event_loop import call_soon, running_library

NOTHING: Any = object()
"""In place of an outcome that there is not."""
ALONE: Any = object()
"""In place of the outcome for one that has to do the work by itself."""


@final
class Flight:
    """A piece of work that is being done, or is about to be.

    Args:
        work: What is done, as an object that equals that of no other work.

    Attributes:
        work: As given.
        waiters: Those who wait for it, in the order in which they came. Only with the guard of the graph of waits.
    """

    __slots__ = ("waiters", "work")

    def __init__(self, work: Hashable) -> None:
        self.work: Hashable = work
        self.waiters: deque[_Waiter] = deque()

    def held_by(self) -> Sequence[Flight]:
        """Return what has to go on so that it ends: itself."""
        return (self,)


inside: ContextVar[tuple[Flight, ...]] = ContextVar("railtracks_flights", default=())
"""The flights that the running code is part of, the outermost first."""


class _Waiter:
    """Who waits: in which event loop, and what came of it."""

    __slots__ = ("_event", "_token", "leads", "noted", "outcome")

    noted: _wait_graph.Wait

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

    def join(
        self, key: Hashable, owners: Callable[[], Iterable[object]] = tuple, text: str = ""
    ) -> tuple[Flight | None, _Waiter | None]:
        """Lead the work, or wait for who does.

        Args:
            key: What equal work has in common.
            owners: Returns what the wait holds up, beside the flights that the caller is inside.
            text: What is said of the wait.

        Returns:
            A flight alone: the caller leads it, and has to call ``leave``. A flight and a waiter: the caller has to
            ``wait`` for it. Neither: the caller does the work by itself, as waiting would never end.
        """
        with _wait_graph.guard:
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Flight((self, key))
                return flight, None
            waiter = _Waiter()
            leave = partial(self._let_go, flight, waiter)
            waiter.noted = _wait_graph.Wait(flight, (*inside.get(), *owners()), text, leave, is_free=True)
            if _wait_graph.is_stuck(flight):
                waiter.noted.end()
                return None, None
            flight.waiters.append(waiter)
            return flight, waiter

    @staticmethod
    def _let_go(flight: Flight, waiter: _Waiter, _: str) -> None:
        """Have a waiter do the work by itself."""
        with _wait_graph.guard:
            if waiter not in flight.waiters:
                return
            flight.waiters.remove(waiter)
        waiter.outcome = ALONE
        waiter.wake(current_token() if running_library() else None)

    async def wait(self, key: Hashable, flight: Flight, waiter: _Waiter) -> Any:
        """Wait for the outcome of a flight, and return it.

        ``NOTHING`` if it failed and the caller is the next to lead; ``ALONE`` if the caller has to do the work by
        itself, as waiting would never end.

        Cancellation: the wait ends, and who came next leads if it was this one's turn.
        """
        try:
            await waiter.wait()
        except BaseException:
            with _wait_graph.guard:
                if waiter in flight.waiters:
                    flight.waiters.remove(waiter)
                    waiter.noted.end()
            if waiter.leads:
                self.leave(key, flight)
            raise
        return waiter.outcome

    def leave(self, key: Hashable, flight: Flight, outcome: Any = NOTHING) -> None:
        """End a flight that the caller leads.

        Args:
            key: Its key.
            flight: The flight.
            outcome: What those who wait get. Without one the first of them leads, and the others go on waiting.
        """
        here = current_token() if running_library() else None  # the garbage collector may close a coroutine anywhere
        with _wait_graph.guard:
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
                waiter.noted.end()
        for waiter in woken:
            if not waiter.leads:
                waiter.outcome = outcome
            waiter.wake(here)

    def reset(self) -> None:
        """Forget all flights, as is right in a forked child: who leads them is in its parent."""
        self._flights.clear()


_all: weakref.WeakSet[SingleFlight] = weakref.WeakSet()


@after_fork
def _reset() -> None:
    for flights in _all:
        flights.reset()
