"""The context variable that holds the frame of the running code: its session, top-level call and call.

Its value is a :class:`railtracks.execution.Frame`, or None outside every session. It is typed ``Any`` because that
class is in a higher layer.

Invariant: ``Session`` (when it is entered and left) and ``Coordinator`` (around a node) set it, and both restore the
previous value. A task of the library (a child of the session, a pump of the publisher) sets it once, for itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

current: ContextVar[Any] = ContextVar("railtracks_current", default=None)

on_replayed: ContextVar[Any] = ContextVar("railtracks_reused", default=None)
"""A function that is called with the session's identifier and the records when a call and all below it are replayed,
or come back from a worker.

A stream sets it, so that its consumer receives the chunks that were recorded. None: nothing is called.
"""

token_budgets: ContextVar[tuple[Any, ...]] = ContextVar("railtracks_token_budgets", default=())
"""The budgets (``rt.TokenBudget``) that the running code draws from, outermost first.

Their method ``count_records`` is called with the records when calls are replayed, or come back from a worker.
"""
