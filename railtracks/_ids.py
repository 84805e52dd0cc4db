"""Identifiers and clocks: what a run takes from the outside world that is not its input; and who looks on.

They are looked up once, when a session is constructed, so that a test harness can put its own in their place for
everything it runs: ``sources.set(Sources(...))``.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from anyio import CapacityLimiter

WINDOWS_RESERVED = {"con", "prn", "aux", "nul", *(f"{dev}{n}" for dev in ("com", "lpt") for n in range(1, 10))}
MAX_IDENTIFIER = 128
"""Characters in an identifier: with its endings and a temporary suffix it stays a legal file name everywhere."""


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


def node_id(session_id: str, index: int) -> str:
    """The identifier of the ``index``-th call of a session, as a node of its graph."""
    return f"{session_id}-n{index}"


def edge_id(session_id: str, index: int) -> str:
    """The identifier of the request that made the ``index``-th call."""
    return f"{session_id}-e{index}"


def run_id(session_id: str, index: int) -> str:
    """The identifier of the run whose top-level call is the ``index``-th call."""
    return f"{session_id}-r{index}"


def index_of(identifier: str) -> int:
    """The call's index in a node, edge or run identifier. ValueError if it is none."""
    return int(identifier.rpartition("-")[2][1:])


def identifier_problem(value: str) -> str | None:
    """Why ``value`` is no safe file name on every system, or None if it is one."""
    if not value:
        return "it is empty"
    if len(value) > MAX_IDENTIFIER:
        return f"it has {len(value)} characters, more than {MAX_IDENTIFIER}"
    if bad := sorted({c for c in value if not (c.isascii() and (c.isalnum() or c in "._-"))}):
        return f"it contains {', '.join(map(repr, bad))}"
    if value[0] in ".-" or value[-1] == ".":
        return "it begins with '.' or '-', or ends with '.'"
    if value.split(".", maxsplit=1)[0].lower() in WINDOWS_RESERVED:
        return "it is a reserved device name"
    return None


def slug(name: str) -> str:
    """``name`` as a safe file name: itself if it is one, or else what is safe of it and a digest."""
    if identifier_problem(name) is None:
        return name
    digest = f"{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"  # tells names apart; hides nothing
    safe = (
        re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[: MAX_IDENTIFIER - 9].rstrip("-")
    )  # no dots: `con.txt` is reserved
    return f"{safe or 'session'}-{digest}"
