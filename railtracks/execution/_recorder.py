"""What a session keeps outside itself: the lock on its run, its journal, and in the end its document.

A failure to write costs the flow nothing: it is logged as an error, once, and the session goes on without.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs

from railtracks._logging import SessionLog
from railtracks.exceptions import RunInUseError
from railtracks.execution._commit import GroupCommit
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.state import _journal as journal
from railtracks.state._codec import HARMLESS, decode, learn_secrets
from railtracks.state._document import overall
from railtracks.state._files import blocks
from railtracks.state._machine import RTState, renumber_changes
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._secrets import Secrets
from railtracks.state._syncer import syncer
from railtracks.state._text import inputs_text, loads, member_text, output_text, settle_texts

if TYPE_CHECKING:  # loaded by sessions that resume a run
    from railtracks.execution._replay import Found
    from railtracks.state._past import Place
    from railtracks.state._stores import Appender, Lock, Store

LOGGER = logging.getLogger("RT.Session")
DELETED: Any = object()
UNWRITTEN = '"input_args": [], "input_kwargs": {}, "input_form": "opaque"'
"""The arguments of a call that failed while they were written."""
_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
Facts = dict[str, str | float | None]


class Recorder:
    """Keeps the record of one session, as it happens.

    Args:
        state: The records.
        origin: Seconds to add to their times to get seconds since the epoch.
        secrets: Those that the session knows.
        log: Where a failure is told.
        store: Where to keep it; None: nowhere.
        durability: "exit", "async" or "sync".

    Attributes:
        waits: Results wait, by ``committed``, until their records are on disk.
        past: The root of what the session resumes; None if it resumes nothing.
        ended_well: The session's body has ended, and raised nothing.
        where: Where the document is, or will be, for people.
    """

    def __init__(
        self, state: RTState, origin: float, secrets: Secrets, log: SessionLog, store: Store | None, durability: str
    ) -> None:
        self._state = state
        self._origin = origin
        self._secrets = secrets
        self._log = log
        self._store = store
        self._journals = store is not None and durability != "exit"
        self.waits: bool = self._journals and durability == "sync"
        self.past: Place | None = None
        self.ended_well = False
        self._identifier = ""
        self.where: str = ""
        self._beginning = b""  # of the journal, which is opened when the first call is made
        self._aside: str | None = None  # the identifier for a journal that is still in the way
        self._problem: Exception | None = None  # from before the log was open
        self._lock: Lock | None = None
        self._appender: Appender | None = None
        self._failed = False
        self._syncing = threading.RLock()  # held while the journal is put on disk; a late sync would bring it back
        self._syncs = True
        self._syncer_asked = self.waits or not blocks(store)  # then nobody need put it on disk later
        self._changes = count()
        self._reapplied: dict[str, int] = {}
        self._told = 0  # calls of which the journal knows
        self._failure: BaseException | None = None  # the one that was written last
        self._known: list[CallRecord] = []
        self._earlier: tuple[CallRecord, ...] | None = None  # the same, on the session's clock, once somebody asks
        self._find: Callable[[Place | None, CallRecord, FunctionNode[..., Any]], Found]  # set by resume
        self._commit = GroupCommit()

    # ---- the run as a whole

    def hold(self, identifier: str) -> None:
        """Take the right to write the run.

        Raises:
            RunInUseError: another session has it.
        """
        self._identifier = identifier
        if self._store is not None:
            self.where = _shown(self._store.where(identifier))
            try:
                self._lock = self._store.lock(identifier)
            except RunInUseError:
                raise
            except Exception as exc:  # of a store of the user's
                self._problem = exc
            _recorders.add(self)

    def begin(self, facts: Facts, aside: str | None) -> None:
        """The session begins. Blocks.

        Args:
            facts: The members of the document that say which session it is.
            aside: The identifier for a journal that an earlier session left when its process died; None: this one
                takes the place of that.
        """
        if self._problem is not None:
            self._fail(self._problem)
        self._beginning = journal.frame(journal.header(facts))
        self._aside = aside
        try:
            self._move_aside()
        except Exception as exc:  # of a store of the user's
            self._fail(exc)

    def resume(self, known: list[CallRecord]) -> None:
        """The session goes on from what is known. Blocks."""
        from railtracks.execution._replay import find
        from railtracks.state._past import past

        self._known = known
        self.past = past(known)
        self._find = find
        for record in known:
            record.inputs, record.output = settle_texts(record, self._secrets)
        if self._journals:
            self._beginning += b"".join(map(journal.frame, (*journal.told(known, 0.0), journal.ATTEMPT)))

    def _move_aside(self) -> None:
        """See that no journal of another session is in the way of this one's, and of its document."""
        store, aside = self._store, self._aside
        if store is not None and self._lock is not None and aside is not None:
            if store.move_journal(self._identifier, aside):
                self._tell_of(aside, store)
            self._aside = None

    def _tell_of(self, aside: str, store: Store) -> None:
        from railtracks.state._heads import HEAD, read_journal_head

        stored = store.read(aside)
        if stored is None or stored.journal is None:
            return
        if journal.is_only_begun(stored.journal):
            store.remove(aside)  # there is nothing in it
            return
        also = "and can be resumed" if read_journal_head(stored.journal[:HEAD]) else "but its beginning is damaged"
        self._log.log(
            logging.WARNING, "An earlier run %s did not end; what it did is kept as %s, %s",
            self._identifier, aside, also, logger=LOGGER,
        )  # fmt: skip

    def save(self, info: ExecutionInfo, replaces: bool) -> None:
        """Keep the document of the session, which has ended, in place of the journal. Blocks. Failures are logged.

        ``replaces``: a document that is there is known to be of a run that this one resumed.
        """
        store = self._store
        if store is None:  # in a forked child
            return
        if self.past is not None and not self._state.records:
            return  # nothing was done that was not known before
        self._warn(store, replaces)
        self._log.log(logging.INFO, "Saving execution info to %s", self.where, logger=LOGGER)
        try:
            self._move_aside()
            if self._appender is not None and not self._failed:
                self._write(journal.end(info.end_time or 0.0, self._completed))
            with self._syncing:
                self._syncs = False
            store.save(self._identifier, (text.encode("ascii") for text in info.document()))
        except Exception as exc:
            # After a journal that failed this is no second error: the session said before that it may not be saved.
            level = logging.WARNING if self._failed else logging.ERROR
            kept = "" if self._appender is None or self._failed else "; its journal is kept"
            self._log.log(
                level, "The execution info could not be saved to %s: %s%s",
                self.where, exc, kept, logger=LOGGER, exc_info=exc,
            )  # fmt: skip
            self._failed = self._syncs = True
            self._sync()

    def _warn(self, store: Store, replaces: bool) -> None:
        """Say what saving will overwrite, and that there are very many runs. Not being able to tell costs no more."""
        from railtracks.state._runs import warn_of_many

        try:
            if not replaces and store.exists(self._identifier):
                self._log.log(logging.WARNING, "File %s already exists, overwriting...", self.where, logger=LOGGER)
            warn_of_many(store, lambda text: self._log.log(logging.WARNING, "%s", text, logger=LOGGER))
        except Exception as exc:  # of a store of the user's, or a folder that may not be read
            self._log.log(logging.WARNING, "What is at %s cannot be told: %s", self.where, exc, logger=LOGGER)

    def release(self) -> None:
        """Write no more, and let others have the run."""
        with self._syncing:
            self._journals = self._syncs = False
            appender, self._appender = self._appender, None
            lock, self._lock = self._lock, None
        ends = [] if appender is None else [appender.close, syncer.leave]
        for end in [*ends, lock.release] if lock is not None else ends:
            try:
                end()
            except Exception as exc:  # of a store of the user's
                self._fail(exc)

    def disown(self) -> None:
        """In a forked child: the run is the parent's, and so are its journal and its lock."""
        self._syncing = threading.RLock()
        self._journals = self._syncs = self.waits = False
        self._store = self._appender = self._lock = None

    def earlier(self) -> tuple[CallRecord, ...]:
        """What is known from before, as long as this session has not completed it."""
        if self.past is None or self._completed:
            return ()
        if self._earlier is None:
            origin = self._origin
            self._earlier = tuple(
                attrs.evolve(r, started=r.started - origin, ended=None if r.ended is None else r.ended - origin)
                for r in self._known
            )
        return self._earlier

    # ---- what happens in it

    def created(self, record: CallRecord, node: FunctionNode[..., Any], above: Place | None) -> Found | None:
        """A call was made; ``above``: the recorded place of its caller. What is on record of it, if this resumes a run.

        One that is to be reused is not told yet; ``reused`` does that.
        """
        record.node = node.key
        if node.bound is not None:
            self._learn_bound(record, node.bound)
        journals, hidden = self._journals, node.hidden
        if journals or hidden or self.past is not None or not _is_harmless(record):
            record.inputs = inputs_text(record.args, record.kwargs, self._secrets, hidden)
        found = None
        if self.past is not None:
            found = self._find(self.past if record.parent is None else above, record, node)
            record.reuse = found.why
            if found.why == REUSED:
                return found
        if journals:
            self._tell(record)
        return found

    def _tell(self, record: CallRecord) -> None:
        """Write that a call was made, once, and before all that were made after it.

        Usually it is the next. But writing its arguments may have made a call (by a ``__repr__``), or failed.
        """
        while self._told <= record.index:
            made = self._state.records[self._told]
            self._told += 1
            made.inputs = made.inputs or UNWRITTEN
            self._write(journal.created(made, made.started + self._origin))

    def _learn_bound(self, record: CallRecord, secrets: list[str]) -> None:
        """A node may be bound to secrets, or to what is known to be one here."""
        for text in secrets:
            self._secrets.learn(text)
        if record.node is not None and self._secrets.hide(record.node) != record.node:
            record.node = None

    def ended(self, record: CallRecord) -> None:
        """A call ended."""
        failure, again = record.exception, False
        if failure is not None:
            # One that rises through many calls has a longer traceback in each: it is written where it was raised, and
            # at the top.
            again = failure is self._failure and record.parent is not None
            self._failure = failure
        if self._journals:
            record.output = output_text(record, self._secrets, again)
            if record.index >= self._told:
                self._tell(record)
            self._write(journal.ended(record, (record.ended or 0.0) + self._origin))
        elif type(record.result) not in HARMLESS or failure is not None:
            record.output = output_text(record, self._secrets, again)  # now, as it may be changed later

    def described(self, record: CallRecord) -> None:
        """A call said something about itself."""
        if self._journals:
            if record.index >= self._told:
                self._tell(record)
            self._write(journal.described(record))

    def reused(self, record: CallRecord, found: Found, context: dict[str, Any]) -> None:
        """A call need not run: tell what is on record of it and all below it, and change the context as they did."""
        assert found.place is not None
        known = found.place.record
        assert known is not None
        if self._journals:
            self._tell(record)
        self._state.reused(record, known, found.below, found.result, -self._origin)
        orders = [next(self._changes) for _ in found.changes]
        renumber_changes(self._state.records, record, known, found.below, orders)
        for change in found.changes:
            if change.order < self._reapplied.get(change.key, -1):
                continue  # of two calls that ran at once the other had the last word
            self._reapplied[change.key] = change.order
            if change.value is None:
                context.pop(change.key, None)
            else:
                context[change.key] = decode(loads(change.value))
        self._told += len(found.below)
        if self._journals:
            self._write(journal.reused(record, known, orders))

    def changed(self, record: CallRecord | None, key: Any, value: Any = DELETED) -> None:
        """A call changed the context. What is changed outside calls is not kept. From any thread."""
        if record is None:
            return
        shown = self._secrets.hide(key if isinstance(key, str) else repr(key))
        text, form = (None, Form.PLAIN) if value is DELETED else member_text(key, value, self._secrets)
        if shown != key:
            key, form = shown, Form.OPAQUE
        change = Change(next(self._changes), key, text, form)
        if record.changes is None:
            record.changes = []
        record.changes.append(change)
        if self._journals:
            self._write(journal.changed(record, change))

    async def committed(self) -> None:
        """Return when all that was told so far is on disk. Cancellation: the wait ends."""
        if self._journals:
            await self._commit.wait(self._sync)

    # ---- the journal

    @property
    def _completed(self) -> bool:
        """Is nothing of what was known before needed any more?"""
        records = self._state.records
        return self.ended_well and bool(records) and overall(records) is Status.COMPLETED

    def _write(self, payload: str) -> None:
        appender = self._appender or self._open()
        if appender is None:
            return
        try:
            appender.append(journal.frame(payload))
        except Exception as exc:  # of a store of the user's
            self._fail(exc)
        if not self._syncer_asked:
            self._syncer_asked = True
            syncer.ask(self._sync_soon)

    def _open(self) -> Appender | None:
        with self._syncing:  # a thread that was left behind may come here while the session ends
            if self._appender is not None:
                return self._appender
            if self._store is None or self._lock is None or not self._journals:
                self._journals = False
                return None
            try:
                self._appender = self._store.open(self._identifier, self._beginning, self.past is not None)
            except Exception as exc:  # of a store of the user's
                self._fail(exc)
                return None
            syncer.enter()
            self._beginning = b""
            return self._appender

    def _sync_soon(self) -> None:
        self._syncer_asked = False
        self._sync()

    def _sync(self) -> None:
        """Put what was appended on disk. Blocks; from any thread; never raises."""
        appender = self._appender
        if appender is not None:
            try:
                with self._syncing:
                    if self._syncs:
                        appender.sync()
            except Exception as exc:  # of a store of the user's
                self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        self._journals = False
        if not self._failed:
            self._failed = True
            self._log.log(
                logging.ERROR,
                "The journal beside %s cannot be written: %s; the session goes on, and is saved at its end if possible",
                self.where, exc, logger=LOGGER, exc_info=exc,
            )  # fmt: skip


def _is_harmless(record: CallRecord) -> bool:
    """Were all arguments such as cannot be changed later, and hold no secrets?"""
    for value in record.args:  # a loop, as a generator costs twice as much
        if type(value) not in HARMLESS:
            return False
    return not record.kwargs


def look(record: CallRecord, node: FunctionNode[..., Any], secrets: Secrets) -> None:
    """Learn what secrets a call was given, where nothing is kept of it."""
    for text in node.secrets:
        secrets.learn(text)
    if node.hidden:
        record.inputs = inputs_text(record.args, record.kwargs, secrets, node.hidden)
    elif record.kwargs:
        learn_secrets(record.kwargs, secrets)
    for value in record.args:
        if type(value) not in HARMLESS:
            learn_secrets(value, secrets)


def _shown(where: str) -> str:
    """A path as people know it: relative, where it lies below the working directory."""
    try:
        return where.removeprefix(f"{os.getcwd()}{os.sep}")
    except OSError:  # the working directory is gone
        return where


def _disown_all() -> None:
    for recorder in _recorders:
        recorder.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
