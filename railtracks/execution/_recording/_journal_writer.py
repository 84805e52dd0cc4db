"""The journal of a running session, as it is written."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from railtracks._concurrency._background import Work, background
from railtracks._concurrency._group_commit import GroupCommit
from railtracks._concurrency._kinds import is_kind
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import RunLostError
from railtracks.state._journal._format import encode_entry, pack_prefix
from railtracks.state._stores._fsync_thread import fsync_thread

if TYPE_CHECKING:
    from railtracks._concurrency._threadless_commit import ThreadlessGroupCommit
    from railtracks.state import Appender


class JournalState(Enum):
    """The state of a journal that is being written.

    ::

        DISABLED                                    the session keeps no journal
        NOT_OPENED --append--> OPEN                 the journal is created by its first entry
        NOT_OPENED, OPEN --any error--> FAILED      nothing more is appended; what is there is still synced
        FAILED --begin_again--> BEGINNING           entries wait until the journal was written as a whole
        BEGINNING --written--> OPEN, --any error--> FAILED
        any --finish, close, fork--> CLOSED         nothing more is appended or synced

    An entry that is appended in DISABLED, FAILED or CLOSED is ignored.
    """

    DISABLED = "disabled"
    NOT_OPENED = "not opened"
    OPEN = "open"
    FAILED = "failed"
    BEGINNING = "beginning again"
    CLOSED = "closed"


def is_interrupt(exc: BaseException) -> bool:
    """Return whether an exception that came out of a store may be Ctrl-C, or what another signal raised.

    In other threads than the main one it cannot be. There, whatever a store raises is a failure of the store.
    """
    return not is_kind(exc, Exception) and threading.current_thread() is threading.main_thread()


_OPEN = JournalState.OPEN
_FAILED = JournalState.FAILED
_BEGINNING = JournalState.BEGINNING
_WRITTEN = (JournalState.NOT_OPENED, _OPEN, _BEGINNING)
RETRY_AFTER = 1.0
"""Seconds after a failure before the journal is begun again, at least."""
RETRY_SHARE = 10
"""How many times as long as the last try that took, at least, so that a large journal does not take all the time."""
_FROM_THREADS = ('{"e": "context"', '{"e": "read"')
"""The beginnings of entries that worker threads append, at any time."""


class Restart(NamedTuple):
    """How a journal is begun again after a failure."""

    open_appender: Callable[[Iterable[str]], tuple[Appender, int]]
    """Begins the journal with a new header and these entries, in place of the one that is there. Returns its appender
    and the checksum of its last entry."""
    on_begun: Callable[[], None]
    """Called when the journal is on disk again."""
    on_due: Callable[[], object]
    """Called when it may be begun again, if the store blocks; it should have ``begin_again`` called."""
    clock: Callable[[], float]
    """Returns monotonic seconds."""
    in_thread: bool
    """Whether this takes long, and is done in another thread."""
    prepare: Callable[[Iterable[str]], Callable[[Iterable[str]], tuple[Appender, int]]] | None = None
    """Writes another journal, with these entries. What it returns takes further ones, and puts it in place of the
    journal that is there, without a moment in which an entry is in neither. None: that is not possible."""


class JournalWriter:
    """Writes the journal of one session. Its methods may be called from any thread.

    They raise nothing but what interrupts the main thread, such as Ctrl-C.

    Args:
        open_appender: Creates the journal, with everything that precedes the first entry, and returns its appender and
            the checksum of its last entry; called by the first entry. None: the session keeps no journal.
        on_failure: Called with each exception of the store. Not called without a journal.
        is_synchronous: Whether calls wait, by ``wait_committed``, until their entries are on disk.
        syncs_later: Whether entries that nothing waits for are put on disk by a thread, a little later.
        restart: How the journal is begun again after a failure; None: it is not.
        before_sync: Called, and waited for, before entries that something waits for are put on disk.
        is_sync_due: Returns whether ``before_sync`` would do something.

    Attributes:
        state: The state of the journal.
        is_active: Whether entries are to be appended: the journal is written, or may be written again. Kept beside the
            state because every call asks several times.
        is_synchronous: As given; False without a journal.
        must_begin_again: Whether ``begin_again`` is to be called as soon as the state of the session has all that the
            recorder knows.
    """

    def __init__(
        self,
        open_appender: Callable[[], tuple[Appender, int]] | None,
        on_failure: Callable[[BaseException], None] = lambda _: None,
        *,
        is_synchronous: bool = False,
        syncs_later: bool = False,
        restart: Restart | None = None,
        before_sync: Callable[[], None] = lambda: None,
        is_sync_due: Callable[[], bool] = bool,
    ) -> None:
        self._open_appender = open_appender
        self._on_failure = on_failure
        self.is_synchronous: bool = is_synchronous and open_appender is not None
        self._must_schedule_sync = syncs_later  # the next entry schedules one
        self._restart = restart
        self._before_sync = before_sync
        self._is_sync_due = is_sync_due
        self._retry_at = -math.inf
        self._entries: Callable[[], Iterable[str]] | None = None  # what the journal begins with in BEGINNING
        self.must_begin_again: bool = False
        self._copies: list[str] | None = None  # entries that a journal which is being written anew lacks
        self._appender: Appender | None = None
        self._checksum = 0  # of the last entry that was appended; the next one goes on with it
        self._waiting: deque[str] = deque()  # entries that cannot be appended yet
        self._turn = threading.RLock()  # held by the thread that appends, because the order of entries is in them
        self._is_appending = False
        # Held while the journal is synced or begun again, so that it is not finished or closed meanwhile: some stores
        # would bring back a journal that the document has replaced.
        self._lock = threading.RLock()
        self._commit = GroupCommit()
        # A simulation waits for worker threads only, and decides when they run.
        self._may_do_without_threads = runtime_hooks.get().thread_scheduler is None
        self._threadless_commit: ThreadlessGroupCommit | None = None  # set if the store can do without them
        self._scheduled_sync = self._run_scheduled_sync  # one object: each access makes another bound method
        self._scheduled_retry = self._look_for_retry
        self._is_looking = False  # if no thread can be started, scheduling calls it at once
        self._set_state(JournalState.DISABLED if open_appender is None else JournalState.NOT_OPENED)

    def _set_state(self, state: JournalState) -> None:
        self.state = state
        self.is_active: bool = state in _WRITTEN or (state is _FAILED and self._restart is not None)

    def append(self, entry: str) -> None:
        """Append an entry. The first one creates the journal."""
        try:
            with self._turn:
                if self._is_appending:  # a signal handler came in the middle of an append
                    self._waiting.append(entry)
                    return
                self._is_appending = True
                appender = self._appender if self.state is _OPEN else self._open(entry)
                if appender is not None:  # as in `_write`, whose call would take as long as all this
                    content = entry.encode()
                    checksum = crc32(content, self._checksum)
                    appender.append(pack_prefix(len(content), checksum) + content)
                    self._checksum = checksum
                    if self._copies is not None:
                        self._copies.append(entry)
                self._is_appending = False
        except BaseException as exc:  # a user's store may raise anything
            self._is_appending = False
            if is_interrupt(exc) and self._restart is not None:  # it is not known whether the entry is there
                self._set_state(_FAILED)
                self._retry_at = -math.inf
            self._fail(exc)
        if self._waiting and self.state is _OPEN:
            self.append(self._waiting.popleft())
        if self._must_schedule_sync and self._appender is not None:
            self._must_schedule_sync = False
            fsync_thread.schedule(self._scheduled_sync)

    def _write(self, appender: Appender, entry: str) -> None:
        content, checksum = encode_entry(entry, self._checksum)
        appender.append(content)
        self._checksum = checksum

    def _open(self, entry: str) -> Appender | None:
        """Return the appender for an entry where the journal is not open; None if it cannot be appended now."""
        if self.state is _BEGINNING:
            self._waiting.append(entry)
            return None
        if self.state is _FAILED:
            if self._restart is not None and self._restart.clock() >= self._retry_at:
                self.must_begin_again = True
            return None
        with self._lock:  # an abandoned worker thread may come here while the session ends
            if self.state is JournalState.NOT_OPENED:
                assert self._open_appender is not None
                try:
                    self._appender, self._checksum = self._open_appender()
                except BaseException as exc:  # a user's store may raise anything
                    self._fail(exc)
                else:
                    self._do_without_threads_if_possible()
                    self._set_state(_OPEN)
                self._open_appender = None  # it refers to the recorded history, which may be large
            return self._appender if self.state is _OPEN else None

    def _do_without_threads_if_possible(self) -> None:
        if self._may_do_without_threads and hasattr(self._appender, "sync_soon"):
            from railtracks._concurrency._threadless_commit import ThreadlessGroupCommit  # here, as most stores cannot

            self._threadless_commit = ThreadlessGroupCommit(self._sync_soon)

    def begin_again(self, entries: Callable[[], Iterable[str]]) -> None:
        """Begin the journal again, as a whole, after it has failed. Entries that are appended from now on follow.

        Args:
            entries: Returns everything that the session has recorded until now. Called in another thread if the store
                blocks.
        """
        self.must_begin_again = False
        with self._turn:
            if self.state is not _FAILED or self._restart is None:
                return
            self._waiting.clear()
            self._copies = None  # those for a journal that a rewrite would put in place of this one
            self._entries = entries
            self._set_state(_BEGINNING)
        if self._restart.in_thread:
            background.submit(Work(self._begin))
        else:
            self._begin()

    def _begin(self) -> None:
        """Write the journal as a whole, unless that was done, or the session has ended."""
        restart = self._restart
        assert restart is not None
        with self._lock:
            entries, self._entries = self._entries, None
            if entries is None or self.state is not _BEGINNING:
                return
            began = restart.clock()
            old, self._appender = self._appender, None
            try:
                if old is not None:
                    old.close()
                known: set[str] = set()
                self._appender, self._checksum = restart.open_appender(_watched(entries(), known))
                self._append_waiting(self._appender, known)
            except BaseException as exc:  # a user's store may raise anything
                if is_kind(exc, RunLostError):
                    self._fail(exc)
                    return
                self._set_state(_FAILED)
                self._retry_at = restart.clock() + max(RETRY_AFTER, RETRY_SHARE * (restart.clock() - began))
                self._schedule_retry()
                if is_interrupt(exc):
                    raise
                return
        restart.on_begun()

    @property
    def is_rewriting(self) -> bool:
        """Whether the journal is being written anew. If it fails meanwhile, it is not: what is prepared is not used."""
        return self._copies is not None and self.state is _OPEN

    def rewrite(self, entries: Callable[[], Iterable[str]]) -> None:
        """Write the journal anew, with fewer entries that say the same. Meanwhile the one that is there goes on.

        Args:
            entries: Returns everything that the session has recorded until now. Called in another thread if the store
                blocks.
        """
        restart = self._restart
        if restart is None or restart.prepare is None:
            return
        with self._turn:
            if self.state is not _OPEN or self._copies is not None:
                return
            copies: list[str] = []
            self._copies = copies
        rewrite = partial(self._rewrite, restart.prepare, entries, copies)
        if restart.in_thread:
            background.submit(Work(rewrite))
        else:
            rewrite()

    def _rewrite(
        self,
        prepare: Callable[[Iterable[str]], Callable[[Iterable[str]], tuple[Appender, int]]],
        entries: Callable[[], Iterable[str]],
        copies: list[str],
    ) -> None:
        """Put a journal with ``entries`` in place of the present one, with ``copies``, which have come since."""
        with self._lock:  # so that it does not end meanwhile
            try:
                if self.state is not _OPEN or self._copies is not copies:  # it has failed, or was begun again
                    return
                put = prepare(entries())
                with self._turn:
                    if self.state is not _OPEN or self._copies is not copies:
                        return
                    old = self._appender
                    self._appender, self._checksum = put(copies)
                    self._copies = None  # from here on the next rewrite may begin, with copies of its own
                if old is not None:
                    old.close()
                self._sync_entries()
            except BaseException as exc:  # a user's store may raise anything
                self._fail(exc)
            finally:
                with self._turn:
                    if self._copies is copies:
                        self._copies = None

    def _append_waiting(self, appender: Appender, known: set[str]) -> None:
        """Append the entries that have waited, but for those that are ``known`` to be there, and put all on disk."""
        appender.sync()  # first, because this takes long
        with self._turn:
            while self._waiting:
                entry = self._waiting.popleft()
                if entry not in known:
                    self._write(appender, entry)
            self._set_state(_OPEN)
        appender.sync()

    async def wait_committed(self) -> None:
        """Wait until everything appended so far is on disk. Return at once if the journal has failed or is closed.

        Cancellation: the wait ends.
        """
        if self._threadless_commit is not None and self.state is _OPEN and not self._is_sync_due():
            await self._threadless_commit.wait()
        elif self.state in _WRITTEN:
            await self._commit.wait(self.sync)

    def sync(self) -> None:
        """Put what was appended on disk, and the large values to which it refers. Blocks."""
        self._before_sync()
        self._sync_entries()

    def _sync_entries(self) -> None:
        with self._lock:  # also while a failure is logged, so that the session does not end before
            try:
                if self.state is _BEGINNING:
                    self._begin()
                elif self._appender is not None and self.state is not JournalState.CLOSED:
                    self._appender.sync()
            except BaseException as exc:  # a user's store may raise anything
                self._fail(exc)

    def _run_scheduled_sync(self) -> None:
        self._must_schedule_sync = True
        if self._threadless_commit is not None and self.state is _OPEN:
            self._sync_soon(bool)
        else:
            self._sync_entries()

    def _sync_soon(self, on_done: Callable[[], object]) -> None:
        """Have entries put on disk by the store, and then ``on_done`` called, in any thread."""

        def on_synced(exc: BaseException | None) -> None:
            if exc is None and self._appender is not appender:  # written anew meanwhile: the entries are there
                self._sync_soon(on_done)
            elif exc is None:
                on_done()
            else:  # in a thread of ours, as this may wait until the session lets it
                background.submit(Work(lambda: fail(exc)))

        def fail(exc: BaseException) -> None:
            try:
                self._fail(exc)
            finally:
                on_done()

        appender: Any = self._appender
        if appender is None:
            on_done()
            return
        try:
            appender.sync_soon(on_synced)
        except BaseException as exc:  # a user's store may raise anything
            on_synced(exc)

    def finish(self) -> bool:
        """Stop writing, because the document is about to replace the journal. Blocks while a sync is running.

        Returns:
            Whether the journal is whole: it was opened, and has not failed.
        """
        with self._lock:
            is_whole = self.state is _OPEN
            self._set_state(JournalState.CLOSED)
            settle: Callable[[], object] | None = getattr(self._appender, "settle", None)
            if settle is not None:  # or it would bring back the journal
                settle()
            self._entries = None
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
            self._open_appender = self._entries = None
        if self._restart is not None:
            fsync_thread.cancel(self._scheduled_retry)
        if appender is not None:
            fsync_thread.cancel(self._scheduled_sync)
            try:
                appender.close()
            except BaseException as exc:  # a user's store may raise anything
                self._fail(exc)

    def detach_after_fork(self) -> None:
        """Stop writing in a forked child, without closing: the journal belongs to the parent."""
        self._lock = threading.RLock()  # a thread of the parent may have held it
        self._turn = threading.RLock()
        self._set_state(JournalState.CLOSED)
        self._appender = self._open_appender = self._entries = None

    def _fail(self, exc: BaseException) -> None:
        if is_interrupt(exc):
            raise exc
        if is_kind(exc, RunLostError):  # another session writes it
            self._restart = None
        if self.state is not JournalState.CLOSED:
            self._set_state(_FAILED)
        if self._restart is not None:
            self._retry_at = self._restart.clock() + RETRY_AFTER
            self._schedule_retry()
        self._on_failure(exc)

    def _schedule_retry(self) -> None:
        """Have :meth:`_look_for_retry` called, as long as the journal has failed, and not after it was closed."""
        with self._lock:
            if self.state is _FAILED and self._restart is not None and self._restart.in_thread:
                fsync_thread.schedule(self._scheduled_retry)

    def _look_for_retry(self) -> None:
        """Have the journal begun again when it is time, also if nothing is appended meanwhile."""
        restart = self._restart
        if restart is None or self.state is not _FAILED or self._is_looking:
            return
        self._is_looking = True
        try:
            if restart.clock() >= self._retry_at:
                self.must_begin_again = True
                restart.on_due()
            self._schedule_retry()
        finally:
            self._is_looking = False


def _watched(entries: Iterable[str], known: set[str]) -> Iterator[str]:
    """Yield entries, and note those that worker threads may append once more, as they had recorded them before."""
    for entry in entries:
        if entry.startswith(_FROM_THREADS):
            known.add(entry)
        yield entry
