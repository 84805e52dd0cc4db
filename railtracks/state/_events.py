"""Events: immutable facts about a session, which subscribers get in the order in which they happened.

They are compared by identity, because no event happens twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from railtracks._identifiers import node_id, run_id
from railtracks.state._records import CallRecord, FieldRepr, Reason, Status, is_retried


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


# ---- events in the making


def _draft_of(kind: type[Event]) -> Any:
    """Return a class of the same layout as an event class, whose objects can be written to and then become events.

    The constructors of frozen classes with keywords take four times as long, and each call has two events. A draft has
    no attributes until they are set, not even those with defaults.
    """
    # Of the last two both, as they share a slot of the type: or else each attribute would be set by a call in Python.
    plain = {name: getattr(object, name) for name in ("__init__", "__setattr__", "__delattr__")}
    return type(kind.__name__, kind.__bases__, {"__slots__": kind.__slots__, **plain})


_CREATED, _SUCCEEDED, _FAILED, _CANCELLED = map(_draft_of, (CallCreated, CallSucceeded, CallFailed, CallCancelled))
_BROADCAST = _draft_of(Broadcast)


def created_event(session_id: str, record: CallRecord) -> CallEvent:
    """Return the event of the creation of a call."""
    event = _drafted(_CREATED, session_id, record, record.started_step, record.started)
    event.args = record.args
    event.kwargs = record.kwargs
    event.__class__ = CallCreated
    return event  # type: ignore[no-any-return]


def end_event(session_id: str, record: CallRecord) -> CallEvent:
    """Return the event of the end of a call: its result, its exception or its cancellation."""
    status = record.status
    draft = _SUCCEEDED if status is Status.COMPLETED else _FAILED if status is Status.FAILED else _CANCELLED
    event = _drafted(draft, session_id, record, record.ended_step, record.ended)
    if status is Status.COMPLETED:
        event.result = record.result
        event.cached = None if record.policy is None else record.policy.cached
        event.__class__ = CallSucceeded
    elif status is Status.FAILED:
        event.exception = record.exception
        event.is_retried = is_retried(record)
        event.__class__ = CallFailed
    else:
        event.reason = record.reason
        event.__class__ = CallCancelled
    return event  # type: ignore[no-any-return]


def broadcast_event(session_id: str, run: str | None, node: str | None, item: Any, time: float) -> Broadcast:
    """Return the event of an item that the call of these identifiers has broadcast; None and None: no call has."""
    event = _BROADCAST()
    event.session_id = session_id
    event.time = time
    event.item = item
    event.run_id = run
    event.node_id = node
    event.__class__ = Broadcast
    return event  # type: ignore[no-any-return]


def _drafted(draft: Any, session_id: str, record: CallRecord, step: int | None, time: float | None) -> Any:
    """Return an event of a call in the making, with what all of them have."""
    event = draft()
    event.session_id = session_id
    event.time = time
    event.step = step
    event.run_id = run_id(session_id, record.run)
    event.node_id = node_id(session_id, record.index)
    event.parent_id = None if record.parent is None else node_id(session_id, record.parent)
    event.name = record.name
    return event
