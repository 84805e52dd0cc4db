"""Replaying: recorded calls in place of new ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._canonical import CanonicalForms, forms_key
from railtracks._resume._code_changes import CodeChanges
from railtracks._resume._context_order import ContextOrder
from railtracks._resume._history import HistoryNode, build_history, joined
from railtracks._resume._links import base_of
from railtracks._resume._matching import Match, match_call, restore_change
from railtracks._resume._merging import reopened
from railtracks._resume._order import MAX_DELAY, ReplayOrder
from railtracks._resume._recorded_values import digests_of
from railtracks._resume._reruns import Reruns, ResumePolicy
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._call_tree import CallTree, Descendants
from railtracks.state._garbage import collections_paused
from railtracks.state._records import REUSED, Change, copy_record
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._large_values import Find, find_nothing
from railtracks.state._serialization._plain_data import cut_text
from railtracks.state._serialization._record_text import ensure_texts, read_text
from railtracks.state._transitions import RTState

_REPEATABLE = {f"railtracks.{name}" for name in ("now", "uuid4", "random", "sleep")}
"""The nodes of calls that do nothing which could be lost."""
_Value = tuple[str | None, str | None]
"""A value of the context as JSON text, None if there is none, and the types in it."""

LOST_BEFORE = "its worker was lost before"
"""Why a try of a call runs that follows one of which nothing is known."""

_PROGRESS = {Status.COMPLETED: 0, Status.OPEN: 2}


class Replayer:
    """Matches the calls of a session with the history that it resumes, and replays those that need not run.

    Args:
        history: The records of the resumed run, as those of one session.
        state: The records of the session.
        redactor: The secrets that the session knows.
        log: The log of the session.
        policy: What the session may do.
        is_left: Whether the code that opened the session had gone on after it: then it ends as it did.
        find: Returns the large values of the history.

    Attributes:
        history: As given.
        tree: The same as a tree.
    """

    def __init__(
        self,
        history: Sequence[CallRecord],
        state: RTState,
        redactor: Redactor,
        log: SessionLog,
        policy: ResumePolicy,
        is_left: bool = False,
        find: Find = find_nothing,
    ) -> None:
        with collections_paused():
            for record in history:
                if record.inputs is None or record.output is None:
                    record.inputs, record.output = ensure_texts(record, redactor)
            self._root = build_history(history, is_left=is_left)
            _ = self._root.attempt.measures  # here and not at the first match, as it takes long
            self._order = ReplayOrder(self._root, self._warn_of_order)
        self.history: Sequence[CallRecord] = history
        self.tree: CallTree = self._root.attempt
        self._state = state
        self._find = find
        self._redactor = redactor
        self._log = log
        self._code_changes = CodeChanges(policy.code_changes)
        self._reruns = Reruns(history, policy)
        self._forms: dict[tuple[int, bool], CanonicalForms] = {}
        self._has_warned_of_order = False
        self._lost_failures: set[str] = set()  # the names of the nodes that were warned of
        self._failures: dict[str, int] = {}  # by the name of the node: how often it was replayed that it failed
        self._context_warnings: set[str] = set()  # the names of the nodes that were warned of
        self._values: dict[str, list[_Value]] = {}  # by key of the context, if any call had read from that
        # By the identity of the record of a call that waits, and by what it had read: the value then, and how many
        # values there were.
        self._waiting: dict[int, dict[str, tuple[_Value | None, int]]] = {}
        self._changes = ContextOrder(history)
        # By identity: what was handed over to workers that were lost.
        self._given_back: dict[int, HistoryNode] = {}
        self._retries: dict[int, CallRecord] = {}  # by the index of a call that is tried again: the recorded one

    def match(
        self,
        record: CallRecord,
        node: FunctionNode[..., Any],
        caller: HistoryNode | None,
        before: HistoryNode | None = None,
    ) -> Match:
        """Match a new call, and record the outcome as its ``reuse``.

        Args:
            record: The call. Its ``node`` and ``inputs`` are settled.
            node: The node that it calls.
            caller: The match of its caller. Not used for a top-level call.
            before: The match of the try before it, if it is another try of a call that has failed.

        Raises:
            StateError: The run has completed calls, and none of them can be found.
        """
        key = forms_key(node.target)
        forms = self._forms.get(key)
        if forms is None:
            forms = self._forms[key] = CanonicalForms(node.target)
        if record.parent is None:
            caller = self._root
        match = match_call(caller, record, node, forms, self._find, before)
        if before is not None and self._given_back and not match.is_replayed:
            match = self._with_lost(match, before)
        match = self._code_changes.judge(match, node)
        self._reruns.judge(record, match, node, caller, self._state.caller)
        known = match.node.record if match.node is not None and match.is_found else None
        if known is not None and match.node is not None:
            is_retry = known.status is Status.FAILED and not match.is_replayed and not match.node.is_handled
            self._order.on_made(known, is_retry)
            if is_retry:
                self._retries[record.index] = known
        if match.is_replayed:
            record.reuse = f"{REUSED}: {match.remark}" if match.remark else None
        else:
            record.reuse = match.reuse
            if match.node is not None:
                self._order.expect_below(match.node)
                known = match.node.record
                if known is not None and known.changes and match.node.attempt.children(known):
                    self._changes.expect(record, known.changes)
            if match.is_lost_failure and node.name not in self._lost_failures:
                self._lost_failures.add(node.name)
                self._log.log(logging.WARNING, "The call of %s runs again: %s", node.name, match.reuse, logger=SESSION)
        return match

    def _with_lost(self, match: Match, before: HistoryNode) -> Match:
        """Return a match with the calls below the try before this one, if nothing came back of that."""
        back = self._given_back.pop(id(before), None)
        if back is None:
            return match
        if not match.is_found or match.node is None:
            return match._replace(node=back, reuse=LOST_BEFORE)
        return match._replace(node=joined(back, match.node))

    def on_ended(self, record: CallRecord) -> None:
        """Note the end of a call that has run."""
        self._changes.on_ended(record)
        known = self._retries.pop(record.index, None)
        if known is not None:
            self._order.on_retried(known, record.status is Status.COMPLETED)

    def may_replay(
        self, record: CallRecord, match: Match, node: FunctionNode[..., Any], context: dict[str, Any]
    ) -> bool:
        """Return whether a call may be replayed although the context may have changed. See ``Recorder.may_replay``."""
        if node.context_changes == "ignore" or not self._root.attempt.has_reads:
            return True
        differing = self._differing_read(match, context)
        if differing is None:
            return True
        key, was, now = differing
        why = f"it had read {key!r} from the context as {was}, which is {now} now"
        if node.context_changes == "rerun":
            record.reuse = why
            assert match.node is not None
            self._order.expect_below(match.node)
            self._reruns.on_run_again(match)
            return False
        record.reuse = f"{REUSED}: {why}" if record.reuse is None else f"{record.reuse}; {why}"
        if node.name not in self._context_warnings:
            self._context_warnings.add(node.name)
            self._log.log(
                logging.WARNING,
                "The recorded result of %s is used, although %s; use @rt.function_node(context_changes=\"rerun\") to "
                "run such calls again",
                node.name, why, logger=SESSION,
            )  # fmt: skip
        return True

    def _differing_read(self, match: Match, context: dict[str, Any]) -> tuple[str, str, str] | None:
        """Return the first key that a call had read from outside and that is different now, with both values."""
        assert match.node is not None
        assert match.node.record is not None
        known = match.node.record
        for key, read in match.node.attempt.outside_reads(known):
            now = self._shown(key, context)
            recorded = read.value, read.types
            if now is not None and now != recorded and recorded not in self._values_since(known, key):
                return key, cut_text(read.value or "nothing", 100), cut_text(now[0] or "nothing", 100)
        return None

    def _shown(self, key: str, context: dict[str, Any]) -> tuple[str | None, str | None] | None:
        """Return a value of the context as reads have it; None if it cannot be compared."""
        return read_text(key, context[key], self._redactor) if key in context else (None, None)

    def must_wait(self, match: Match) -> bool:
        """Return whether a call may not be replayed yet, as others had ended, or had changed the context, before it."""
        assert match.node is not None
        assert match.node.record is not None
        return self._order.must_wait(match.node.record) or self._changes.must_wait(match.changes)

    async def wait(self, match: Match, context: dict[str, Any]) -> None:
        """Wait until a call may be replayed. Cancellation: the wait ends.

        Args:
            match: The match of the call.
            context: The context of the session. The call may have read any of the values that it has meanwhile.
        """
        assert match.node is not None
        assert match.node.record is not None
        known = match.node.record
        delay = min(max((known.ended or 0.0) - self.history[0].started, 0.0), MAX_DELAY)
        for key, _ in match.node.attempt.outside_reads(known):
            self._waiting.setdefault(id(known), {})[key] = self._shown(key, context), len(self._values.get(key, ()))
        await self._order.wait(known, lambda: self._changes.wait(match.changes, delay))

    def order_of(self, record: CallRecord, key: str) -> int:
        """Return the position of a change of the context that a call makes; see ``ContextOrder``. Thread-safe."""
        return self._changes.number_of(record, key)

    def orders_of(self, changes: Sequence[Change]) -> list[int]:
        """Return the positions of the changes of a replayed call, made again now; see ``ContextOrder``."""
        return self._changes.numbers_of(changes)

    def on_context_change(self, change: Change) -> None:
        """Note a change of the context by a call that runs."""
        if self._root.attempt.has_reads:
            self._values.setdefault(change.key, []).append((change.value, change.types))

    def _values_since(self, known: CallRecord, key: str) -> list[_Value | None]:
        """Return the values that a key of the context had while a call waited."""
        if id(known) not in self._waiting:
            return []
        first, count = self._waiting[id(known)][key]
        return [first, *self._values.get(key, ())[count:]]

    def replay(self, record: CallRecord, match: Match, orders: list[int], context: dict[str, Any]) -> None:
        """Put a replayed call and its descendants into the state, and apply their context changes again.

        Args:
            record: The call.
            match: Its match.
            orders: The positions of the match's changes among those of the session.
            context: The context of the session.
        """
        assert match.node is not None
        known = match.node.record
        assert known is not None
        assert isinstance(match.descendants, Descendants)
        self._order.settle(known)
        if match.remark:
            self._code_changes.note_reused(record.name)
        if known.status is Status.FAILED:
            self._failures[record.name] = self._failures.get(record.name, 0) + 1
        self._state.reused(record, known, match.descendants, match.result, orders)
        for change in match.changes:
            if self._changes.is_past(change):
                continue  # a concurrent call, replayed before this one, had changed the key later than this one
            self._changes.apply(change)
            self.on_context_change(change)
            if change.value is None:
                context.pop(change.key, None)
            else:
                context[change.key] = restore_change(change, self._find)

    def hand_over(self, known: HistoryNode) -> tuple[list[CallRecord], dict[str, bytes]]:
        """Return what a worker needs to resume a recorded call, which runs again there with the calls below it.

        Nothing waits any more for those to be replayed here.

        Returns:
            The record of the call, which is open, and those of the calls below; and the large values in them.
        """
        record = known.record
        assert record is not None
        below = _calls_below(known, record)
        self._order.release(below)
        values: dict[str, bytes] = {}
        for digest in digests_of(below):
            with suppress(ValueError):  # the worker runs again what needs it
                values[digest] = self._find(digest)
        return [reopened(record), *below], values

    def give_back(self, known: HistoryNode) -> None:
        """Note that nothing has come back of what was handed over for a recorded call: its worker was lost.

        If the call is tried again, the calls below are those of the next try.
        """
        self._given_back[id(known)] = known

    def find(self, digest: str) -> bytes:
        """Return a large value of the history. Blocks. Raises ValueError if there is none."""
        return self._find(digest)

    def left_out(self) -> list[CallRecord]:
        """Return the top-level calls that had completed, and in whose place no call was made.

        What a call below these makes is its own affair: it has run again, and may have taken another way. So it is not
        counted.
        """
        recorded = (child.record for child in self._root.children() if not (child.is_taken or child.is_linked))
        return [
            record
            for record in recorded
            if record is not None and record.status is Status.COMPLETED and base_of(record)[0] not in _REPEATABLE
        ]

    def warn_at_end(self, status: Status) -> None:
        """Warn of what the session made of the history, if it may be something else than was meant. Idempotent.

        Args:
            status: How the session has ended.
        """
        self._code_changes.warn(self._log)
        self._reruns.warn(self._log, self._state.caller)
        if status is Status.FAILED:
            self._warn_of_failures()

    def _warn_of_failures(self) -> None:
        """Warn that the session, which has failed, saw recorded failures again. They may be why."""
        if self._failures and not self._root.attempt.is_left:
            names = ", ".join(name if count == 1 else f"{name} ({count})" for name, count in self._failures.items())
            self._log.log(
                logging.WARNING,
                "The run failed again, and failures that it had handled before were replayed: %s. To try such calls "
                "again, use @rt.function_node(retry_on_resume=True)",
                names, logger=SESSION,
            )  # fmt: skip

    def _warn_of_order(self, known: CallRecord, missing: CallRecord) -> None:
        if not self._has_warned_of_order:
            self._has_warned_of_order = True
            self._log.log(
                logging.WARNING,
                "The call of %s is replayed before that of %s, which had ended first, as that was not made again; what "
                "depends on the order may differ",
                known.name, missing.name, logger=SESSION,
            )  # fmt: skip


def _calls_below(known: HistoryNode, record: CallRecord) -> list[CallRecord]:
    """Return the recorded calls below a call, in the order in which they are found again.

    Of equal calls that several tries of it have made, those come first that had come furthest.
    """
    tries = [*known.records]
    if len(tries) == 1:
        return [*known.attempt.descendants(record)]
    found: list[tuple[int, list[CallRecord]]] = []
    for each in tries:
        for child in known.attempt.children(each):
            copy = child if each is record else copy_record(child, parent=record.index)
            found.append((_PROGRESS.get(child.status, 1), [copy, *known.attempt.descendants(child)]))
    found.sort(key=lambda pair: pair[0])
    return [call for _, calls in found for call in calls]
