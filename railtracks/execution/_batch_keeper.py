"""What stays on record of a batch that keeps few records, and which of its items a resumed run does not do again.

A call stands for the batch. Its items are made below it with records that stand beside those of the session
(``state/_item_records.py``), and are dropped when they have ended, unless they have to stay. What is known of all items
is an attribute of that call (``state/_batch_summary.py``).
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import Any, Literal

from railtracks._resume._batches import furthest_batch
from railtracks.exceptions import StateError
from railtracks.execution._call_lines import described, one_line
from railtracks.execution._coordinator import Frame
from railtracks.nodes import FunctionNode
from railtracks.nodes._code import has_changed
from railtracks.state import Status
from railtracks.state._batch_summary import BATCH, MAX_FAILURES, BatchSummary, Ended
from railtracks.state._item_records import Item, ItemRecord, ItemRecords, copies_of
from railtracks.state._serialization._large_values import discard
from railtracks.state._serialization._plain_data import cut_text
from railtracks.state._serialization._record_text import dumps, form_in, inputs_text, is_lossy
from railtracks.state._serialization._shown_arguments import shown_arguments

Keep = Literal["failures", "summary"]
_COMPLETED = Status.COMPLETED
REFRESH_AFTER = 0.25
"""Seconds after which the attribute says again what is known."""
_MAX_TEXT = 500
"""The number of characters of what is said of a failure."""


class BatchKeeper:
    """Decides what stays on record of the items of one batch. Made in the call that stands for it.

    Args:
        frame: The frame of that call.
        node: The node that it calls.
        keep_records: "failures" or "summary".
        returns: Whether exceptions of items are returned, and do not end the batch.

    Attributes:
        summary: What is known of the items.
        skipped: The number of items that are not done again.
    """

    def __init__(self, frame: Frame, node: FunctionNode[..., Any], keep_records: Keep, returns: bool) -> None:
        assert frame.record is not None
        self._frame, self._record = frame, frame.record
        # Within an item of another batch, what is kept belongs to that item.
        self._outer: Item | None = frame.record.item if isinstance(frame.record, ItemRecord) else None
        self._origin = frame.coordinator.origin
        self._node = node
        self._coordinator = frame.coordinator
        self._state = self._coordinator.state
        if self._state.items is None:  # an empty one counts its indices on, so that no two calls have the same one
            self._state.items = ItemRecords()
        self._recorder = None if self._outer is not None else self._coordinator.recorder
        self._keeps_failures = keep_records == "failures"
        self._returns = returns
        known = self._known_summary()
        self.summary: BatchSummary = known.for_another_attempt()
        self._done, self._kept = known.done, known.kept
        self._goes_on = bool(known.done.count or known.kept.count)
        self._left_out_before = self.summary.left_out
        self.skipped = 0
        self._checked: tuple[int, int, int | None] | None = None  # the range that items are being skipped of
        self._sum: int | None = 0  # of the digests of those items
        self._refreshed = self._coordinator.clock()
        if self._recorder is not None:
            self._recorder.batches[self._record.index] = self._refresh
        self._write()

    def _known_summary(self) -> BatchSummary:
        """Return what an earlier attempt knew of the items: the one that has most of them done."""
        history_node = self._frame.history_node
        best, furthest = furthest_batch(() if history_node is None else history_node.records)
        code = None if furthest is None else furthest.code
        policy = self._coordinator.config.code_changes
        if policy == "ignore" or not has_changed(code, self._node.code):
            return best
        if policy == "rerun":
            return BatchSummary()
        self._coordinator.log.log(
            logging.WARNING,
            "The code of %s has changed since %d items of the batch had completed, which are not done again. To do "
            'them again, use code_changes="rerun"; if the change does not matter, use code_changes="ignore"',
            self._node.name, best.done.count, run_id=self._frame.run_id, node_id=self._frame.node_id,
        )  # fmt: skip
        return best

    def slot(self) -> Frame:
        """Return a frame for one worker, in which it makes one call after another; see ``begin``."""
        known = self._record
        record = ItemRecord(
            known.index, known.parent, known.run, known.name, known.node_type, (), {}, known.started_step, known.started
        )
        return Frame(self._coordinator, record, self._frame.run, self._frame.task)

    def begin(self, slot: Frame, position: int, args: tuple[Any, ...]) -> Frame | None:
        """Begin an item: return the frame to make its call in; None if it has completed in an earlier attempt.

        Positions come in their order, from 0.

        Args:
            slot: What ``slot`` returned, for one call at a time.
            position: The position of the item.
            args: The arguments.

        Raises:
            StateError: The items that have been skipped are not those that had completed.
        """
        digest = None if self._recorder is None else self._digest(position, args)
        if self._goes_on:
            found = self._done.find(position)
            if found is not None:
                self._skip(position, found, digest)
                return None
            if self._kept.find(position) is not None:  # it is on record, as other calls are
                return self._frame
        assert isinstance(slot.record, ItemRecord)
        slot.record.item = Item(self, position, digest)
        return slot

    def note_kept(self, has_failed: bool) -> None:
        """Count an item that was on record, and whose call has ended again."""
        status = Status.FAILED if has_failed else Status.COMPLETED
        self.summary.ended[status] = self.summary.ended.get(status, 0) + 1

    def _digest(self, position: int, args: tuple[Any, ...]) -> int | None:
        node, coordinator = self._node, self._coordinator
        if node.ignore:
            args, _ = node.without_ignored(args, {})
        text = inputs_text(
            args, {}, coordinator.redactor, node.secret_positions, coordinator.config.max_value_bytes, discard
        )
        if is_lossy(form_in(text)):
            return None
        return int.from_bytes(blake2b(f"{position}\n{text}".encode(), digest_size=8).digest(), "big")

    def _skip(self, position: int, found: tuple[int, int, int | None], digest: int | None) -> None:
        if not self.skipped:
            self._coordinator.log.log(
                logging.INFO, "%s goes on: %d of its items had completed and are not done again, and their results are "
                "not on record", self._record.name, self._done.count,
                run_id=self._frame.run_id, node_id=self._frame.node_id,
            )  # fmt: skip
        self.skipped += 1
        if found != self._checked:
            self._checked, self._sum = found, 0
        self._sum = None if self._sum is None or digest is None else (self._sum + digest) % (1 << 64)
        start, stop, recorded = found
        if position == stop - 1 and None not in (recorded, self._sum) and recorded != self._sum:
            raise StateError(
                f"{self._record.name}: its items {start} to {stop - 1} are not those that had completed in the run "
                f"that is resumed; pass the same items in the same order, or begin a new run"
            )

    def end(self, slot: Frame) -> None:
        """Note that the node of an item is not called again. ``slot``: what ``begin`` returned."""
        assert slot.record is not None
        item: Item = slot.record.item  # type: ignore[attr-defined]
        item.is_over = True
        if item.records and not item.open:
            self.on_item_ended(item)

    def on_item_ended(self, item: Item) -> None:
        """Note that no call of an item is open; if it is over, drop or keep their records."""
        if not item.is_over:
            return
        items = self._state.items
        assert items is not None
        records, first = item.records, item.records[0]
        if self._recorder is None and len(records) == 1 and first.status is _COMPLETED and not first.changes:
            assert first.ended is not None  # the case in which the time counts
            if not item.is_closed:
                self.summary.add_completed(item.position, first.ended - first.started)
                item.is_closed = True
            if first.ended - self._origin - self._refreshed >= REFRESH_AFTER:
                self._refresh()
            items.drop_one(first)
            item.records = []
            return
        last = next((each for each in reversed(records) if each.parent == self._record.index), first)
        if item.is_closed:  # a task that it had left made another call
            self.summary.left_out += len(records)
        else:
            item.is_closed = True
            if self._close(item, first, last) and self._outer is not None:
                self._outer.records += records
                return
            if self._outer is not None:
                self._outer.dropped += len(records) + item.dropped
        items.drop(item)
        passes_on = not self._returns and last.status is Status.FAILED
        self._coordinator.call_log.drop([each.index for each in records], self._record.index if passes_on else None)
        item.records = []

    def _close(self, item: Item, first: ItemRecord, last: ItemRecord) -> bool:
        """Record that an item has ended. Return whether its records are kept.

        Args:
            item: The item.
            first: The call of its node.
            last: The last one, if it was tried again.
        """
        assert last.ended is not None
        is_failure = last.status is not Status.COMPLETED
        kept = (self._keeps_failures and is_failure) or item.has_changes
        error = self._error_of(last) if last.status is Status.FAILED else None
        ended = Ended(
            item.position,
            last.status,
            last.ended - first.started,
            len(item.records) + item.dropped,
            kept,
            item.digest,
            error,
        )
        self.summary.add(ended)
        if self._recorder is not None:
            self._recorder.on_item(self._record, ended)
        if kept and self._outer is None:
            copies, events = copies_of(item.records, len(self._state.entries), self._state.step)
            self._state.add_ended(copies)
            if self._recorder is not None:
                self._recorder.on_kept(copies, events)
        if self._coordinator.clock() - self._refreshed >= REFRESH_AFTER:
            self._refresh()
        return kept

    def _error_of(self, record: ItemRecord) -> str | None:
        if self.summary.ended.get(Status.FAILED, 0) >= MAX_FAILURES or record.exception is None:
            return None
        redactor = self._coordinator.redactor
        shown = cut_text(shown_arguments(record.args, record.kwargs, redactor, self._node.secret_positions), _MAX_TEXT)
        return one_line(f"{record.name}({shown}): {cut_text(described(record.exception, redactor), _MAX_TEXT)}")

    def _refresh(self) -> None:
        """Set the attribute. A journal that is being written as a whole has it as it was, with what came since."""
        if self._recorder is None or not self._recorder.is_rewriting:
            self._record.attributes = dumps({BATCH: self.summary.data()})
            self._refreshed = self._coordinator.clock()

    def _write(self) -> None:
        self._record.attributes = dumps({BATCH: self.summary.data()})
        if self._recorder is not None:
            self._recorder.on_attributes(self._record)

    def finish(self) -> None:
        """Record what is known in the end, before the call of the batch ends."""
        if self._recorder is not None:
            self._recorder.batches.pop(self._record.index, None)
        if self._outer is None:
            self._coordinator.call_log.left_out += self.summary.left_out - self._left_out_before
        self._write()
