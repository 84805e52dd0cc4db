"""What came back from a worker becomes part of the session: records, context, broadcasts, log lines, output.

The calls that the worker made get the next indices and steps here, in the order in which they began and ended there.
Their times are those of the worker, unless these cannot be: the clocks of two machines may differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from railtracks._context_variable import on_replayed, token_budgets
from railtracks._identifiers import node_id, run_id
from railtracks.exceptions import TransferError
from railtracks.execution._home import CallFrame, Home
from railtracks.execution._outbox import Item
from railtracks.execution._remote._off_loop import unpack
from railtracks.execution._remote._order import Report
from railtracks.execution._remote._rows import LoadedItemRecord, records_of
from railtracks.executors._pickling import loads
from railtracks.state import Broadcast, CallRecord, Reason, Status
from railtracks.state._records import DELETED, Read, is_reused
from railtracks.state._serialization._loaded_record import LoadedRecord

_END_FIELDS = ("status", "ended_step", "ended", "reason", "exception", "output", "raised_by", "timeout", "abandoned")


class Arrival:
    """The arrival of one report.

    Args:
        frame: The frame of the call that was sent.
        report: What came back.
        is_packed: Whether values are bytes, and the context here was not changed yet.
        warned: What workers have warned of before, which is not repeated.
    """

    def __init__(self, frame: CallFrame, report: Report, is_packed: bool, warned: set[str] | None = None) -> None:
        assert frame.record is not None
        self._coordinator: Home = frame.coordinator
        self._root: CallRecord = frame.record
        self._report = report
        self._is_packed = is_packed
        self._warned = set() if warned is None else warned
        self._records: list[CallRecord] = records_of(
            report.rows, LoadedItemRecord if frame.record.is_item else LoadedRecord
        )
        self._here: dict[int, CallRecord] = {0: frame.record}  # by the index there
        self._ends: dict[int, dict[str, Any]] = {}
        self._branches: dict[int, int] = {}
        self._loss: TransferError | None = None
        self._interruption: BaseException | None = None
        now = self._coordinator.now()
        is_possible = frame.record.started <= report.started and report.ended_at <= now
        self._shift = 0.0 if is_possible else frame.record.started - report.started

    async def take_in(self) -> None:
        """Make it part of the session. Cancellation: raised when that is done.

        Raises:
            TransferError: A value that the call has put into the context, or broadcast, cannot be brought back.
        """
        coordinator, report = self._coordinator, self._report
        if not self._records:
            return
        for text in report.secrets:
            coordinator.redactor.add(text)
        if coordinator.limits is not None:
            coordinator.limits.calls += report.calls
        self._take_reads(self._root, self._records[0].reads)
        waiting = [*report.items]
        waiting.reverse()
        for step, index, is_end in self._transitions():
            while waiting and waiting[-1].step <= step:
                await self._take_item(waiting.pop())
            if is_end:
                self._end(index)
            else:
                self._create(index)
        while waiting:
            await self._take_item(waiting.pop())
        notify = on_replayed.get()
        if notify is not None and len(self._here) > 1:
            notify(coordinator.session_id, list(self._here.values()))
        for budget in dict.fromkeys(token_budgets.get()):  # one may have been entered twice
            budget.count_records(self._here.values())
        if self._interruption is not None:
            raise self._interruption
        if self._loss is not None:
            raise self._loss

    @property
    def raised_by(self) -> tuple[int, ...] | None:
        """The calls here whose exceptions the call has failed with."""
        there = self._records[0].raised_by if self._records else None
        return None if there is None else tuple(self._here[each].index for each in there if each in self._here)

    def call_of(self, index: int | None) -> CallRecord:
        """Return the record of a call, by its index there; that of the call that was sent if it is not known."""
        return self._here.get(0 if index is None else index, self._root)

    @property
    def attributes(self) -> str | None:
        """What the call has said of itself there."""
        return self._records[0].attributes if self._records else None

    # ---- calls

    def _transitions(self) -> list[tuple[int, int, bool]]:
        found: list[tuple[int, int, bool]] = []
        last = 1 + max((each.ended_step or each.started_step for each in self._records), default=0)
        for record in self._records[1:]:
            found.append((record.started_step, record.index, False))
            found.append((last if record.ended_step is None else record.ended_step, record.index, True))
        return sorted(found)

    def _create(self, index: int) -> None:
        coordinator, record = self._coordinator, self._records[index]
        self._ends[index] = {name: getattr(record, name) for name in _END_FIELDS}
        self._ends[index]["changes"] = record.changes
        reads = record.reads
        record.status, record.ended_step, record.ended, record.reason = Status.OPEN, None, None, None
        record.exception = record.output = record.raised_by = record.timeout = record.changes = record.reads = None
        record.abandoned = False
        record.result = None
        assert record.parent is not None
        caller = self._here[record.parent]
        coordinator.state.adopted(record, caller, record.started + self._shift)
        if record.branch is not None:
            record.branch = coordinator.branches.renumbered(record.branch, self._branches)
        self._here[index] = record
        if coordinator.recorder is not None:
            coordinator.recorder.on_brought_home(record)
        self._take_reads(record, reads)
        coordinator.call_log.brought_home(record, caller)

    def _end(self, index: int) -> None:
        coordinator, record, end = self._coordinator, self._here[index], self._ends.pop(index)
        state, status = coordinator.state, end["status"]
        if is_reused(record):
            self._repeat_changes(record, end["changes"])
        time = self._coordinator.now() if end["ended"] is None else end["ended"] + self._shift
        record.output, record.abandoned = end["output"], end["abandoned"]
        if end["raised_by"] is not None:
            record.raised_by = tuple(self._here[each].index for each in end["raised_by"])
        if status is Status.COMPLETED:
            state.succeeded(record, None, time)
            if isinstance(record, LoadedRecord):
                del record.result  # it is decoded when it is asked for
        elif status is Status.FAILED:
            state.failed(record, end["exception"], time)
            record.reason, record.timeout = end["reason"], end["timeout"]
        elif status is Status.SUSPENDED:
            state.suspended(record, time)
        else:
            state.cancelled(record, end["reason"] or Reason.OUTSIDE, time, end["timeout"])
        if coordinator.recorder is not None:
            coordinator.recorder.on_end_brought_home(record)
        coordinator.call_log.end_brought_home(record)

    def _take_reads(self, record: CallRecord, reads: Mapping[str, Read] | None) -> None:
        if reads and self._coordinator.recorder is not None:
            self._coordinator.recorder.context.on_reads_brought_home(record, reads, self._root)

    def _repeat_changes(self, record: CallRecord, changes: Sequence[Any] | None) -> None:
        """Make the changes of a call that was replayed in the worker here, too."""
        if not changes:
            return
        from railtracks._resume._matching import restore_change  # here, as few sessions resume a run

        assert self._coordinator.recorder is not None
        find = self._coordinator.recorder.find_recorded
        for change in changes:
            value = DELETED if change.value is None else restore_change(change, find)
            self._change(record, change.key, value)

    # ---- what else has happened

    async def _take_item(self, item: Item) -> None:
        record = self.call_of(item.call)
        if item.kind == "log":
            self._log(record, *item.data)
            return
        if item.kind == "warning":
            what, *line = item.data
            if what not in self._warned:
                self._warned.add(what)
                self._log(record, *line)
            return
        key, *packed = item.data if item.kind == "change" else (None, *item.data)
        try:
            values = [await self._unpacked(each) if self._is_packed else each for each in packed]
        except Exception as exc:  # what its class raises; the rest is taken in all the same
            what = f"the value of {key!r} in the context" if item.kind == "change" else "what was broadcast"
            self._note_loss(f"{what}, in {record.name}", exc)
            return
        if item.kind == "change":
            self._change(record, key, values[0] if values else DELETED)
        else:
            await self._broadcast(record, values[0], item.time + self._shift)

    async def _unpacked(self, data: bytes) -> Any:
        load = partial(loads, data)
        try:
            return await unpack(len(data), load)
        except Exception:
            raise
        except BaseException as exc:  # a cancellation: what has happened is taken in all the same
            self._interruption = self._interruption or exc
            return load()

    def _note_loss(self, what: str, exc: Exception) -> None:
        if self._loss is None:
            self._loss = TransferError(
                f"{what} came back from a worker, but cannot be unpickled here: {type(exc).__name__}: {exc}"
            )
            self._loss.__cause__ = exc

    def _change(self, record: CallRecord, key: str, value: Any) -> None:
        coordinator = self._coordinator
        if self._is_packed and value is DELETED:
            coordinator.context.pop(key, None)
        elif self._is_packed:
            coordinator.context[key] = value
        coordinator.record_context_change(record, key, value)

    def _log(self, record: CallRecord, level: int, text: str, logger: str, must_be_seen: bool) -> None:
        session = self._coordinator.session_id
        self._coordinator.log.log(
            level, "%s", text, logger=logging.getLogger(logger), must_be_seen=must_be_seen,
            run_id=run_id(session, record.run), node_id=node_id(session, record.index),
        )  # fmt: skip

    async def _broadcast(self, record: CallRecord, item: Any, time: float) -> None:
        coordinator = self._coordinator
        if self._interruption is None:
            try:
                await coordinator.publisher.wait_for_room(Broadcast)
            except BaseException as exc:  # a cancellation: what has happened is taken in all the same
                self._interruption = exc
        coordinator.call_log.broadcast(record, item, time)
