"""Clocks, identifiers and observers: all that a session takes from its environment, and the hooks of a test harness.

They are looked up once, when a session is constructed, so that a harness can put its own in their place for everything
that it runs: ``sources.set(Sources(...))``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from anyio import CapacityLimiter


def _random_id() -> str:
    return os.urandom(12).hex()


class Observer(Protocol):
    """Is told what happens in sessions, at once, before it goes on. Must be quick and not raise."""

    sees_calls: bool
    """Does it want events and changes of the context too, or only to know of sessions?"""

    def opened(self, session: Any) -> None:
        """A session was entered."""

    def closed(self, session: Any) -> None:
        """A session was left."""

    def happened(self, event: Any) -> None:
        """An event (``rt.state.Event``) of a session."""

    def refused(self, session_id: str, record: Any, name: str, handled: BaseException | None) -> None:
        """The call of ``record`` wanted to call ``name``, but was cancelled before that began.

        ``handled``: the exception for which it was in an ``except`` or ``finally``.
        """

    def changed(self, session_id: str, record: Any, key: Any, value: Any, deleted: bool) -> None:
        """The context of a session was changed, by the call of ``record`` if that is not None. From any thread."""


class Turns(Protocol):
    """Decides when work in worker threads goes on, and knows how much there is. Its methods come from any thread."""

    def queued(self, work: object) -> None:
        """A piece of work wants to begin, or to go on."""

    def wait(self, work: object) -> None:
        """Return when it may. From its own thread, which blocks."""

    def suspended(self, work: object) -> None:
        """It waits for something that the event loop does for it."""

    def over(self, work: object) -> None:
        """It is through, and whoever waited for it knows or has gone."""

    def limiter(self, given: CapacityLimiter | None, admit: Callable[[], None]) -> CapacityLimiter | None:
        """The limiter for a piece of work that would have the one given (None: its backend's).

        It calls ``admit`` when it lets the work through, if a thread is sure to begin it then, even if it is abandoned.
        """


@attrs.frozen(eq=False)
class Sources:
    """Where a session takes its times and identifiers from, and what a harness puts around its calls."""

    clock: Callable[[], float] = time.perf_counter
    """Monotonic seconds, from any origin; read twice per call."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch; read once per session."""

    new_id: Callable[[], str] = _random_id
    """A fresh identifier, safe as a file name."""

    observer: Observer | None = None
    """Who looks on."""

    wrap_strategy: Callable[[Any], Any] | None = None
    """Given each ``ExecutionStrategy`` of a session; returns the one to be used in its place."""

    turns: Turns | None = None
    """Of worker threads; looked up for each piece of work."""


sources: ContextVar[Sources] = ContextVar("railtracks_sources", default=Sources())  # noqa: B039 (frozen)
