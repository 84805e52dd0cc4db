"""What subscribers got, compared with what was published: invariant 7 of the oracle."""

from __future__ import annotations

from typing import Any

import railtracks as rt
from tests.fuzz.notes import Notes, SessionNote, SubscriberNote
from tests.fuzz.subscribers import steps_of


def check(notes: Notes, session: SessionNote) -> None:
    """Check all subscriptions of a session."""
    for subscriber in session.subscribers:
        why = _why_wrong(session, subscriber)
        if why is not None:
            notes.fail("events", f"{subscriber.subscriber.policy} subscriber: {why}")


def _why_wrong(session: SessionNote, note: SubscriberNote) -> str | None:
    subscription = note.subscription
    assert subscription is not None
    steps = [event.step for event in note.got if isinstance(event, rt.state.CallEvent)]
    items = [event.item for event in note.got if isinstance(event, rt.state.Broadcast)]
    if steps != sorted(set(steps)):
        return f"the events came twice or in another order: {steps}"
    if len(set(items)) != len(items):
        return f"a broadcast came twice: {items}"
    if any(step < note.steps_before for step in steps):
        return f"events came from before its subscription: {steps}, {note.steps_before}"
    low, high = _published(session, note)
    count = len(note.got) + subscription.dropped
    removed = note.closed or (subscription.closed and not _is_over(session)) or _may_be_removed(note)
    if count - note.cut > high:
        return f"{len(note.got)} events were delivered and {subscription.dropped} dropped, but {high} published"
    if count < low and not removed:
        return f"{len(note.got)} events were delivered and {subscription.dropped} dropped, but at least {low} published"
    if note.running:
        return "its callback still runs"
    return None


def _is_over(session: SessionNote) -> bool:
    return session.left is not None


def _may_be_removed(note: SubscriberNote) -> bool:
    """Return whether its policy may have removed it."""
    subscription: Any = note.subscription
    return (note.subscriber.on_error == "remove" and subscription.errors > 0) or (
        note.subscriber.policy == "fail" and subscription.dropped > 0
    )


def _published(session: SessionNote, note: SubscriberNote) -> tuple[int, int]:
    """Return how many events were published since the subscription, at least and at most."""
    low = high = 0
    if note.subscriber.kinds != "broadcasts":
        low = high = steps_of(session.session) - note.steps_before
    if note.subscriber.kinds != "calls":
        for broadcast in session.broadcasts:
            low += broadcast.accepted and broadcast.began > note.order
            high += broadcast.ended is None or broadcast.ended > note.order
    return low, high
