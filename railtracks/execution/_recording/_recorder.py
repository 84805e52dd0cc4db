"""The recorder: turns what happens to calls into the texts of their records and the entries of the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from railtracks.exceptions import NodeCreationError, StateError
from railtracks.execution._recording._context_recorder import ContextRecorder
from railtracks.execution._recording._failed_calls import FailedCalls
from railtracks.execution._recording._journal_writer import JournalState, JournalWriter
from railtracks.execution._recording._size_warnings import CUT_INPUTS, CUT_OUTPUT, SizeWarnings
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._journal import _format as journal
from railtracks.state._journal._format import CallEntries
from railtracks.state._node_codes import NodeCodes
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._classify import SCALAR_IDS
from railtracks.state._serialization._large_values import find_nothing
from railtracks.state._serialization._record_text import ensure_texts, stored_inputs_text, stored_output_text
from railtracks.state._serialization._stored_messages import new_conversations
from railtracks.state._shared_texts import set_inputs, set_output, stored_inputs
from railtracks.state._stores._messages import MESSAGE
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks._logging import SessionLog
    from railtracks.execution._recording._lasting_results import LastingResults  # loaded by few sessions
    from railtracks.execution._recording._value_keeper import ValueKeeper
    from railtracks.state._batch_summary import Ended
    from railtracks.state._call_tree import CallTree
    from railtracks.state._item_records import Item
if TYPE_CHECKING:  # loaded by sessions that resume a run
    from railtracks._resume._history import HistoryNode
    from railtracks._resume._matching import Match
    from railtracks._resume._replayer import Replayer

_SIZED = (str, bytes)
REWRITE_BEYOND = 1 << 20
"""The number of bytes of entries for items of batches from which on the journal is written anew, without them."""
CALL_BYTES = 600
"""About how long the entries for a call are, so that the journal becomes a good deal shorter."""
_SMALL = 1_000
"""The number of characters of a text up to which it need not be written before the session is saved."""
UNWRITTEN = '"input_args": [], "input_kwargs": {}, "input_form": "opaque"'
"""The arguments of a call that failed while they were written."""


class Recorder:
    """Records the calls of one session as they happen.

    Args:
        state: The records.
        redactor: The secrets that the session knows.
        journal: The writer of the journal.
        replayer: The history of the run that the session resumes; None if it resumes nothing.
        max_bytes: The number of bytes up to which a value is recorded whole.
        log: The session's log.
        values: Keeps large values; None: they are recorded as others are.

    Attributes:
        context: Records what calls do to the context.
        failed_calls: The calls that have failed.
        is_synchronous: Whether calls wait, by ``wait_committed``, until their entries are on disk.
        body_succeeded: Whether the body of the session has ended without an exception. Set by the session.
        write_error: Why the session ends: what it records cannot be written, and ``on_write_error`` is "stop".
        is_fork: Whether the session resumes a run that it leaves as it is. Set by the session.
        lasting_results: What checks the results of a run that is to return them when it is started again; None for
            other runs. Set by the session.
        batches: By the index of the call that stands for a batch that keeps few records: what brings its attribute up
            to date.
        restarts: How many sessions in a row, this one included, have resumed the run because a process had died. Set by
            the session.
    """

    def __init__(
        self,
        state: RTState,
        redactor: Redactor,
        journal: JournalWriter,
        replayer: Replayer | None,
        max_bytes: int,
        log: SessionLog,
        values: ValueKeeper | None = None,
    ) -> None:
        self._state = state
        self._redactor = redactor
        self._written = redactor.redact_name
        self._journal = journal
        self._replayer = replayer
        self.is_synchronous: bool = journal.is_synchronous
        self.body_succeeded = False
        self.is_fork = False
        self.lasting_results: LastingResults | None = None
        self.restarts = 0
        self.batches: dict[int, Callable[[], None]] = {}
        self._item_bytes = 0  # of entries for items, since the journal was written as a whole
        self._journalled_calls = 0
        self._refused: set[int] = set()  # the indices of calls that were refused, as nothing could be found of the run
        self._unjournalled: set[int] = set()  # those of them that have ended and whose end is not journalled yet
        self._entries = CallEntries(redactor.redact_name)
        self._defined: dict[str, str] = {}  # by key and version that users passed: the path of the definition
        self._sizes = SizeWarnings(max_bytes, log)
        self._max_bytes = max_bytes
        self.values: ValueKeeper | None = values
        self._keep = None if values is None else values.keep
        self._conversations = new_conversations(redactor, max_bytes, values is not None)
        self._last_failure: BaseException | None = None  # the exception that was recorded last
        self.context: ContextRecorder = ContextRecorder(
            state, redactor, journal, replayer, self._sizes, max_bytes, self._keep
        )
        self.failed_calls: FailedCalls = FailedCalls(state)
        self.write_error: StateError | None = None
        self._end_session: Callable[[], object] = bool

    # ---- calls

    def on_created(
        self,
        record: CallRecord,
        node: FunctionNode[..., Any],
        caller: HistoryNode | None,
        before: HistoryNode | None = None,
    ) -> Match | None:
        """Record a new call. Return its match in the resumed run; None if the session resumes nothing.

        A call that is replayed is not journalled here: ``on_replayed`` does that.

        Args:
            record: The call.
            node: The node that it calls.
            caller: The match of its caller.
            before: The match of the attempt before it, if it is another attempt of a call that has failed.
        """
        record.node = node.key
        if self.lasting_results is not None:
            self.lasting_results.on_created(record, node)
        if record.node is not None:
            record.code = node.code
        if node.given_key is not None:
            self._check_key(node)
        if node.known_secrets is not None:
            for text in node.known_secrets:  # those that it is bound to
                self._redactor.add(text)
        if record.node is not None and self._written(record.node) != record.node:
            record.node = None  # a key that holds a secret is not recorded
        is_journalled, hidden, replayer = self._journal.is_active, node.secret_positions, self._replayer
        if self._state.items is not None and record.is_item:  # its end is recorded, and that alone
            is_journalled, replayer = False, None
        if is_journalled or hidden or node.ignore or replayer is not None or not _has_only_scalars(record):
            args, kwargs = record.args, record.kwargs
            if node.ignore:
                args, kwargs = node.without_ignored(args, kwargs)
            keep, shared = (None, None) if record.is_item else (self._keep, self._conversations)
            inputs = stored_inputs_text(args, kwargs, self._redactor, hidden, self._max_bytes, keep, shared)
            if type(inputs) is not str:
                set_inputs(record, inputs)
            else:  # as it would, without the cost of another call
                record.inputs = inputs
                if inputs.endswith(CUT_INPUTS):
                    self._sizes.warn_of_arguments(record)
        match = None
        if replayer is not None:
            try:
                match = replayer.match(record, node, caller, before)
            except StateError:
                self._refused.add(record.index)
                raise
            if match.is_replayed:
                return match
            if match.node is not None and match.node.record is not None:
                record.attempt = 1 + match.node.record.attempt
        if is_journalled:
            self._journal_created(record.index)
            if self._journal.must_begin_again:
                self._begin_again(record)
        if self.write_error is not None:
            self._raise_write_error()
        return match

    @property
    def history(self) -> CallTree | None:
        """The calls of the run that the session resumes; None if it resumes nothing."""
        return None if self._replayer is None else self._replayer.tree

    @property
    def has_calls_to_save(self) -> bool:
        """Whether the session has made calls that were not refused."""
        return len(self._state.entries) > len(self._refused)

    def _check_key(self, node: FunctionNode[..., Any]) -> None:
        """Raise NodeCreationError if another function with the same key was called in this session.

        Each would get recorded results of the other one.
        """
        path = self._defined.setdefault(f"{node.given_key}@{node.version}", node.definition)
        if path != node.definition:
            raise NodeCreationError(
                f"the key {node.given_key!r} of {node.definition} is that of {path}, too, which this session has "
                f"called; use a key for one function only"
            )

    def _journal_created(self, index: int) -> None:
        """Journal the creation of a call, once, and after that of all calls created before it.

        Usually the call is the next one. But writing its arguments may have made a call (by a ``__repr__``), or failed.
        """
        while self._journalled_calls <= index:
            created = self._state.entries[self._journalled_calls]
            assert created is not None  # the calls below replayed ones were counted
            self._journalled_calls += 1
            if stored_inputs(created) is None:
                created.inputs = UNWRITTEN
            self._append(self._entries.created(created), created)
            if self._unjournalled and created.index in self._unjournalled:
                self._append(self._entries.ended(created), created)

    def _append(self, entry: str, record: CallRecord) -> None:
        """Journal an entry for a call, which was just made, after the messages to which it refers."""
        if record.is_sharing and (messages := self._entries.messages()) is not None:
            self._journal.append(messages)
        self._journal.append(entry)

    def on_ended(self, record: CallRecord) -> None:
        """Record the end of a call: its result, exception or cancellation."""
        if self._state.items is not None and record.is_item:
            item: Item = record.item  # type: ignore[attr-defined]
            is_dropped = record.exception is None and not item.open and not item.has_changes
            if not is_dropped and (record.exception is not None or not _is_small_scalar(record.result)):
                set_output(record, stored_output_text(record, self._redactor, False, self._max_bytes))
            return
        if self._replayer is not None:
            self._replayer.on_ended(record)
        failure, has_traceback_below = record.exception, False
        if failure is not None:
            # An exception that passes through many calls has a longer traceback in each. The traceback is written
            # only where it was raised, and in the top-level call.
            has_traceback_below = failure is self._last_failure and record.parent is not None
            self._last_failure = failure
            record.raised_by = self.failed_calls.found_in(failure, record.index)
            self.failed_calls.add(record, failure)
        is_journalled = self._journal.is_active
        if is_journalled or failure is not None or not _is_small_scalar(record.result):  # now: it may be changed later
            # A message that could not be stored after all would be lost.
            is_taken = record.attributes is not None and MESSAGE in record.attributes
            keep, shared = (None, None) if is_taken else (self._keep, self._conversations)
            output = stored_output_text(record, self._redactor, has_traceback_below, self._max_bytes, keep, shared)
            if type(output) is not str:
                set_output(record, output)
            else:  # as above
                record.output = output
                if output.endswith(CUT_OUTPUT):
                    self._sizes.warn_of_output(record)
            if self.lasting_results is not None:
                self.lasting_results.on_ended(record)
        if is_journalled:
            self._journal_end(record)

    def _journal_end(self, record: CallRecord) -> None:
        if not self.has_calls_to_save:
            self._unjournalled.add(record.index)  # until there is another call, the run that is resumed stays as it is
        else:
            if record.index >= self._journalled_calls:
                self._journal_created(record.index)
            self._append(self._entries.ended(record), record)
            if self._journal.must_begin_again:
                self._begin_again(record)

    def on_brought_home(self, record: CallRecord) -> None:
        """Record a call that a worker has made. Its texts are settled."""
        if self._journal.is_active and not record.is_item:
            self._journal_created(record.index)
            if record.attributes is not None:
                self._journal.append(journal.attributes_entry(record))

    def on_end_brought_home(self, record: CallRecord) -> None:
        """Record the end of a call that a worker has made. Its texts are settled."""
        if record.is_item:  # recorded with its item, if at all
            return
        if record.exception is not None:
            self.failed_calls.add(record, record.exception)
        if self._journal.is_active:
            self._journal_end(record)

    def on_attributes(self, record: CallRecord) -> None:
        """Record the attributes of a call, which have just been set."""
        if self._journal.is_active and not record.is_item:
            if record.index >= self._journalled_calls:
                self._journal_created(record.index)
            self._journal.append(journal.attributes_entry(record))

    # ---- batches that keep few records

    def on_item(self, batch: CallRecord, ended: Ended) -> None:
        """Record that an item has ended. ``batch``: the call that stands for its batch."""
        if not self._journal.is_active:
            return
        entry = journal.item_entry(batch.index, ended)
        self._journal.append(entry)
        self._item_bytes += len(entry)
        if self._journal.must_begin_again:
            self._begin_again(None)
        elif self._item_bytes > max(REWRITE_BEYOND, CALL_BYTES * len(self._state.entries)):
            self._rewrite()

    def _rewrite(self) -> None:
        """Write the journal anew, without the entries for items: the attributes of their batches say the same.

        While one is being written it is left for later: what the batches know must not change until that is in place.
        """
        if self.is_rewriting:
            return
        entries = self._state.entries
        self._journal_created(len(entries) - 1)
        for refresh in self.batches.values():
            refresh()
        self._item_bytes = 0
        self._entries = CallEntries(self._written, NodeCodes(is_complete=False))  # as in `_begin_again`
        self._journal.rewrite(partial(self._entries_until, len(entries), self._state.step))

    def on_kept(self, copies: list[CallRecord], events: list[int]) -> None:
        """Record calls of an item, which have ended and were added to the state. ``events``: see ``copies_of``."""
        for event in events:
            record = copies[event if event >= 0 else ~event]
            if event < 0 and record.exception is not None:
                found = self.failed_calls.found_in(record.exception, record.index)
                record.raised_by = found or record.raised_by
                self.failed_calls.add(record, record.exception)
        for record in copies:
            record.inputs, record.output = ensure_texts(record, self._redactor)
        if not self._journal.is_active:
            return
        self._journal_created(copies[0].index - 1)
        self._journalled_calls = len(self._state.entries)
        for entry in journal.entries_of_events(copies, events, self._entries):
            self._journal.append(entry)

    @property
    def is_rewriting(self) -> bool:
        """Whether the journal is being written as a whole."""
        return self._journal.is_rewriting or self._journal.state is JournalState.BEGINNING

    def on_replayed(self, record: CallRecord, match: Match, context: dict[str, Any]) -> None:
        """Replay a call: record it and its descendants as they ended, and apply their changes of the context again."""
        assert self._replayer is not None
        assert match.node is not None
        known = match.node.record
        assert known is not None
        self.context.on_replayed(record, match.changes)
        if self._journal.is_active:
            self._journal_created(len(self._state.entries) - 1)  # also calls made while this one waited for its turn
        orders = self._replayer.orders_of(match.changes)
        self._replayer.replay(record, match, orders, context)
        self._journalled_calls += len(match.descendants)
        if record.exception is not None:
            self.failed_calls.add(record, record.exception)
        if self._journal.is_active:
            self._journal.append(journal.reused_entry(record, known, orders))

    def may_replay(
        self, record: CallRecord, match: Match, node: FunctionNode[..., Any], context: dict[str, Any]
    ) -> bool:
        """Return whether a call may be replayed although the context may have changed. If not, it is recorded to run.

        Args:
            record: The call.
            match: Its match.
            node: The node that it calls.
            context: The context of the session.
        """
        assert self._replayer is not None
        may = self._replayer.may_replay(record, match, node, context)
        if not may and self._journal.is_active:
            self._journal_created(record.index)
        return may

    def hand_over(self, known: HistoryNode) -> tuple[list[CallRecord], dict[str, bytes]]:
        """Return what a worker needs to resume a recorded call: its records, and the large values in them."""
        return ([], {}) if self._replayer is None else self._replayer.hand_over(known)

    def give_back(self, known: HistoryNode) -> None:
        """Note that nothing has come back from the worker to which a recorded call was handed over."""
        if self._replayer is not None:
            self._replayer.give_back(known)

    def find_recorded(self, digest: str) -> bytes:
        """Return a large value of the run that is resumed. Blocks. Raises ValueError if there is none."""
        return find_nothing(digest) if self._replayer is None else self._replayer.find(digest)

    def must_wait(self, match: Match) -> bool:
        """Return whether a call may not be replayed yet, as others had ended before it."""
        return self._replayer is not None and self._replayer.must_wait(match)

    async def wait_for_turn(self, match: Match, context: dict[str, Any]) -> None:
        """Wait until a call may be replayed. Cancellation: the wait ends."""
        assert self._replayer is not None
        await self._replayer.wait(match, context)

    # ---- a store that fails

    def fail(self, error: StateError, end_session: Callable[[], object]) -> None:
        """Have calls raise ``error`` from now on, because they cannot be recorded. Thread-safe.

        Args:
            error: The error.
            end_session: Ends the session. Called on the event loop, by each of these calls.
        """
        self._end_session = end_session
        self.write_error = error
        self.is_synchronous = True  # so that each call comes to `wait_committed` before it returns its result

    def _raise_write_error(self) -> NoReturn:
        assert self.write_error is not None
        self._end_session()
        raise self.write_error.with_traceback(None)

    def begin_again_if_due(self) -> None:
        """Begin the journal again if it has failed and may be tried again. Called on the event loop."""
        if self._journal.must_begin_again:
            self._begin_again(None)

    def _begin_again(self, record: CallRecord | None) -> None:
        """Begin the journal again with all that has happened until now. ``record``: the call that is being recorded."""
        while record is not None:
            if record.ended_step is not None and record.output is None:  # its `__repr__` has made this call
                return
            record = self._state.caller(record)
        for refresh in self.batches.values():
            refresh()
        self._item_bytes = 0
        entries = self._state.entries
        for created in entries[self._journalled_calls :]:
            if created is not None and stored_inputs(created) is None:
                created.inputs = UNWRITTEN
        self._journalled_calls = len(entries)
        # What was reused is in the new journal with entries of its own, which may be the first of their nodes.
        self._entries = CallEntries(self._written, NodeCodes(is_complete=False))
        self._journal.begin_again(partial(self._entries_until, len(entries), self._state.step))

    def _entries_until(self, count: int, step: int) -> Iterator[str]:
        """Yield what the journal holds of everything before ``step``, when there were ``count`` calls. Thread-safe."""
        if self._replayer is not None:
            yield from journal.entries_of(self._replayer.history)
            yield journal.attempt_entry(self.restarts)
        yield from journal.entries_of(self._state.records[:count], step, self._written)

    # ---- putting it on disk

    def commit(self) -> bool:
        """Put everything recorded so far on disk. Blocks. Return whether it is there: the journal may have failed."""
        self._journal.sync()
        return self._journal.state is JournalState.OPEN

    def require_commit(self) -> None:
        """Put everything recorded so far on disk. Blocks.

        Raises:
            StateError: It cannot be written, and the session ends for that.
        """
        self.commit()
        if self.write_error is not None:
            self._raise_write_error()

    async def wait_committed(self) -> None:
        """Wait until everything recorded so far is on disk.

        Raises:
            StateError: It cannot be written, and the session ends for that.

        Cancellation: the wait ends.
        """
        await self._journal.wait_committed()
        if self.write_error is not None:
            self._raise_write_error()

    # ---- the session

    def on_session_end(self, time: float) -> None:
        """Record the end of the session, at ``time`` in seconds since the epoch. Nothing is recorded without calls."""
        if self._replayer is not None:
            self._replayer.warn_at_end(self._state.status)
        if self.lasting_results is not None and self.has_completed:
            self.lasting_results.warn(self._state.records)
        if self._journal.state in (JournalState.OPEN, JournalState.BEGINNING):
            self._journal.append(journal.end_entry(time, self.has_completed))

    def left_out(self) -> list[CallRecord]:
        """Return top-level calls of the resumed run that had completed, and in whose place no call was made."""
        return [] if self._replayer is None else self._replayer.left_out()

    def later_earlier_records(self) -> Callable[[], tuple[CallRecord, ...]]:
        """Return what makes the records of the resumed run, as long as this session has not superseded them."""
        replayer = self._replayer
        return tuple if replayer is None or self.has_completed else lambda: tuple(replayer.history)

    @property
    def has_completed(self) -> bool:
        """Whether the session has completed, so that nothing of the run that it resumed is needed any more."""
        state = self._state
        return self.body_succeeded and bool(state.entries) and state.status is Status.COMPLETED


def _has_only_scalars(record: CallRecord) -> bool:
    """Return whether no argument can be changed later, hold a secret, or be too large."""
    for value in record.args:  # a loop, because a generator costs twice as much
        if not _is_small_scalar(value):
            return False
    return not record.kwargs


def _is_small_scalar(value: Any) -> bool:
    return id(type(value)) in SCALAR_IDS and (type(value) not in _SIZED or len(value) < _SMALL)
