"""Threads of sync nodes: that of a node without an event loop, that which calls, and that of the event loop."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any


class WorkThread:
    """The current thread, which runs a sync node without an event loop: its calls follow each other."""

    __slots__ = ("_identifier",)

    def __init__(self) -> None:
        self._identifier = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether this is the current thread."""
        return self._identifier == threading.get_ident()


calling_thread: ContextVar[Any] = ContextVar("railtracks_calling_thread", default=None)
"""The ``CallingThread`` that waits for the current call; None if that was not made from a thread, or need not run
there."""
blocks_loop: ContextVar[str | None] = ContextVar("railtracks_blocks_loop", default=None)
"""The name of the sync node that runs in the thread of the event loop here; None if none does."""
