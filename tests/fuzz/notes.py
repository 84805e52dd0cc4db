"""What the parts of a running program note themselves, for the oracle to compare with what the session says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import attrs
import trio

import railtracks as rt
from tests.fuzz import programs as p

CANCELLATIONS = (asyncio.CancelledError, trio.Cancelled, concurrent.futures.CancelledError)


class Outcome(NamedTuple):
    """How something ended."""

    kind: Literal["returned", "raised", "cancelled"]
    value: Any = None
    """What it returned or raised."""

    def __repr__(self) -> str:
        return f"{self.kind} {self.value!r} at {id(self.value):#x}"


def outcome_of(exc: BaseException) -> Outcome:
    """Return the outcome of what ``exc`` left."""
    return Outcome("cancelled" if isinstance(exc, CANCELLATIONS) else "raised", exc)


def leaves_of(exc: BaseException) -> list[BaseException]:
    """Return the exceptions in a group, or the exception itself."""
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for part in exc.exceptions for leaf in leaves_of(part)]
    return [exc]


@attrs.define(eq=False)
class CallNote:
    """One call, as seen by the code that made it and by the node that it ran."""

    token: int
    """Its only argument."""
    site: str
    """What made it: call, call_sync, batch or start_soon."""
    node: p.Node
    session: SessionNote
    parent: CallNote | None
    knows_parent: bool
    """False for the calls of a generator that the garbage collector finishes, in any context."""
    nested: bool
    """Whether it was made in the task that the calling node runs in, so that it does not enter a task."""
    made_at: float
    """On the clock of the event loop, as all times here; negative if a thread made it, which has no such clock."""
    began: bool = False
    ended: Outcome | None = None
    """How the node ended."""
    ended_at: float = 0
    got: Outcome | None = None
    """What the call site got."""
    got_at: float = 0

    def __repr__(self) -> str:
        return f"call {self.token} ({self.site}, node {self.ended}, call site {self.got})"


@attrs.define(eq=False)
class BroadcastNote:
    """One broadcast, with the order of its beginning and its end among all that was noted."""

    item: Any
    began: int
    ended: int | None = None
    accepted: bool = False


@attrs.define(eq=False)
class SubscriberNote:
    """One subscription, and the events that its callback was called with."""

    subscriber: p.Subscriber
    session: SessionNote
    order: int = 0
    """When it was made, among all that was noted."""
    steps_before: int = 0
    """The steps of the session that were taken before."""
    subscription: rt.Subscription | None = None
    got: list[Any] = attrs.Factory(list)
    running: int = 0
    cut: int = 0
    """The deliveries that were cancelled, and so may count as dropped too."""
    closed: bool = False


@attrs.define(eq=False)
class SessionNote:
    """One session, as seen by the code that opened it."""

    step: p.OpenSession
    session: rt.Session
    store: Any
    entered: bool = False
    body: Outcome | None = None
    body_ended_at: float = 0
    left: Outcome | None = None
    left_at: float = 0
    reports: int = 0
    calls: list[CallNote] = attrs.Factory(list)
    subscribers: list[SubscriberNote] = attrs.Factory(list)
    broadcasts: list[BroadcastNote] = attrs.Factory(list)
    callbacks_raised: list[BaseException] = attrs.Factory(list)
    """What its callbacks raised that is not an Exception: it may end the session."""

    def running(self) -> list[Any]:
        """Return what still runs of it: nodes that were not abandoned, and callbacks."""
        # A thread may have called call_batch, whose record has other arguments than a token.
        records = {record.args[0]: record for record in self.session.info.records if record.name != "call_batch"}
        nodes = [
            call
            for call in self.calls
            if call.began and call.ended is None and not (call.node.thread and _is_abandoned(call, records))
        ]
        return [*nodes, *(subscriber for subscriber in self.subscribers if subscriber.running)]


def _is_abandoned(call: CallNote, records: dict[Any, Any]) -> bool:
    record = records.get(call.token)
    return record is not None and record.abandoned and not call.node.waits


class Broken(NamedTuple):
    """An invariant that does not hold, and why."""

    invariant: str
    why: str


@attrs.define(eq=False)
class Notes:
    """All that was noted while a program ran."""

    sessions: list[SessionNote] = attrs.Factory(list)
    calls: dict[int, CallNote] = attrs.Factory(dict)
    causes: set[str] = attrs.Factory(set)
    """What can have cancelled something."""
    handled: set[str] = attrs.Factory(set)
    """What the program did to cancellations and errors: swallowed, caught, limited."""
    interrupts: list[BaseException] = attrs.Factory(list)
    """SystemExit and the like, wherever they were raised."""
    ctrl_c: bool = False
    """Whether Ctrl-C came: a KeyboardInterrupt may be raised wherever the main task waits."""
    broken: list[Broken] = attrs.Factory(list)
    """What was seen to be wrong while the program ran."""
    unit: float = 1.0
    """Seconds in a unit of the program's times."""
    open_sessions: int = 0
    _order: Iterator[int] = attrs.Factory(itertools.count)  # threads take from it too

    def is_interrupt(self, exc: BaseException | None) -> bool:
        """Return whether ``exc`` is one of those that end the event loop."""
        return exc in self.interrupts or (self.ctrl_c and isinstance(exc, KeyboardInterrupt))

    def next(self) -> int:
        """Return the next number in the order of all that is noted."""
        return next(self._order)

    def fail(self, invariant: str, why: str) -> None:
        """Note that an invariant does not hold."""
        self.broken.append(Broken(invariant, why))
