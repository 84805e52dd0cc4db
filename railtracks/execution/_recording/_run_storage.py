"""The storage of one run: the right to write it, and the document that takes the place of its journal.

A failure to write is logged as an error, once, and does not harm the flow: the session goes on without, and tries again
later. With ``on_write_error="stop"`` it ends the session instead.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._kinds import is_kind
from railtracks._logging import SESSION, SessionLog
from railtracks._test_hooks import runtime_hooks
from railtracks._wording import MAX_NAMES
from railtracks.exceptions import RunInUseError, RunLostError, StateError, StoreError
from railtracks.execution._recording._journal_writer import JournalWriter, Restart, is_interrupt
from railtracks.execution._recording._value_keeper import ValueKeeper
from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.state._document._compression import compress_large
from railtracks.state._document._writer import DOCUMENT_BEGINS, encoded
from railtracks.state._file_system import is_blocking
from railtracks.state._journal import _format as journal
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._stores._run_counts import warn_if_many_runs
from railtracks.state._stores._values import find_value_store

if TYPE_CHECKING:
    from railtracks.state import Appender, Lock, Store
    from railtracks.state._stores._files import PreparedJournal

_GO_ON = 'To go on with such a run when the program is started again, use if_exists="resume".'
_storages: weakref.WeakSet[RunStorage] = weakref.WeakSet()


class RunStorage:
    """The right of one session to write its run, and what is written there.

    Its life: ``acquire``, ``start``, ``save`` (unless the session aborts), ``release``.

    Args:
        store: The store that keeps the run.
        durability: "exit", "async" or "sync".
        log: The log of the session. It must be open.
        on_error: "continue" or "stop".
        redactor: The secrets that the session knows.

    Attributes:
        save_error: Why the run is not on record as it ended: its state was not saved, and its journal is not whole.
        write_error: Why the session has to end: something could not be written, and ``on_error`` is "stop"; or another
            session has the run.
        on_stop: Called when ``write_error`` is set, in any thread.
        on_retry_due: Called when the journal may be begun again, in another thread than that of the event loop.
        kept_identifier: The identifier under which an earlier run is kept, if that is settled: its messages are there.
        values: Keeps the large values of the session; None if the store cannot.
        kept_at: Where the run is once ``save`` has ended, for people.
        saved_as: The identifier under which ``save`` has kept the run; None if it is not on record.
    """

    def __init__(
        self,
        store: Store,
        durability: str,
        log: SessionLog,
        on_error: str = "continue",
        redactor: Redactor | None = None,
    ) -> None:
        self._store: Store | None = store  # None in a forked child
        self._durability = durability
        self._log = log
        self._redactor = redactor or Redactor()
        self.values: ValueKeeper | None = None
        self.kept_at = "not saved yet"
        self.saved_as: str | None = None
        self._identifier = ""
        self._lock: Lock | None = None
        self._lock_failure: BaseException | None = None  # logged by `start`, since the log is opened after `acquire`
        self._prepared: PreparedJournal | None = None  # set if the session resumes a run
        self._opened: Appender | None = None  # in place of that, if the journal was begun at once
        self._journal: JournalWriter | None = None  # None before `start` and after `release`
        self._archive_identifier: str | None = None  # None if no stale journal can be in the way
        self.kept_identifier: str | None = None
        self._stops = on_error == "stop"
        self.write_error: StateError | None = None
        self.save_error: BaseException | None = None
        self.on_stop: Callable[[StateError], object] = bool
        self.on_retry_due: Callable[[], object] = bool
        self._has_failed = False
        self._guard = threading.Lock()  # of `_has_failed`

    def acquire(self, identifier: str) -> None:
        """Acquire the lock on the run. If the store fails otherwise, :meth:`start` logs it and writes no journal.

        Raises:
            RunInUseError: Another session holds the lock.
            StoreError: The database does not exist, or refuses this role, which does not pass by itself.
        """
        assert self._store is not None
        self._identifier = identifier
        if (values := find_value_store(self._store)) is not None:
            at_once = self._durability != "exit"
            self.values = ValueKeeper(values, identifier, self._redactor, self._on_failure, at_once)
        try:
            self._lock = self._store.lock(identifier)
        except RunInUseError:
            raise
        except BaseException as exc:  # a user's store may raise anything
            if is_interrupt(exc) or (isinstance(exc, StoreError) and not exc.temporary):
                raise
            self._lock_failure = exc
        _storages.add(self)

    def start(
        self,
        facts: dict[str, str | float | None],
        history: Sequence[CallRecord] | None,
        archive_identifier: str | None,
        restarts: int = 0,
    ) -> JournalWriter:
        """Return the writer of the run's journal. Blocks.

        Args:
            facts: The members of the document that describe the session.
            history: The records of the run that the session resumes; None if it resumes nothing.
            archive_identifier: The identifier under which to archive a journal that an earlier session left when its
                process died; None: the new journal replaces it.
            restarts: How many sessions in a row, this one included, have resumed the run because a process had died.

        Raises:
            StateError: Nothing can be recorded, and ``on_error`` is "stop".
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
        lock: Any = self._lock
        if hasattr(lock, "on_lost"):
            lock.on_lost = self._on_failure
        open_appender: Callable[[], tuple[Appender, int]] | None = None
        if self._durability != "exit" and not self._has_failed:
            entries = [journal.header_entry(facts, journal.new_journal_id())]
            if history is None:
                open_appender = partial(self._open_journal, *journal.encode_entries(entries))
            else:
                known = chain(entries, journal.entries_of(history), [journal.attempt_entry(restarts)])
                open_appender = self._prepare_journal(store, journal.EncodedEntries(known), restarts > 0)
        if self.write_error is not None:
            raise self.write_error
        restart = Restart(
            partial(self._begin_journal_again, facts), self._on_begun_again, self._on_retry_due,
            runtime_hooks.get().clock, is_blocking(store), partial(self._prepare_again, facts),
        )  # fmt: skip
        self._journal = JournalWriter(
            open_appender,
            self._on_failure,
            is_synchronous=self._durability == "sync",
            syncs_later=is_blocking(store),
            restart=None if self._stops or open_appender is None else restart,
            before_sync=self._flush_values,
            is_sync_due=self._is_flush_due,
        )
        return self._journal

    def _open_journal(self, content: bytes, checksum: int, durable: bool = False) -> tuple[Appender, int]:
        assert self._store is not None
        return self._store.open(self._identifier, content, durable), checksum

    def _prepare_journal(
        self, store: Store, content: journal.EncodedEntries, counts: bool
    ) -> Callable[[], tuple[Appender, int]]:
        """Return what begins the journal with all that is known of a resumed run, which may be very long.

        It is called on the event loop, so as much as possible is written before.

        Args:
            store: The store.
            content: What is known.
            counts: Whether it must be on disk before anything runs, as a process that dies at once is to be counted.
        """
        prepare: Callable[[str, Iterable[bytes]], PreparedJournal] | None = getattr(store, "prepare", None)
        try:
            if prepare is None:
                whole = b"".join(content)
                if not counts:
                    return lambda: (store.open(self._identifier, whole, True), content.checksum)
                opened = self._opened = store.open(self._identifier, whole, True)
                opened.sync()
                return lambda: (opened, content.checksum)
            prepared = self._prepared = prepare(self._identifier, content)
        except BaseException as exc:  # a store may raise anything
            return partial(_raise, exc)
        return lambda: (prepared.open(), content.checksum)

    def _begin_journal_again(
        self, facts: dict[str, str | float | None], entries: Iterable[str]
    ) -> tuple[Appender, int]:
        header = journal.header_entry(facts, journal.new_journal_id())
        return self._open_journal(*journal.encode_entries(chain([header], entries)), True)

    def _prepare_again(
        self, facts: dict[str, str | float | None], entries: Iterable[str]
    ) -> Callable[[Iterable[str]], tuple[Appender, int]]:
        """Write a journal beside the present one, and return what puts it in place, with further entries. Blocks."""
        store = self._store
        assert store is not None
        header = journal.header_entry(facts, journal.new_journal_id())
        content = journal.EncodedEntries(chain([header], entries))
        prepare: Callable[[str, Iterable[bytes]], PreparedJournal] | None = getattr(store, "prepare", None)
        if prepare is None:
            whole = b"".join(content)

            def put(further: Iterable[str]) -> tuple[Appender, int]:
                more, checksum = _encode_further(further, content.checksum)
                return store.open(self._identifier, whole + more, True), checksum

            return put
        prepared = prepare(self._identifier, content)

        def put_prepared(further: Iterable[str]) -> tuple[Appender, int]:
            more, checksum = _encode_further(further, content.checksum)
            try:
                prepared.append(more)
                return prepared.open(), checksum
            except BaseException:
                prepared.discard()
                raise

        return put_prepared

    def _archive_stale_journal(self, store: Store) -> None:
        """Move the journal of a session that died out of the way of this session's journal and document."""
        archive = self._archive_identifier
        if self._lock is not None and archive is not None:
            copied = () if self.values is None else self.values.copy_to(archive)
            if store.move_journal(self._identifier, archive):
                self._log_archived_run(archive, store)
            elif self.values is not None and copied:
                self.values.remove_from(archive, copied)
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

    def save(
        self, info: ExecutionInfo, overwrites_no_other: bool, earlier: tuple[ExecutionInfo, list[str]] | None = None
    ) -> bool:
        """Save the document of the session, which has ended, in place of the journal. Blocks. Failures are logged.

        Returns:
            Whether it is saved.

        Args:
            info: The snapshot to save.
            overwrites_no_other: Whether there can be no document but that of the run which the session resumes. One
                that exists is overwritten without a warning then.
            earlier: The run that this one has gone on with, to be kept under another identifier, and the names of the
                calls in it that this one has not made. None: nothing of it is left out.
        """
        store = self._store
        if store is None:
            return False
        if self.is_lost:
            self.kept_at, self.save_error = "not saved, as another session has it", self.write_error
            return False
        obstacle = self._warn_before_saving(store, overwrites_no_other)
        if earlier is not None:
            obstacle = obstacle or self._keep_left_out(store, *earlier)
        if self._log.is_enabled_for(logging.DEBUG):
            self._log.log(logging.DEBUG, "Saving execution info to %s", self._location(), logger=SESSION)
        journal_is_whole = False
        try:
            self._archive_stale_journal(store)
            if self._journal is not None:
                journal_is_whole = self._journal.finish()
            if obstacle is not None:
                self._save_elsewhere(store, info, obstacle, journal_is_whole)
                return not journal_is_whole
            self._save_document(store, self._identifier, info)
            self.kept_at, self.saved_as = f"in {self._location()}", self._identifier
            if self.values is not None:
                self.values.remove_others()
        except BaseException as exc:  # a user's store may raise anything
            if (self._stops and not journal_is_whole) or is_kind(exc, RunLostError):
                self._set_write_error(exc)
            self.save_error = None if journal_is_whole else exc
            self._on_save_failure(exc, journal_is_whole)
            if is_interrupt(exc):
                raise
            return False
        return True

    def _is_flush_due(self) -> bool:
        return self.values is not None and self.values.is_flush_due

    def _flush_values(self) -> None:
        if self.values is not None:
            self.values.flush()

    def _save_document(self, store: Store, identifier: str, info: ExecutionInfo) -> None:
        document = info.document()
        self._flush_values()
        if self.values is not None:
            document = self.values.watch(document)
        store.save(identifier, compress_large(encoded(document)))

    def _save_elsewhere(
        self, store: Store, info: ExecutionInfo, obstacle: BaseException, journal_is_whole: bool
    ) -> None:
        """Keep the run where it does not overwrite an earlier one, which is still needed and could not be moved.

        Args:
            store: The store.
            info: The snapshot to save.
            obstacle: Why the earlier run could not be moved.
            journal_is_whole: Whether the journal has all of this run. Then it stays, and is read in place of the
                earlier document. Otherwise the run gets another identifier.
        """
        kept_as = self._other_identifier()
        if journal_is_whole:
            kept_as = "its journal"
            assert self._journal is not None
            self._journal.keep()
        else:
            self._save_document(store, kept_as, info)
            if self.values is not None:
                self.values.copy_to(kept_as)
        self.kept_at = f"in its journal beside {self._location()}" if journal_is_whole else f"kept as {kept_as}"
        self.saved_as = self._identifier if journal_is_whole else kept_as
        self._is_first_failure()
        self._log.log(
            logging.ERROR,
            "The earlier run %s could not be kept under another identifier (%s); it is not "
            "overwritten, and this run is kept as %s",
            self._identifier, obstacle, kept_as, logger=SESSION, exc_info=_shown_with(obstacle), must_be_seen=True,
        )  # fmt: skip

    def _on_save_failure(self, exc: BaseException, journal_is_whole: bool) -> None:
        # After a failed journal this is not a second error: its message said that saving may fail too.
        level = logging.ERROR if self._is_first_failure() else logging.WARNING
        self.kept_at = f"in its journal beside {self._location()}" if journal_is_whole else "not saved"
        self.saved_as = self._identifier if journal_is_whole else None
        try:
            self._log.log(
                level, "The execution info could not be saved to %s: %s%s",
                self._location(), exc, "; its journal is kept" if journal_is_whole else "",
                logger=SESSION, exc_info=_shown_with(exc), must_be_seen=True,
            )  # fmt: skip
        finally:
            if self._journal is not None:
                self._journal.keep()

    def _warn_before_saving(self, store: Store, overwrites_no_other: bool) -> BaseException | None:
        """Warn of a document that will be overwritten, and of very many runs. A store that fails is only logged.

        Returns:
            Why the document may not be overwritten; None if it may.
        """
        obstacle: BaseException | None = None
        try:
            if not overwrites_no_other and store.exists(self._identifier):
                is_kept, obstacle = self._keep_unfinished_run(store)
                if not is_kept and obstacle is None:
                    text = "File %s already exists, overwriting..."
                    self._log.log(logging.WARNING, text, self._location(), logger=SESSION)
            warn_if_many_runs(store, lambda text: self._log.log(logging.WARNING, "%s", text, logger=SESSION))
        except BaseException as exc:  # a user's store may raise anything; or the folder may not be read
            if is_interrupt(exc):
                raise
            text = "Cannot check for other runs at %s: %s"
            self._log.log(logging.WARNING, text, self._location(), exc, logger=SESSION)
        return obstacle

    def _keep_unfinished_run(self, store: Store) -> tuple[bool, BaseException | None]:
        """Keep the document of an earlier run, which is about to be overwritten, unless that run had completed.

        Returns:
            Whether it is kept, and why that was not possible.
        """
        try:
            stored = store.read(self._identifier)
            document = None if stored is None else stored.document
            status = None if document is None else _unfinished_status(document)
            if document is not None and status is not None:
                kept = self.kept_identifier or self._other_identifier()
                if self.values is not None:
                    self.values.copy_to(kept)
                store.save(kept, [document])
                self._log.log(
                    logging.WARNING, "The earlier run %s had not completed (%s); it is kept as %s. %s",
                    self._identifier, status, kept, _GO_ON, logger=SESSION,
                )  # fmt: skip
                return True, None
        except BaseException as exc:  # a user's store may raise anything
            if is_interrupt(exc):
                raise
            return False, exc
        return False, None

    def _keep_left_out(self, store: Store, earlier: ExecutionInfo, names: list[str]) -> BaseException | None:
        """Keep an earlier run, as this one has not made all the calls that it had completed.

        Returns:
            Why that was not possible.
        """
        try:
            kept = self._other_identifier()
            if self.values is not None:
                self.values.copy_to(kept)
            store.save(kept, compress_large(encoded(earlier.document())))
        except BaseException as exc:  # a user's store may raise anything
            if is_interrupt(exc):
                raise
            return exc
        shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        self._log.log(
            logging.WARNING,
            "%d call%s that the earlier run %s had completed %s not made again (%s); that run is kept as %s",
            len(names), "s" * (len(names) > 1), self._identifier, "were" if len(names) > 1 else "was", shown, kept,
            logger=SESSION,
        )  # fmt: skip
        return None

    def _other_identifier(self) -> str:
        return f"{self._identifier[:100]}.{runtime_hooks.get().new_id()[:8]}"

    def release(self) -> None:
        """Close the journal and release the lock. Idempotent."""
        writer, self._journal = self._journal, None
        lock, self._lock = self._lock, None
        prepared, self._prepared = self._prepared, None
        opened, self._opened = self._opened, None
        discard = None if prepared is None else prepared.discard
        close = None if opened is None else opened.close  # the writer has done that if there was a call
        try:
            if writer is not None:
                writer.close()
        finally:
            for step in (discard, close, None if lock is None else lock.release):
                try:
                    if step is not None:
                        step()
                except BaseException as exc:  # a user's store may raise anything
                    if is_interrupt(exc):
                        raise
                    self._on_failure(exc)

    def detach_after_fork(self) -> None:
        """Write nothing in a forked child: the run, its journal and its lock belong to the parent."""
        if self._journal is not None:
            self._journal.detach_after_fork()
        if self.values is not None:
            self.values.detach_after_fork()
        self._store = self._lock = self._prepared = self._opened = None

    def _is_first_failure(self) -> bool:
        """Note a failure, and return whether it is the first one. The journal may be synced by another thread."""
        with self._guard:
            is_first, self._has_failed = not self._has_failed, True
        return is_first

    def _on_failure(self, exc: BaseException) -> None:
        is_lost = is_kind(exc, RunLostError)
        is_first = self._is_first_failure()
        if self.is_lost or not (is_first or is_lost):
            return
        also = "the session goes on, and is saved at its end if possible"
        if is_lost:
            also = "the session ends"
        elif self._stops:
            also = 'the session ends, because on_write_error is "stop"'
        self._log.log(
            logging.ERROR, "The journal beside %s cannot be written: %s; %s", self._location(), exc, also,
            logger=SESSION, exc_info=_shown_with(exc), must_be_seen=True,
        )  # fmt: skip
        if self._stops or is_lost:
            self._set_write_error(exc)

    @property
    def is_lost(self) -> bool:
        """Whether another session has the run, so that this one may not write it."""
        return is_kind(self.write_error, RunLostError)

    def _set_write_error(self, exc: BaseException) -> None:
        if is_kind(exc, RunLostError):
            if not self.is_lost:
                self.write_error = exc
                self.on_stop(exc)
        elif self.write_error is None:
            self.write_error = error = StateError(
                f"the run {self._identifier!r} cannot be recorded at {self._location()}: {exc}; repair that, or use "
                f'on_write_error="continue" to go on without a record'
            )
            error.__cause__ = exc
            self.on_stop(error)

    def _on_retry_due(self) -> None:
        self.on_retry_due()

    def _on_begun_again(self) -> None:
        with self._guard:
            self._has_failed = False
        self._log.log(
            logging.WARNING, "The journal beside %s is written again; it has all calls so far", self._location(),
            logger=SESSION,
        )  # fmt: skip

    def _location(self) -> str:
        """Return the location of the document, for people."""
        return self._identifier if self._store is None else _display_path(self._store.where(self._identifier))


def _encode_further(entries: Iterable[str], checksum: int) -> tuple[bytes, int]:
    """Return entries that follow one with this checksum, and the checksum of the last one."""
    parts = []
    for entry in entries:
        part, checksum = journal.encode_entry(entry, checksum)
        parts.append(part)
    return b"".join(parts), checksum


def _shown_with(exc: BaseException) -> BaseException | None:
    """Return the exception to show below its message: none of a full disk or a lost run, which is no fault of code."""
    return None if isinstance(exc, (OSError, RunLostError)) else exc


def _raise(exc: BaseException) -> tuple[Appender, int]:
    raise exc


def _unfinished_status(document: bytes) -> str | None:
    """Return the status of a run, or what stands for it, if that has not completed; None if it has, or is not known."""
    from railtracks.state._stores._headers import HEADER_BYTES, read_document_header

    facts = read_document_header(document[:HEADER_BYTES])
    if not facts:
        return "it is damaged" if document.startswith(DOCUMENT_BEGINS) else None
    status = facts.get("status", Status.COMPLETED)  # which version 1 did not record
    return None if status == Status.COMPLETED else str(status)


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
