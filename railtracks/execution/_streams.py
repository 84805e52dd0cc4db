"""Streams: calls whose results are consumed, piece by piece, while they run.

Such a call waits until its piece is taken. Once its consumer has gone that would be for ever, so it is cancelled. A
consumer that drops the stream is noticed by the stream itself; here it is one that keeps it, but is over.
"""

from __future__ import annotations

from collections.abc import Callable

from railtracks.execution._call_scopes import Run
from railtracks.state import CallRecord, Status


class OpenStreams:
    """The streams of one session that have not ended; each with who opened it, and how to cancel it."""

    def __init__(self) -> None:
        self._open: dict[Callable[[], object], tuple[Run | None, CallRecord | None]] = {}

    def add(self, cancel: Callable[[], object], run: Run | None, opener: CallRecord | None) -> None:
        """``opener``: the call that consumes it; None: the session's body."""
        self._open[cancel] = run, opener

    def discard(self, cancel: Callable[[], object]) -> None:
        self._open.pop(cancel, None)

    def end_left(self, run: Run | None) -> None:
        """Cancel those of a run whose opener's call is over; None: those that no call opened."""
        for cancel, (its_run, opener) in list(self._open.items()):
            if its_run is run and (opener is None or opener.status is not Status.OPEN):
                cancel()
