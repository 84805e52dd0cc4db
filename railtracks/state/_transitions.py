"""RTState: the records of one session, and the only code that changes their status.

It does no I/O and knows no event loop. Its methods are named after the transitions in this table:

    (none)  --created-->  OPEN  --succeeded-->  COMPLETED
                                --failed----->  FAILED
                                --cancelled-->  CANCELLED
                                --suspended-->  SUSPENDED

All others raise StateError. While the session is being suspended, each call that ends, however it ends, is suspended:
what its code does while it is unwound is not an outcome of the run. Every transition takes the next step, so steps are
contiguous from 0.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from railtracks.exceptions import StateError
from railtracks.state._call_tree import Descendants
from railtracks.state._records import (
    FIRST_ITEM_INDEX,
    NO_KWARGS,
    REUSED,
    CallRecord,
    Reason,
    Status,
    aggregate_status,
    copy_record,
)
from railtracks.state._replayed_calls import ReplayedCalls, Snapshot
from railtracks.state._shared_texts import set_output, stored_output

if TYPE_CHECKING:  # loaded by few programs
    from railtracks.state._item_records import ItemRecords

OPEN = Status.OPEN
COMPLETED = Status.COMPLETED


class RTState:
    """The records of one session, in the order of creation.

    Attributes:
        entries: The records; None in place of each that belongs to a replayed call and was not made yet.
        step: The step that the next transition takes.
        items: The records of the items of batches that keep few, while these run; None if there was none yet.
        is_suspending: Whether calls that end are suspended.
    """

    __slots__ = ("_guard", "_replayed", "_root_calls", "entries", "is_suspending", "items", "step")

    def __init__(self) -> None:
        self.is_suspending: bool = False
        self.entries: list[CallRecord | None] = []
        self.items: ItemRecords | None = None
        self.step: int = 0
        self._root_calls: list[CallRecord] = []
        self._replayed: list[ReplayedCalls] = []
        self._guard = threading.Lock()  # of the records that are made

    @property
    def records(self) -> list[CallRecord]:
        """The records. If calls were replayed with very many calls below them, this makes the records of those."""
        if self._replayed:
            with self._guard:
                replayed = [*self._replayed]
                for each in replayed:
                    self.entries[each.first : each.first + len(each.below)] = each.copies
                del self._replayed[: len(replayed)]
        return self.entries  # type: ignore[return-value]

    def caller(self, record: CallRecord) -> CallRecord | None:
        """Return the call that made a call; None for a top-level call."""
        parent = record.parent
        if parent is None:
            return None
        if parent >= FIRST_ITEM_INDEX:
            return self.entry(parent)
        return self.entries[parent] or self.records[parent]

    def entry(self, index: int) -> CallRecord | None:
        """Return the record with an index; None if it was not made yet, or was dropped."""
        if index < FIRST_ITEM_INDEX:
            return self.entries[index]
        return None if self.items is None else self.items.get(index)

    def has(self, record: Any) -> bool:
        """Return whether a record is one of these, and not of another session."""
        index = record.index
        return self.entry(index) is record if index >= FIRST_ITEM_INDEX or index < len(self.entries) else False

    def is_within(self, record: CallRecord, caller: CallRecord) -> bool:
        """Return whether a call is ``caller``, or was made by it or by one below it."""
        each: CallRecord | None = record
        while each is not None and each is not caller:
            each = self.caller(each)
        return each is not None

    @property
    def status(self) -> Status:
        """The status of the top-level call that is furthest from completion; COMPLETED if there are none."""
        return aggregate_status(self._root_calls)

    def created(
        self,
        name: str,
        node_type: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parent: CallRecord | None,
        now: float,
    ) -> CallRecord:
        """Record that a call was made, and return its record. ``now`` is in seconds since the epoch."""
        if self.items is not None and parent is not None and parent.is_item:  # in this order, as it takes no time
            return self.items.created(name, node_type, args, kwargs, parent, now)  # type: ignore[arg-type]
        step = self.step
        self.step = step + 1
        entries = self.entries
        index = len(entries)
        if parent is None:
            record = CallRecord(index, None, index, name, node_type, args, kwargs or NO_KWARGS, step, now)
            self._root_calls.append(record)
        else:
            record = CallRecord(index, parent.index, parent.run, name, node_type, args, kwargs or NO_KWARGS, step, now)
        entries.append(record)
        return record

    def adopted(self, record: CallRecord, caller: CallRecord, now: float) -> None:
        """Record that a call was made in a worker, which has made its record, too.

        Args:
            record: The record, which is open. It gets its index and its step. Below a call of an item, it is of that
                kind.
            caller: The record of the call that made it.
            now: When it was made, in seconds since the epoch.
        """
        if self.items is not None and record.is_item:
            self.items.adopted(record, caller, now)  # type: ignore[arg-type]
            return
        record.index, record.parent, record.run = len(self.entries), caller.index, caller.run
        record.started_step, record.started = self.step, now
        self.step += 1
        self.entries.append(record)

    def succeeded(self, record: CallRecord, result: Any, now: float) -> None:
        """Record that the call returned ``result``, which may be None."""
        if record.status is not OPEN:
            raise _illegal(record, COMPLETED)
        if self.is_suspending:
            self.suspended(record, now)
            return
        record.status = COMPLETED
        record.result = result
        record.ended = now
        if self.items is not None and record.is_item:
            record.ended_step = self.items.ended(record)  # type: ignore[arg-type]
            return
        record.ended_step = self.step
        self.step += 1

    def failed(self, record: CallRecord, exception: BaseException, now: float) -> None:
        """Record that the call raised ``exception``."""
        if self.is_suspending:
            self.suspended(record, now)
            return
        self._end(record, Status.FAILED, now)
        record.exception = exception

    def cancelled(self, record: CallRecord, reason: Reason, now: float, timeout: float | None = None) -> None:
        """Record that the call was cancelled. ``timeout``: the limit that it exceeded, if it is a top-level call."""
        if self.is_suspending:
            self.suspended(record, now)
            return
        self._end(record, Status.CANCELLED, now)
        record.reason = reason
        record.timeout = timeout

    def suspended(self, record: CallRecord, now: float) -> None:
        """Record that the call was suspended."""
        self._end(record, Status.SUSPENDED, now)
        record.reason = Reason.SUSPENDED
        record.exception = record.timeout = None

    def abandoned(self, record: CallRecord) -> None:
        """Record that the call leaves its worker thread behind. This is not a transition; its cancellation follows."""
        if record.status is not OPEN:
            raise _illegal(record, Status.CANCELLED)
        record.abandoned = True

    def reused(
        self,
        record: CallRecord,
        known: CallRecord,
        below: Descendants,
        result: Any,
        orders: Sequence[int] = (),
    ) -> None:
        """Record that the call ended as a recorded one did, and add the descendants of that one as its own.

        The descendants are created and ended before the call ends. The call gets the times of ``known``. The records of
        the descendants are made when they are asked for, as there may be very many.

        Args:
            record: The call.
            known: The recorded call that it corresponds to.
            below: The descendants of ``known``, in the order of creation. All have ended.
            result: The result of the call, or its exception.
            orders: The new positions of the context changes of ``known`` and ``below``, in the order of ``changes_of``.
        """
        assert known.ended is not None
        if below or orders or known.changes:
            self._add_replayed(ReplayedCalls(record, known, below, len(self.entries), self.step, orders))
        record.started = known.started
        record.reuse, record.attributes = record.reuse or REUSED, known.attributes
        set_output(record, stored_output(known))
        record.reads = known.reads
        was_suspending, self.is_suspending = self.is_suspending, False  # what had ended stays as it was
        record.code, record.attempt, record.policy = known.code, known.attempt, known.policy
        if known.status is Status.FAILED:
            self.failed(record, result, known.ended)
        else:
            self.succeeded(record, result, known.ended)
        self.is_suspending = was_suspending

    def _add_replayed(self, replayed: ReplayedCalls) -> None:
        """Add the calls below a replayed one, and set what of it depends on them."""
        record, known, below = replayed.record, replayed.known, replayed.below
        if below:
            self._replayed.append(replayed)
            self.entries += [None] * len(below)
            self.step += below.steps
        if known.changes:
            record.changes = [*(record.changes or ()), *replayed.own_changes]
        if known.raised_by is not None:
            record.raised_by = replayed.new_indices(known.raised_by)

    def _end(self, record: CallRecord, status: Status, now: float) -> None:
        if record.status is not OPEN:
            raise _illegal(record, status)
        record.status = status
        record.ended = now
        if record.is_item:
            record.ended_step = self.items.ended(record)  # type: ignore[union-attr, arg-type]
            return
        record.ended_step = self.step
        self.step += 1

    def add_ended(self, records: Sequence[CallRecord]) -> None:
        """Add calls that have ended, with the indices and the steps that come next."""
        self.entries += records
        self.step += 2 * len(records)

    @property
    def have_all_ended(self) -> bool:
        """Whether no call is open. Each has taken two steps then, so no record needs to be read."""
        return self.step == 2 * len(self.entries) and not self.items

    def open_records(self) -> list[CallRecord]:
        """Return the records of the calls that are open."""
        if self.have_all_ended:
            return []
        return [record for record in self.live_entries() if record is not None and record.status is OPEN]

    def live_entries(self) -> list[CallRecord | None]:
        """Return the entries, and the records of items that run."""
        return [*self.entries, *self.items] if self.items else self.entries

    @property
    def open_calls(self) -> int:
        """The number of open calls, each of which has taken one of its two steps."""
        return 2 * len(self.entries) - self.step + (self.items.open if self.items else 0)

    def snapshot(self) -> tuple[CallRecord, ...]:
        """Return the records as they are now. Ended ones cannot change and are shared; open ones are copied."""
        return self.later_snapshot()()

    def later_snapshot(self) -> Snapshot:
        """Return what makes the records as they are now when it is called. See ``records``."""
        replayed = tuple(self._replayed)  # first, as another thread may make the records meanwhile
        entries = [*self.entries]
        for record in self.open_records():
            if record.is_item:
                continue
            entries[record.index] = copy_record(record, changes=record.changes and [*record.changes])
        return Snapshot(entries, replayed)


def _illegal(record: CallRecord, status: Status) -> StateError:
    return StateError(f"call {record.index} ({record.name}) is {record.status.value}; it cannot become {status.value}")
