"""Refusals of what a node can do only where its session is."""

from __future__ import annotations

from railtracks.exceptions import ContextError


def refused_in_worker(call: str, verb: str, what: str) -> ContextError:
    """Return the error for a call that came in a worker.

    Args:
        call: What was called.
        verb: The same in one word.
        what: What is passed to the node instead.
    """
    return ContextError(
        f"{call} was called in a worker, and what comes from outside comes to the session; {verb} before the call of "
        f"the node that runs there, and pass {what} to it"
    )
