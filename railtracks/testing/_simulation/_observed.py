"""What the witness notes of a run: its calls, the operations that user code has marked, and reads of the context."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import attrs

from railtracks._test_probe import Policies
from railtracks.testing._trace import TraceEvent

CallKey = tuple[str, int]
"""The identifier of a session, and the index of a call in it."""


@attrs.define(eq=False)
class ObservedCall:
    """A call as the witness observed it."""

    task: object
    """The task in which it ran; after the run, an object that stands for it."""
    caller: CallKey | None
    """The call that made it."""
    in_thread: bool
    """Whether its node is sync."""
    began: float
    """When its node began to run, in virtual seconds."""
    begin_order: int = -1
    """How many calls and operations of all sessions had begun or ended before it began."""
    outcome: Literal["returned", "raised", "cancelled"] | None = None
    """How it ended; None while it runs."""
    value: Any = None
    """What it returned or raised."""
    order: int = -1
    """How many calls and operations of all sessions had begun or ended before it ended."""
    time: float = math.inf
    """When it ended, in virtual seconds."""
    place: str = ""
    """Where in user code it was when it was cancelled, and what it waited for."""
    by_deadline: bool = False
    """Whether the deadline of a scope has cancelled it, as far as the event loop says so."""
    by_sibling: bool = False
    """Whether the failure of another task has cancelled it, as far as the event loop says so."""
    in_cleanup: bool = False
    """Whether it was made while a cancellation passed through its caller."""
    context_leaked: bool = False
    """Whether another session or call was current when it ended than when it began."""
    policies: Policies | None = None
    """The policies that it ran with: those of its node, and the defaults of its session."""
    target: object = None
    """The function of its node."""
    name: str = ""
    """The name of its node."""
    args: tuple[Any, ...] = ()
    """Its positional arguments."""
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    """Its keyword arguments."""
    work: tuple[Hashable, ...] = ()
    """The work that it is part of, and that equal calls wait for; the outermost first."""


@attrs.define(eq=False)
class ObservedOperation:
    """A block that user code has marked as an operation."""

    name: str
    """Its name."""
    args: tuple[Any, ...]
    """Its arguments."""
    call: CallKey | None = None
    """The call that it is part of."""
    begin_order: int = -1
    """How many calls and operations of all sessions had begun or ended before it began."""
    order: int | None = None
    """How many had begun or ended before it ended; None if it raised, or has not ended."""
    result: Any = None
    """What it returned; set by user code."""


class ContextReads:
    """The reads of the context in a run, of which the story shows those of keys that another call writes."""

    def __init__(self) -> None:
        self._reads: list[tuple[TraceEvent, Hashable, int | None]] = []
        self._writers: dict[Hashable, set[int | None]] = {}
        self._last: dict[Hashable, dict[int | None, str]] = {}  # since the key was written

    def note_write(self, key: Hashable, call: int | None) -> None:
        """Note that a call has set or deleted a key; None: code outside of calls."""
        self._writers.setdefault(key, set()).add(call)
        self._last.pop(key, None)

    def is_repeated(self, key: Hashable, call: int | None, detail: str) -> bool:
        """Return whether the call has read the same before, and the key was not written since, as loops do that ask."""
        last = self._last.setdefault(key, {})
        before, last[call] = last.get(call), detail
        return before == detail

    def note_read(self, event: TraceEvent, key: Hashable, call: int | None) -> None:
        """Note that this event is a read of a key by a call."""
        self._reads.append((event, key, call))

    def private(self) -> set[int]:
        """Return the identities of the events that are reads of keys which no other call has written."""
        return {id(event) for event, key, reader in self._reads if self._writers.get(key, set()) <= {reader}}
