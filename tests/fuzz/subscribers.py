"""Subscriptions of a program, whose callbacks do what a user's might."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import railtracks as rt
from railtracks.state import Status
from tests.fuzz import programs as p
from tests.fuzz.notes import CANCELLATIONS, SessionNote, SubscriberNote, leaves_of

if TYPE_CHECKING:
    from tests.fuzz.interpreter import Interpreter

KINDS: dict[str, Any] = {
    "all": (rt.state.Event,),
    "calls": (rt.state.CallEvent,),
    "broadcasts": (rt.state.Broadcast,),
}


DELIVERY = 10.0
"""Seconds that callbacks have at the end of a session; those that take longer are cut off, and may end all the same."""


def steps_of(session: rt.Session) -> int:
    """Return how many steps a session has taken: a call takes one when it is created, and one when it ends."""
    return sum(1 if record.status is Status.OPEN else 2 for record in session.info.records)


def subscribe(me: Interpreter, subscriber: p.Subscriber, session: SessionNote) -> None:
    """Subscribe to a session.

    Raises:
        SessionEndedError: it has ended.
    """
    note = SubscriberNote(subscriber, session)

    def react() -> bool:
        return len(note.got) <= subscriber.reacts

    async def callback(event: Any) -> None:
        note.got.append(event)
        note.running += 1
        began = me.now()
        try:
            if react():
                await me.block(subscriber.body, me.callback_env(session))
        except BaseException as exc:
            leaves = leaves_of(exc)
            note.cut += any(isinstance(leaf, CANCELLATIONS) for leaf in leaves)
            session.callbacks_raised += [leaf for leaf in leaves if not isinstance(leaf, (Exception, *CANCELLATIONS))]
            raise
        finally:
            note.cut += me.now() - began >= DELIVERY
            note.running -= 1

    def sync_callback(event: Any) -> None:
        note.got.append(event)
        for step in subscriber.body if react() else ():
            assert isinstance(step, p.Raise)
            error = me.exception(step.kind)
            session.callbacks_raised += [leaf for leaf in leaves_of(error) if not isinstance(leaf, Exception)]
            raise error

    note.steps_before = steps_of(session.session)
    note.order = me.notes.next()
    note.subscription = session.session.subscribe(
        callback if subscriber.is_async else sync_callback,
        kinds=KINDS[subscriber.kinds],
        capacity=subscriber.capacity,
        policy=subscriber.policy,
        on_error=subscriber.on_error,
    )
    session.subscribers.append(note)
