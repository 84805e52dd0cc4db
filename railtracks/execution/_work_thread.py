"""The thread of a sync node, where a frame has a task."""

from __future__ import annotations

import threading


class WorkThread:
    """The current thread, which runs a sync node without an event loop: its calls follow each other."""

    __slots__ = ("_identifier",)

    def __init__(self) -> None:
        self._identifier = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether this is the current thread."""
        return self._identifier == threading.get_ident()
