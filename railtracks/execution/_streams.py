"""Streams: calls whose results are consumed, piece by piece, while they run.

Such a call waits until its piece is taken. Without a consumer it would wait for ever, so it is cancelled. The stream
itself notices when its consumer drops it; here are the streams whose consumer still refers to them, but has ended.
"""

from __future__ import annotations

from collections.abc import Callable

from railtracks.execution._call_scopes import RootCall
from railtracks.state import CallRecord, Status


class OpenStreams:
    """The streams of one session that have not ended, each with the call that opened it and a way to cancel it."""

    def __init__(self) -> None:
        self._open: dict[Callable[[], object], tuple[RootCall | None, CallRecord | None]] = {}

    def add(self, cancel: Callable[[], object], root: RootCall | None, opener: CallRecord | None) -> None:
        """Add a stream.

        Args:
            cancel: Cancels its call.
            root: The top-level call that it belongs to; None for the session's body.
            opener: The call that consumes it; None for the session's body.
        """
        self._open[cancel] = root, opener

    def discard(self, cancel: Callable[[], object]) -> None:
        """Forget a stream that has ended."""
        self._open.pop(cancel, None)

    def cancel_orphaned(self, root: RootCall | None) -> None:
        """Cancel the streams below ``root`` whose opening call has ended; with None, those that no call opened."""
        for cancel, (its_root, opener) in list(self._open.items()):
            if its_root is root and (opener is None or opener.status is not Status.OPEN):
                cancel()
