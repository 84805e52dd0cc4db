"""The storage of one run: the right to write it, and the document that takes the place of its journal.

A failure to write does not harm the flow: it is logged as an error, once, and the session goes on without.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from railtracks._concurrency._after_fork import after_fork
from railtracks._logging import SESSION, SessionLog
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import RunInUseError
from railtracks.execution._recording._journal_writer import JournalWriter, is_interrupt
from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.state._document._writer import encoded
from railtracks.state._file_system import is_blocking
from railtracks.state._journal import _format as journal
from railtracks.state._stores._runs import warn_if_many_runs

if TYPE_CHECKING:
    from railtracks.state import Lock, Store

_GO_ON = 'To go on with such a run when the program is started again, use if_exists="resume".'
_storages: weakref.WeakSet[RunStorage] = weakref.WeakSet()


class RunStorage:
    """The right of one session to write its run, and what is written there.

    Its life: ``acquire``, ``start``, ``save`` (unless the session aborts), ``release``.

    Args:
        store: The store that keeps the run.
        durability: "exit", "async" or "sync".
        log: The log of the session. It must be open.
    """

    def __init__(self, store: Store, durability: str, log: SessionLog) -> None:
        self._store: Store | None = store  # None in a forked child
        self._durability = durability
        self._log = log
        self._identifier = ""
        self._lock: Lock | None = None
        self._lock_failure: BaseException | None = None  # logged by `start`, since the log is opened after `acquire`
        self._journal: JournalWriter | None = None  # None before `start` and after `release`
        self._archive_identifier: str | None = None  # None if no stale journal can be in the way
        self._has_failed = False
        self._guard = threading.Lock()  # of `_has_failed`

    def acquire(self, identifier: str) -> None:
        """Acquire the lock on the run. If the store fails otherwise, :meth:`start` logs it and writes no journal.

        Raises:
            RunInUseError: Another session holds the lock.
        """
        assert self._store is not None
        self._identifier = identifier
        try:
            self._lock = self._store.lock(identifier)
        except RunInUseError:
            raise
        except BaseException as exc:  # a user's store may raise anything
            if is_interrupt(exc):
                raise
            self._lock_failure = exc
        _storages.add(self)

    def start(
        self, facts: dict[str, str | float | None], history: Sequence[CallRecord] | None, archive_identifier: str | None
    ) -> JournalWriter:
        """Return the writer of the run's journal. Blocks.

        Args:
            facts: The members of the document that describe the session.
            history: The records of the run that the session resumes; None if it resumes nothing.
            archive_identifier: The identifier under which to archive a journal that an earlier session left when its
                process died; None: the new journal replaces it.
        """
        store = self._store
        assert store is not None
        self._archive_identifier = archive_identifier
        try:
            if self._lock_failure is not None:
                raise self._lock_failure
            self._archive_stale_journal(store)
        except BaseException as exc:  # a user's store may raise anything
            if is_interrupt(exc):
                raise
            self._on_failure(exc)
        open_appender = None
        if self._durability != "exit" and not self._has_failed:
            entries = [journal.header_entry(facts)]
            if history is not None:
                entries += [*journal.entries_of(history, 0.0), journal.ATTEMPT_ENTRY]
            preamble = b"".join(map(journal.encode_entry, entries))
            open_appender = partial(store.open, self._identifier, preamble, history is not None)
        self._journal = JournalWriter(
            open_appender,
            self._on_failure,
            is_synchronous=self._durability == "sync",
            syncs_later=is_blocking(store),
        )
        return self._journal

    def _archive_stale_journal(self, store: Store) -> None:
        """Move the journal of a session that died out of the way of this session's journal and document."""
        archive = self._archive_identifier
        if self._lock is not None and archive is not None:
            if store.move_journal(self._identifier, archive):
                self._log_archived_run(archive, store)
            self._archive_identifier = None

    def _log_archived_run(self, archive: str, store: Store) -> None:
        from railtracks.state._journal._reader import has_torn_header
        from railtracks.state._stores._headers import HEADER_BYTES, read_journal_header

        stored = store.read(archive)
        if stored is None or stored.journal is None:
            return
        if has_torn_header(stored.journal):
            store.remove(archive)  # it holds no call
            return
        can_resume = bool(read_journal_header(stored.journal[:HEADER_BYTES]))
        also = "and can be resumed" if can_resume else "but its beginning is damaged"
        self._log.log(
            logging.WARNING, "An earlier run %s did not end; its journal is kept as %s, %s. %s",
            self._identifier, archive, also, _GO_ON, logger=SESSION,
        )  # fmt: skip

    def save(self, info: ExecutionInfo, overwrites_no_other: bool) -> None:
        """Save the document of the session, which has ended, in place of the journal. Blocks. Failures are logged.

        Args:
            info: The snapshot to save.
            overwrites_no_other: Whether there can be no document but that of the run which the session resumes. One
                that exists is overwritten without a warning then.
        """
        store = self._store
        if store is None:
            return
        self._warn_before_saving(store, overwrites_no_other)
        if self._log.is_enabled_for(logging.INFO):
            self._log.log(logging.INFO, "Saving execution info to %s", self._location(), logger=SESSION)
        journal_is_whole = False
        try:
            self._archive_stale_journal(store)
            if self._journal is not None:
                journal_is_whole = self._journal.finish()
            store.save(self._identifier, encoded(info.document()))
        except BaseException as exc:  # a user's store may raise anything
            self._on_save_failure(exc, journal_is_whole)
            if is_interrupt(exc):
                raise

    def _on_save_failure(self, exc: BaseException, journal_is_whole: bool) -> None:
        # After a failed journal this is not a second error: its message said that saving may fail too.
        level = logging.ERROR if self._is_first_failure() else logging.WARNING
        try:
            self._log.log(
                level, "The execution info could not be saved to %s: %s%s",
                self._location(), exc, "; its journal is kept" if journal_is_whole else "",
                logger=SESSION, exc_info=exc,
            )  # fmt: skip
        finally:
            if self._journal is not None:
                self._journal.keep()

    def _warn_before_saving(self, store: Store, overwrites_no_other: bool) -> None:
        """Warn of a document that will be overwritten, and of very many runs. A store that fails is only logged."""
        try:
            if not overwrites_no_other and store.exists(self._identifier):
                text = "File %s already exists, overwriting..."
                self._log.log(logging.WARNING, text, self._location(), logger=SESSION)
                self._keep_unfinished_run(store)
            warn_if_many_runs(store, lambda text: self._log.log(logging.WARNING, "%s", text, logger=SESSION))
        except BaseException as exc:  # a user's store may raise anything; or the folder may not be read
            if is_interrupt(exc):
                raise
            text = "Cannot check for other runs at %s: %s"
            self._log.log(logging.WARNING, text, self._location(), exc, logger=SESSION)

    def _keep_unfinished_run(self, store: Store) -> None:
        """Keep the document of an earlier run, which is about to be overwritten, unless that run had completed."""
        from railtracks.state._stores._headers import HEADER_BYTES, read_document_header

        stored = store.read(self._identifier)
        if stored is None or stored.document is None:
            return
        status = read_document_header(stored.document[:HEADER_BYTES]).get("status")
        if status not in (None, Status.COMPLETED):
            kept = f"{self._identifier[:100]}.{runtime_hooks.get().new_id()[:8]}"
            store.save(kept, [stored.document])
            self._log.log(
                logging.WARNING, "The earlier run %s had not completed (%s); it is kept as %s. %s",
                self._identifier, status, kept, _GO_ON, logger=SESSION,
            )  # fmt: skip

    def release(self) -> None:
        """Close the journal and release the lock. Idempotent."""
        writer, self._journal = self._journal, None
        lock, self._lock = self._lock, None
        try:
            if writer is not None:
                writer.close()
        finally:
            if lock is not None:
                try:
                    lock.release()
                except BaseException as exc:  # a user's store may raise anything
                    if is_interrupt(exc):
                        raise
                    self._on_failure(exc)

    def detach_after_fork(self) -> None:
        """Write nothing in a forked child: the run, its journal and its lock belong to the parent."""
        if self._journal is not None:
            self._journal.detach_after_fork()
        self._store = self._lock = None

    def _is_first_failure(self) -> bool:
        """Note a failure, and return whether it is the first one. The journal may be synced by another thread."""
        with self._guard:
            is_first, self._has_failed = not self._has_failed, True
        return is_first

    def _on_failure(self, exc: BaseException) -> None:
        if self._is_first_failure():
            self._log.log(
                logging.ERROR,
                "The journal beside %s cannot be written: %s; the session goes on, and is saved at its end if possible",
                self._location(), exc, logger=SESSION, exc_info=exc,
            )  # fmt: skip

    def _location(self) -> str:
        """Return the location of the document, for people."""
        return self._identifier if self._store is None else _display_path(self._store.where(self._identifier))


def _display_path(location: str) -> str:
    """Return a path relative to the working directory if it lies below it."""
    try:
        return location.removeprefix(f"{os.getcwd()}{os.sep}")
    except OSError:  # the working directory is gone
        return location


@after_fork
def _detach_all_after_fork() -> None:
    for storage in _storages:
        storage.detach_after_fork()
