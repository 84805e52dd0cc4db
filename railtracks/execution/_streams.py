"""Streams: calls whose results are consumed, piece by piece, while they run.

Such a call waits until its piece is taken. Without a consumer it would wait for ever, so it is cancelled. The stream
itself notices when its consumer drops it; here are the streams whose consumer still refers to them, but has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from railtracks.execution._call_scopes import RootCall
from railtracks.state import CallRecord, Status
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks.execution._call_log import CallLog


class StreamingSession(Protocol):
    """A session with calls whose text is streamed: the ``Coordinator``."""

    streams: OpenStreams | None
    state: RTState

    @property
    def outer(self) -> StreamingSession | None: ...
    @property
    def call_log(self) -> CallLog: ...


class OpenStreams:
    """The streams of one session that have not ended, each with the call that opened it and a way to cancel it.

    Attributes:
        reached: The indices of the calls of which a part of the text has reached a consumer.
    """

    def __init__(self) -> None:
        self.reached: set[int] = set()
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


def note_streamed(session: StreamingSession, record: CallRecord) -> None:
    """Note that a part of the text of a call has reached a consumer.

    So the call, and those above it, are not tried again: another attempt would send the text again.
    """
    at: CallRecord | None = record
    streams = session.streams = session.streams or OpenStreams()
    while at is not None and at.index not in streams.reached:
        streams.reached.add(at.index)
        at = session.state.caller(at)
    opened = session.call_log.outer
    if session.outer is not None and opened is not None:
        around = session.outer.state.entry(opened[1])
        if around is not None:
            note_streamed(session.outer, around)
