"""What a session keeps outside itself: the lock on its run, its journal, and in the end its document.

A failure to write costs the flow nothing: it is logged as an error, once, and the session goes on without.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from railtracks._logging import SessionLog
from railtracks.execution._commit import GroupCommit
from railtracks.execution._replay import Found, find
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.state import _journal as journal
from railtracks.state._codec import HARMLESS, decode, learn_secrets
from railtracks.state._document import overall
from railtracks.state._machine import RTState
from railtracks.state._past import Place
from railtracks.state._records import REUSED, Change, Form
from railtracks.state._runs import warn_of_many
from railtracks.state._secrets import Secrets
from railtracks.state._stores import Appender, Lock, Store
from railtracks.state._syncer import syncer
from railtracks.state._text import inputs_text, loads, member_text, output_text, settle_texts

LOGGER = logging.getLogger("RT.Session")
DELETED: Any = object()
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
        self.waits = self._journals and durability == "sync"
        self.past: Place | None = None
        self._identifier = self.where = ""
        self._facts: Facts = {}
        self._lock: Lock | None = None
        self._appender: Appender | None = None
        self._failed = False
        self._syncing = threading.Lock()  # held while the journal is put on disk; a late sync would bring it back
        self._syncs = True
        self._syncer_asked = False
        self._changes = 0
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
            except OSError as exc:
                self._fail(exc)

    def begin(self, facts: Facts, aside: str) -> None:
        """The session begins anew. ``aside``: the identifier for a journal that an earlier one left when it died."""
        self._facts = facts
        if self._store is None or self._lock is None:
            return
        try:
            moved = self._store.move_journal(self._identifier, aside)
        except OSError as exc:
            self._fail(exc)
            return
        if moved:
            self._log.log(
                logging.WARNING, "An earlier run %s did not end; what it did is kept as %s, and can be resumed",
                self._identifier, aside, logger=LOGGER,
            )  # fmt: skip

    def resume(self, facts: Facts, past: Place) -> None:
        """The session goes on from what is known. Blocks."""
        self._facts = facts
        self.past = past
        if self._journals:
            known = past.flat()
            for record in known:
                record.inputs, record.output = settle_texts(record, self._secrets)
            self._open([*journal.told(known, 0.0), journal.ATTEMPT])

    def save(self, info: ExecutionInfo) -> None:
        """Keep the document of the session, which has ended, in place of the journal. Blocks. Failures are logged."""
        store = self._store
        assert store is not None
        self._log.log(logging.INFO, "Saving execution info to %s", self.where, logger=LOGGER)
        try:
            if self.past is None and store.exists(self._identifier):
                self._log.log(logging.WARNING, "File %s already exists, overwriting...", self.where, logger=LOGGER)
            warn_of_many(store, lambda text: self._log.log(logging.WARNING, "%s", text, logger=LOGGER))
            if self._appender is not None and not self._failed:
                self._write(journal.end(info.end_time or 0.0))
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
            self._syncs = True
            self._sync()

    def release(self) -> None:
        """Write no more, and let others have the run."""
        self._journals = False
        appender, self._appender = self._appender, None
        if appender is not None:
            with self._syncing:
                self._syncs = False
                appender.close()
            syncer.leave()
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                lock.release()
            except OSError as exc:
                self._fail(exc)

    def earlier(self) -> tuple[CallRecord, ...]:
        """What is known from before, as long as this session has not completed it."""
        if self.past is None or (self._state.records and overall(self._state.records) is Status.COMPLETED):
            return ()
        known = self.past.flat()
        for record in known:
            record.started -= self._origin
            record.ended = None if record.ended is None else record.ended - self._origin
        return tuple(known)

    # ---- what happens in it

    def created(self, record: CallRecord, node: FunctionNode[..., Any], above: Place | None) -> Found | None:
        """A call was made; ``above``: the recorded place of its caller. What is on record of it, if this resumes a run.

        One that is to be reused is not told yet; ``reused`` does that.
        """
        record.node = node.key
        if node.bound is not None:
            for text in node.bound:
                self._secrets.learn(text)
            if record.node is not None and self._secrets.hide(record.node) != record.node:
                record.node = None
        if self._journals or self.past is not None:
            record.inputs = inputs_text(record.args, record.kwargs, self._secrets, node.hidden)
        else:
            look(record, node, self._secrets)
        found = None
        if self.past is not None:
            found = find(self.past if record.parent is None else above, record, node)
            record.reuse = found.why
            if found.why == REUSED:
                return found
        if self._journals:
            self._write(journal.created(record, record.started + self._origin))
        return found

    def ended(self, record: CallRecord) -> None:
        """A call ended."""
        if self._journals:
            record.output = output_text(record, self._secrets)
            self._write(journal.ended(record, (record.ended or 0.0) + self._origin))
        elif type(record.result) not in HARMLESS:
            learn_secrets(record.result, self._secrets)

    def reused(self, record: CallRecord, found: Found, context: dict[str, Any]) -> None:
        """A call need not run: tell what is on record of it and all below it, and change the context as they did."""
        assert found.place is not None
        known = found.place.record
        assert known is not None
        copies = self._state.reused(record, known, found.below, found.result, -self._origin)
        new = dict(zip([known.index, *(each.index for each in found.below)], [record, *copies], strict=True))
        for source, change in found.changes:
            self._keep(new[source.index], change._replace(order=self._next_change()))
            if change.value is None:
                context.pop(change.key, None)
            else:
                context[change.key] = decode(loads(change.value))
        if self._journals:
            for each in (record, *copies):
                each.inputs, each.output = settle_texts(each, self._secrets)
            for payload in journal.told((record, *copies), self._origin):
                self._write(payload)

    def changed(self, record: CallRecord | None, key: Any, value: Any = DELETED) -> None:
        """A call changed the context. What is changed outside calls is not kept. From any thread."""
        if record is None:
            return
        shown = self._secrets.hide(key if isinstance(key, str) else repr(key))
        text, form = (None, Form.PLAIN) if value is DELETED else member_text(key, value, self._secrets)
        if shown != key:
            key, form = shown, Form.OPAQUE
        change = Change(self._next_change(), key, text, form)
        self._keep(record, change)
        if self._journals:
            self._write(journal.changed(record, change))

    async def committed(self) -> None:
        """Return when all that was told so far is on disk. Cancellation: the wait ends."""
        if self._journals:
            await self._commit.wait(self._sync)

    # ---- the journal

    def _next_change(self) -> int:
        self._changes += 1
        return self._changes - 1

    def _keep(self, record: CallRecord, change: Change) -> None:
        if record.changes is None:
            record.changes = []
        record.changes.append(change)

    def _write(self, payload: str) -> None:
        if self._appender is None:
            self._open([])
        appender = self._appender
        if appender is None:
            return
        try:
            appender.append(journal.frame(payload))
        except OSError as exc:
            self._fail(exc)
        if not self.waits and not self._syncer_asked:
            self._syncer_asked = True
            syncer.ask(self._sync_soon)

    def _open(self, payloads: Iterable[str]) -> None:
        if self._store is None or self._lock is None:
            self._journals = False
            return
        try:
            content = b"".join(map(journal.frame, [journal.header(self._facts), *payloads]))
            self._appender = self._store.open(self._identifier, content)
            syncer.enter()
        except OSError as exc:
            self._fail(exc)

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
            except OSError as exc:
                self._fail(exc)

    def _fail(self, exc: OSError) -> None:
        self._journals = False
        if not self._failed:
            self._failed = True
            self._log.log(
                logging.ERROR,
                "The run cannot be recorded as it goes, beside %s: %s; it goes on, and is saved when it ends if it can",
                self.where, exc, logger=LOGGER, exc_info=exc,
            )  # fmt: skip


def look(record: CallRecord, node: FunctionNode[..., Any], secrets: Secrets) -> None:
    """Learn what secrets a call was given, where its arguments are not written at once."""
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
