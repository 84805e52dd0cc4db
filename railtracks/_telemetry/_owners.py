"""Which session, and which call of it, a context of OpenTelemetry belongs to."""

from __future__ import annotations

import attrs
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

_OWNER = context.create_key("railtracks-call")


@attrs.define(eq=False)
class TracedSession:
    """A session, as contexts name it. They may outlive it, so it does not refer to the session.

    Args:
        before: What was current where it was opened.

    Attributes:
        is_over: Whether its span has ended.
    """

    before: Context
    is_over: bool = False


@attrs.frozen
class Owner:
    """What a context belongs to.

    Args:
        session: The session.
        index: The index of the call; None for the body of the session.
        span: The span of the call, or of the session.
    """

    session: TracedSession
    index: int | None
    span: Span


def owner_of(where: Context) -> Owner | None:
    """Return what a context belongs to, if any session has made it current."""
    return context.get_value(_OWNER, where)  # type: ignore[return-value]


def owned_context(owner: Owner, around: Context) -> Context:
    """Return ``around`` with the span of ``owner``, to which it belongs."""
    return context.set_value(_OWNER, owner, trace.set_span_in_context(owner.span, around))


def context_of_new_session() -> Context:
    """Return what is current, without the span of a session that has ended.

    That of a session that was left in another task, as by an async generator that is not read to its end, is still
    current where the session was entered. There, the span that was current before the session takes its place.
    """
    here = context.get_current()
    while (owner := owner_of(here)) is not None and owner.session.is_over:
        if trace.get_current_span(here) is not owner.span:  # code of users has begun another one
            break
        before = owner.session.before
        here = trace.set_span_in_context(trace.get_current_span(before), here)
        here = context.set_value(_OWNER, owner_of(before), here)
    return here
