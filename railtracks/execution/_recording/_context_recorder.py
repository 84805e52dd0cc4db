"""What calls change in the context of their session, and what they read there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from railtracks.execution._recording._journal_writer import JournalWriter
from railtracks.execution._recording._size_warnings import SizeWarnings
from railtracks.state import CallRecord
from railtracks.state._journal import _format as journal
from railtracks.state._records import DELETED, Change, Form, Read
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._guarding import guarded_repr
from railtracks.state._serialization._record_text import member_text, read_text
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # loaded by sessions that resume a run
    from railtracks._resume._replayer import Replayer


class ContextRecorder:
    """Records what the calls of one session do to its context.

    Args:
        state: The records of the calls.
        redactor: The secrets that the session knows.
        journal: The writer of the journal.
        replayer: The history of the run that the session resumes; None if it resumes nothing.
        sizes: Warns of values that are cut.
        max_bytes: The number of bytes up to which a value is recorded whole.
        keep: Keeps a large value; None: it is recorded as others are.
    """

    def __init__(
        self,
        state: RTState,
        redactor: Redactor,
        journal: JournalWriter,
        replayer: Replayer | None,
        sizes: SizeWarnings,
        max_bytes: int,
        keep: Callable[[str, str | bytes], object] | None,
    ) -> None:
        self._state = state
        self._redactor = redactor
        self._journal = journal
        self._replayer = replayer
        self._sizes = sizes
        self._max_bytes = max_bytes
        self._keep = keep
        self._orders = count()  # of the changes
        self._writers: dict[str, CallRecord | None] = {}  # by key: the call that changed it last

    def on_replayed(self, record: CallRecord, changes: Sequence[Change]) -> None:
        """Note that a call is replayed, and with it the changes that it and the calls below it had made."""
        for change in changes:
            self._writers[change.key] = record

    def on_change(self, record: CallRecord | None, key: Any, value: Any = DELETED) -> None:
        """Record a change of the context made by a call; one made outside calls is not recorded. Thread-safe.

        Args:
            record: The call; None: outside calls.
            key: The key that was changed.
            value: The new value, or ``DELETED``.
        """
        self._writers[key] = record
        if record is None:
            return
        is_text = issubclass(type(key), str)
        name = str.__str__(key) if is_text else guarded_repr(key)
        redacted = self._redactor.redact(name)
        text, form, types = None, Form.PLAIN, None
        if value is not DELETED:
            text, form, types = member_text(key, value, self._redactor, self._max_bytes, self._keep)
            if form is Form.CUT:
                self._sizes.warn_of_context(record, redacted, value)
        if not is_text or redacted != name:
            form = Form.OPAQUE
        order = next(self._orders) if self._replayer is None else self._replayer.order_of(record, redacted)
        change = Change(order, redacted, text, form, types)
        if record.changes is None:
            record.changes = []
        record.changes.append(change)
        if self._replayer is not None:
            self._replayer.on_context_change(change)
        if self._journal.is_active and not record.is_item:
            self._journal.append(journal.context_entry(record, change))

    def on_read(self, record: CallRecord, key: Any, value: Any) -> None:
        """Record that a call read a key of the context, unless it has read it before, or it was set below. Thread-safe.

        Args:
            record: The call.
            key: The key.
            value: What it read; ``DELETED`` if there was no such key.
        """
        if type(key) is not str or (record.reads is not None and key in record.reads):
            return
        depth = self._depth_outside(record, self._writers.get(key))
        if depth == 0:
            return
        if value is DELETED:
            read = Read(None, None, depth)
        else:
            text = read_text(key, value, self._redactor)
            if text is None:
                return
            read = Read(*text, depth)
        if self._redactor.redact(key) != key:
            return
        record.reads = {**(record.reads or {}), key: read}  # in one step, as another thread may look at it
        if self._journal.is_active and not record.is_item:
            self._journal.append(journal.read_entry(record, key, read))

    def on_reads_brought_home(self, record: CallRecord, reads: Mapping[str, Read], sent: CallRecord) -> None:
        """Record what a call has read in a worker.

        Args:
            record: The call.
            reads: What it has read, by key. Depths are counted up to the call that was sent to the worker.
            sent: That call.
        """
        levels, each = 1, record
        while each is not sent:
            caller = self._state.caller(each)
            assert caller is not None
            levels, each = levels + 1, caller
        for key, read in reads.items():
            if read.depth >= levels:  # it was set outside of what the worker does
                outside = max(self._depth_outside(sent, self._writers.get(key)), 1)
                read = read._replace(depth=levels - 1 + outside)
            record.reads = {**(record.reads or {}), key: read}
            if self._journal.is_active and not record.is_item:
                self._journal.append(journal.read_entry(record, key, read))

    def _depth_outside(self, reader: CallRecord, writer: CallRecord | None) -> int:
        """Return how many calls, from the reader outwards, the last change of what it reads was made outside of."""
        inside = set[int]()
        while writer is not None:
            inside.add(writer.index)
            writer = self._state.caller(writer)
        depth, each = 0, reader
        while each.index not in inside:
            depth += 1
            caller = self._state.caller(each)
            if caller is None:
                break
            each = caller
        return depth
