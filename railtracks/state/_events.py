"""Events: immutable facts about a session, which subscribers get in the order in which they happened.

They are compared by identity, because no event happens twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from railtracks.state._records import FieldRepr, Reason


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Event(FieldRepr):
    """A fact about a session."""

    session_id: str
    time: float
    """Seconds since the epoch."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallEvent(Event):
    """A fact about a call."""

    step: int
    """The position of the event among the call events of its session, from 0."""
    run_id: str
    node_id: str
    parent_id: str | None
    """The identifier of the calling node; None for a top-level call."""
    name: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallCreated(CallEvent):
    """The creation of a call, which is about to run."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallSucceeded(CallEvent):
    """The end of a call that returned."""

    result: Any
    cached: str | None = None
    """Where the result came from that was used in place of running it: "session" or "store"; None if it ran."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallFailed(CallEvent):
    """The end of a call that raised."""

    exception: BaseException
    is_retried: bool = False
    """Whether the policy of its node has it tried again, which is another call, so that its caller knows nothing of the
    exception."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CallCancelled(CallEvent):
    """The end of a call that was cancelled."""

    reason: Reason


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AgentText(Event):
    """A piece of the text that an agent writes, in a run whose events are streamed (``flow.astream_events``)."""

    agent: str
    """The name of the agent."""
    node_id: str | None
    """The identifier of its call."""
    text: str


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Broadcast(Event):
    """An item that a node broadcast."""

    item: Any
    run_id: str | None
    node_id: str | None
