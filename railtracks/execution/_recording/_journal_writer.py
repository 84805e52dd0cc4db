"""The journal of a running session, as it is written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from railtracks._concurrency._group_commit import GroupCommit
from railtracks._concurrency._kinds import is_kind
from railtracks.state._journal._format import encode_entry
from railtracks.state._stores._fsync_thread import fsync_thread

if TYPE_CHECKING:
    from railtracks.state import Appender


class JournalState(Enum):
    """The state of a journal that is being written.

    ::

        DISABLED                                    the session keeps no journal
        NOT_OPENED --append--> OPEN                 the journal is created by its first entry
        NOT_OPENED, OPEN --any error--> FAILED      nothing more is appended; what is there is still synced
        any --finish, close, fork--> CLOSED         nothing more is appended or synced

    An entry that is appended in DISABLED, FAILED or CLOSED is ignored.
    """

    DISABLED = "disabled"
    NOT_OPENED = "not opened"
    OPEN = "open"
    FAILED = "failed"
    CLOSED = "closed"


def is_interrupt(exc: BaseException) -> bool:
    """Return whether an exception that came out of a store may be Ctrl-C, or what another signal raised.

    In other threads than the main one it cannot be. There, whatever a store raises is a failure of the store.
    """
    return not is_kind(exc, Exception) and threading.current_thread() is threading.main_thread()


_OPEN = JournalState.OPEN
_ACTIVE = (JournalState.NOT_OPENED, JournalState.OPEN)


class JournalWriter:
    """Writes the journal of one session. Its methods may be called from any thread.

    They raise nothing but what interrupts the main thread, such as Ctrl-C.

    Args:
        open_appender: Creates the journal, with everything that precedes the first entry; called by the first entry.
            None: the session keeps no journal.
        on_failure: Called with each exception of the store. Not called without a journal.
        is_synchronous: Whether calls wait, by ``wait_committed``, until their entries are on disk.
        syncs_later: Whether entries that nothing waits for are put on disk by a thread, a little later.

    Attributes:
        state: The state of the journal.
        is_active: Whether entries are accepted: the state is NOT_OPENED or OPEN. Kept beside the state because every
            call asks several times.
        is_synchronous: As given; False without a journal.
    """

    def __init__(
        self,
        open_appender: Callable[[], Appender] | None,
        on_failure: Callable[[BaseException], None] = lambda _: None,
        *,
        is_synchronous: bool = False,
        syncs_later: bool = False,
    ) -> None:
        self._open_appender = open_appender
        self._on_failure = on_failure
        self.is_synchronous: bool = is_synchronous and open_appender is not None
        self._must_schedule_sync = syncs_later and not is_synchronous  # the next entry schedules one
        self._appender: Appender | None = None
        # Held while the journal is synced, so that it is not finished or closed meanwhile: the sync of some stores
        # would bring back a journal that the document has replaced.
        self._lock = threading.RLock()
        self._commit = GroupCommit()
        self._scheduled_sync = self._run_scheduled_sync  # one object: each access makes another bound method
        self._set_state(JournalState.DISABLED if open_appender is None else JournalState.NOT_OPENED)

    def _set_state(self, state: JournalState) -> None:
        self.state = state
        self.is_active: bool = state in _ACTIVE

    def append(self, entry: str) -> None:
        """Append an entry. The first one creates the journal."""
        appender = self._appender if self.state is _OPEN else self._open()
        if appender is None:
            return
        try:
            appender.append(encode_entry(entry))
        except BaseException as exc:  # a user's store may raise anything
            self._fail(exc)
        if self._must_schedule_sync:
            self._must_schedule_sync = False
            fsync_thread.schedule(self._scheduled_sync)

    def _open(self) -> Appender | None:
        with self._lock:  # an abandoned worker thread may come here while the session ends
            if self.state is JournalState.NOT_OPENED:
                assert self._open_appender is not None
                try:
                    self._appender = self._open_appender()
                except BaseException as exc:  # a user's store may raise anything
                    self._fail(exc)
                else:
                    self._set_state(_OPEN)
                self._open_appender = None  # it refers to the recorded history, which may be large
            return self._appender if self.state is _OPEN else None

    async def wait_committed(self) -> None:
        """Wait until everything appended so far is on disk. Return at once if the journal has failed or is closed.

        Cancellation: the wait ends.
        """
        if self.is_active:
            await self._commit.wait(self.sync)

    def sync(self) -> None:
        """Put what was appended on disk. Blocks."""
        with self._lock:  # also while a failure is logged, so that the session does not end before
            try:
                if self._appender is not None and self.state is not JournalState.CLOSED:
                    self._appender.sync()
            except BaseException as exc:  # a user's store may raise anything
                self._fail(exc)

    def _run_scheduled_sync(self) -> None:
        self._must_schedule_sync = True
        self.sync()

    def finish(self) -> bool:
        """Stop writing, because the document is about to replace the journal. Blocks while a sync is running.

        Returns:
            Whether the journal is whole: it was opened, and has not failed.
        """
        with self._lock:
            is_whole = self.state is _OPEN
            self._set_state(JournalState.CLOSED)
        return is_whole

    def keep(self) -> None:
        """Put a finished journal on disk, because the document could not replace it. Blocks."""
        try:
            with self._lock:
                if self._appender is not None:
                    self._appender.sync()
        except BaseException as exc:  # a user's store may raise anything
            self._fail(exc)

    def close(self) -> None:
        """Close the journal. Blocks while a sync is running. Idempotent."""
        with self._lock:
            self._set_state(JournalState.CLOSED)
            appender, self._appender = self._appender, None
            self._open_appender = None
        if appender is not None:
            fsync_thread.cancel(self._scheduled_sync)
            try:
                appender.close()
            except BaseException as exc:  # a user's store may raise anything
                self._fail(exc)

    def detach_after_fork(self) -> None:
        """Stop writing in a forked child, without closing: the journal belongs to the parent."""
        self._lock = threading.RLock()  # a thread of the parent may have held it
        self._set_state(JournalState.CLOSED)
        self._appender = self._open_appender = None

    def _fail(self, exc: BaseException) -> None:
        if is_interrupt(exc):
            raise exc
        if self.state is not JournalState.CLOSED:
            self._set_state(JournalState.FAILED)
        self._on_failure(exc)
