"""Events: frozen facts about a session, in the order in which they happened.

They are compared by identity: no event happens twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from railtracks.state._records import Reason, Shown


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(Shown):
    """Something happened in a session."""

    session_id: str
    time: float
    """Seconds since the epoch."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallEvent(Event):
    """Something happened to a call."""

    step: int
    """The event's place among the call events of its session, counted from 0."""
    run_id: str
    node_id: str
    parent_id: str | None
    """The node that made the call; None for a top-level call."""
    name: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallCreated(CallEvent):
    """A call was made and is about to run."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallSucceeded(CallEvent):
    """A call returned."""

    result: Any


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallFailed(CallEvent):
    """A call raised."""

    exception: BaseException


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallCancelled(CallEvent):
    """A call was cancelled."""

    reason: Reason


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Broadcast(Event):
    """A node broadcast an item."""

    item: Any
    run_id: str | None
    node_id: str | None
