"""The recorder: turns what happens to calls into the texts of their records and the entries of the journal."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from railtracks.execution._recording._journal_writer import JournalState, JournalWriter
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._journal import _format as journal
from railtracks.state._records import DELETED, Change, Form, aggregate_status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._guarding import guarded_repr
from railtracks.state._serialization._record_text import inputs_text, member_text, output_text
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # loaded by sessions that resume a run
    from railtracks._resume._history import HistoryNode
    from railtracks._resume._matching import Match
    from railtracks._resume._replayer import Replayer

UNWRITTEN = '"input_args": [], "input_kwargs": {}, "input_form": "opaque"'
"""The arguments of a call that failed while they were written."""


class Recorder:
    """Records the calls of one session as they happen.

    Args:
        state: The records.
        origin: Seconds to add to their times to get seconds since the epoch.
        redactor: The secrets that the session knows.
        journal: The writer of the journal.
        replayer: The history of the run that the session resumes; None if it resumes nothing.

    Attributes:
        is_synchronous: Whether calls wait, by ``wait_committed``, until their entries are on disk.
        body_succeeded: Whether the body of the session has ended without an exception. Set by the session.
    """

    def __init__(
        self, state: RTState, origin: float, redactor: Redactor, journal: JournalWriter, replayer: Replayer | None
    ) -> None:
        self._state = state
        self._origin = origin
        self._redactor = redactor
        self._written = redactor.redact_name
        self._journal = journal
        self._replayer = replayer
        self.is_synchronous: bool = journal.is_synchronous
        self.body_succeeded = False
        self._orders = count()  # of the changes of the context
        self._journalled_calls = 0
        self._last_failure: BaseException | None = None  # the exception that was recorded last

    # ---- calls

    def on_created(self, record: CallRecord, node: FunctionNode[..., Any], caller: HistoryNode | None) -> Match | None:
        """Record a new call. Return its match in the resumed run; None if the session resumes nothing.

        A call that is replayed is not journalled here: ``on_replayed`` does that.

        Args:
            record: The call.
            node: The node that it calls.
            caller: The match of its caller.
        """
        record.node = node.key
        if node.known_secrets is not None:
            for text in node.known_secrets:  # those that it is bound to
                self._redactor.add(text)
        if record.node is not None and self._written(record.node) != record.node:
            record.node = None  # a key that holds a secret is not recorded
        is_journalled, hidden, replayer = self._journal.is_active, node.secret_positions, self._replayer
        if is_journalled or hidden or replayer is not None or not _has_only_scalars(record):
            record.inputs = inputs_text(record.args, record.kwargs, self._redactor, hidden)
        match = None
        if replayer is not None:
            match = replayer.match(record, node, caller)
            if match.is_replayed:
                return match
        if is_journalled:
            self._journal_created(record)
        return match

    def _journal_created(self, record: CallRecord) -> None:
        """Journal the creation of a call, once, and after that of all calls created before it.

        Usually the call is the next one. But writing its arguments may have made a call (by a ``__repr__``), or failed.
        """
        while self._journalled_calls <= record.index:
            created = self._state.records[self._journalled_calls]
            self._journalled_calls += 1
            created.inputs = created.inputs or UNWRITTEN
            self._journal.append(journal.created_entry(created, created.started + self._origin, self._written))

    def on_ended(self, record: CallRecord) -> None:
        """Record the end of a call: its result, exception or cancellation."""
        failure, has_traceback_below = record.exception, False
        if failure is not None:
            # An exception that passes through many calls has a longer traceback in each. The traceback is written
            # only where it was raised, and in the top-level call.
            has_traceback_below = failure is self._last_failure and record.parent is not None
            self._last_failure = failure
        if self._journal.is_active:
            record.output = output_text(record, self._redactor, has_traceback_below)
            if record.index >= self._journalled_calls:
                self._journal_created(record)
            self._journal.append(journal.ended_entry(record, (record.ended or 0.0) + self._origin))
        elif id(type(record.result)) not in SCALAR_IDS or failure is not None:
            record.output = output_text(record, self._redactor, has_traceback_below)  # now: it may be changed later

    def on_attributes(self, record: CallRecord) -> None:
        """Record the attributes of a call, which have just been set."""
        if self._journal.is_active:
            if record.index >= self._journalled_calls:
                self._journal_created(record)
            self._journal.append(journal.attributes_entry(record))

    def on_replayed(self, record: CallRecord, match: Match, context: dict[str, Any]) -> None:
        """Replay a call: record it and its descendants as they ended, and apply their changes of the context again."""
        assert self._replayer is not None
        assert match.node is not None
        known = match.node.record
        assert known is not None
        if self._journal.is_active:
            self._journal_created(record)
        orders = [next(self._orders) for _ in match.changes]
        self._replayer.replay(record, match, orders, context)
        self._journalled_calls += len(match.descendants)
        if self._journal.is_active:
            self._journal.append(journal.reused_entry(record, known, orders))

    def on_context_change(self, record: CallRecord | None, key: Any, value: Any = DELETED) -> None:
        """Record a change of the context made by a call; one made outside calls is not recorded. Thread-safe.

        Args:
            record: The call; None: outside calls.
            key: The key that was changed.
            value: The new value, or ``DELETED``.
        """
        if record is None:
            return
        is_text = issubclass(type(key), str)
        name = str.__str__(key) if is_text else guarded_repr(key)
        redacted = self._redactor.redact(name)
        text, form, types = None, Form.PLAIN, None
        if value is not DELETED:
            text, form, types = member_text(key, value, self._redactor)
        if not is_text or redacted != name:
            form = Form.OPAQUE
        change = Change(next(self._orders), redacted, text, form, types)
        if record.changes is None:
            record.changes = []
        record.changes.append(change)
        if self._journal.is_active:
            self._journal.append(journal.context_entry(record, change))

    def commit(self) -> None:
        """Put everything recorded so far on disk. Blocks."""
        self._journal.sync()

    async def wait_committed(self) -> None:
        """Wait until everything recorded so far is on disk. Cancellation: the wait ends."""
        await self._journal.wait_committed()

    # ---- the session

    def on_session_end(self, time: float) -> None:
        """Record the end of the session, at ``time`` in seconds since the epoch. Nothing is recorded without calls."""
        if self._journal.state is JournalState.OPEN:
            self._journal.append(journal.end_entry(time, self._supersedes_history))

    def earlier_records(self) -> tuple[CallRecord, ...]:
        """Return the records of the resumed run, as long as this session has not superseded them."""
        return () if self._replayer is None or self._supersedes_history else self._replayer.records

    @property
    def _supersedes_history(self) -> bool:
        """Whether nothing of the resumed run is needed any more: the session has completed."""
        records = self._state.records
        return self.body_succeeded and bool(records) and aggregate_status(records) is Status.COMPLETED


def _has_only_scalars(record: CallRecord) -> bool:
    """Return whether no argument can be changed later or hold a secret."""
    for value in record.args:  # a loop, because a generator costs twice as much
        if id(type(value)) not in SCALAR_IDS:
            return False
    return not record.kwargs
