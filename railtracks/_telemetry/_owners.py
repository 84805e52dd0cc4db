"""Which session, and which call of it, a context of OpenTelemetry belongs to."""

from __future__ import annotations

import attrs
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

_OWNER = context.create_key("railtracks-call")


@attrs.frozen
class Owner:
    """What a context belongs to.

    Args:
        session: Identifies the session. Contexts may outlive it, so this does not refer to it.
        index: The index of the call; None for the body of the session.
    """

    session: object
    index: int | None


def owner_of(where: Context) -> Owner | None:
    """Return what a context belongs to, if any session has made it current."""
    return context.get_value(_OWNER, where)  # type: ignore[return-value]


def owned_context(owner: Owner, span: Span, around: Context) -> Context:
    """Return ``around`` with a span, and as a context that belongs to ``owner``."""
    return context.set_value(_OWNER, owner, trace.set_span_in_context(span, around))
