"""The one context variable: in which session, run and call does the running code stand?

It holds a :class:`railtracks.execution.Frame`, or None outside every session. It is typed ``Any``
because the class lives in a higher layer; that layer reads it as what it is.

Invariant: ``Session`` (entering, leaving) and ``Coordinator`` (around a node) set it, and both put back what they
found. A task of ours (a child of the session, a pump of the publisher) sets it once, for itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

current: ContextVar[Any] = ContextVar("railtracks_current", default=None)

on_replayed: ContextVar[Any] = ContextVar("railtracks_reused", default=None)
"""Called with the session's identifier and the records, when a call and all below it need not run; None: nobody cares.

For a stream, whose consumer is to hear what was said all the same.
"""
